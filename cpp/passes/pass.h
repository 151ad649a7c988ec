#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ir/trace.h"
#include "support/fuel.h"

namespace fulmen::passes {

struct FusionRules;

struct PassOptions {
  bool verify = true;
  bool paranoid = false;  // a pass that claims to have changed nothing must return an equal trace
  bool dump = false;      // print every changed trace to stderr
  std::vector<std::string> disabled;  // passes by name
  // How much of the memory that gradients would keep they may keep, from 0 to 1; negative: what is
  // cheap to compute again is not kept. See docs/autodiff.md.
  double memory_budget = -1;
  bool fused = false;  // generated kernels run what is pointwise
};

struct PassTiming {
  std::string_view pass;
  int64_t microseconds = 0;
  bool changed = false;
};

// Why a pass left something as it was.
struct PassNote {
  std::string_view pass;
  std::string text;
};

// What the passes of one compilation share.
struct PassContext {
  PassOptions options;
  std::shared_ptr<Fuel> fuel;            // for rewrites; null: any number may be made
  std::vector<Trace>* stages = nullptr;  // every changed trace is kept here
  const FusionRules* fusion = nullptr;   // of the fusion executor, if there is one
  // Gives what executors bring an own gradient for that gradient, if there are such executors.
  std::function<Trace(const Trace& trace, PassContext& ctx)> own_gradients;
  // Whether an executor runs a linear layer with the loss of its scores, and gains by it; null:
  // there is none.
  bool (*fuses_loss)(const TensorType& input, const TensorType& scores) = nullptr;
  std::string_view pass;  // which runs
  std::vector<PassTiming> timings;
  std::vector<PassNote> notes;

  // A pass asks before each rewrite, so that a wrong one can be found by bisection; it says of
  // which bound symbol.
  bool take_fuel(const BoundSymbol* of = nullptr);
  bool out_of_fuel() const { return fuel && fuel->empty(); }
  void note(std::string_view pass, std::string text) { notes.push_back({pass, std::move(text)}); }
};

// With the options that the flags table has.
PassContext context_from_flags();

enum class Needs : uint8_t { kAnyTrace, kFunctionalTrace };

// A step of the compiler. `run` never changes its input; it returns the same body, provenance
// included, when there was nothing to do.
struct Pass {
  std::string_view name;   // "dce", as flags name it
  std::string_view title;  // "Dead code elimination", as traces name it
  Trace (*run)(const Trace& trace, PassContext& ctx);
  Needs needs;
  std::string_view why;
};

// The one way to run a pass: time → run → if changed: provenance, keep the stage, verify → dump.
// A pass whose needs the trace does not meet, or that a flag disables, is skipped.
Trace run_pass(const Pass& pass, const Trace& trace, PassContext& ctx);

// "t3 = gelu(…)  [model.py:12 in forward]"
std::string describe(const BoundSymbol& bsym);

// "Constructed by Dead code elimination (took 12 microseconds)"
std::string provenance_text(std::string_view title, int64_t microseconds);

}  // namespace fulmen::passes
