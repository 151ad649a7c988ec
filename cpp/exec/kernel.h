#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ir/trace.h"

namespace fulmen::passes {
struct FusionRules;
struct OwnGradient;
}  // namespace fulmen::passes

namespace fulmen::exec {

class Compilation;

// One runtime value: the bridge keeps a c10::IValue in it. All-zero bytes are "empty".
struct alignas(8) Slot {
  unsigned char bytes[16];
};

// One instruction of a program. `run` reads and writes slots; it is called without the GIL, from
// any thread, on different slots at once.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run(Slot* slots) const = 0;
};

using SlotOf = std::function<uint32_t(const Proxy*)>;

// A bound symbol that an executor is asked to run.
struct Offer {
  const std::shared_ptr<TraceContext>& ctx;
  const BoundSymbol& bsym;
  // Whether PyTorch's autograd must see what runs: it needs gradients, and no region gives them.
  bool under_autograd = false;
};

// A bound symbol in other symbols.
struct Form {
  Arg output;
  std::vector<const BoundSymbol*> body;
};

// Who can run a bound symbol, and how. See transform_for_execution.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual std::string_view name() const = 0;
  // Whether it may run such a symbol at all; if not, nobody asks why it refuses.
  virtual bool concerns(const Symbol&) const { return true; }
  // Empty if this executor runs the bound symbol, else why not.
  virtual std::string refusal(const Offer& offer) const = 0;
  // What it makes of a bound symbol that it does not refuse, before anybody compiles it; nothing
  // for one that it compiles as it is.
  virtual std::optional<Form> rewrite(const Offer&) const { return std::nullopt; }
  // The gradient that it has for one that it does not refuse, if that is its own.
  virtual std::optional<passes::OwnGradient> own_gradient(const Offer&) const;
  // How it makes regions, if it is a fusion executor.
  virtual std::unique_ptr<passes::FusionRules> fusion_rules(
      const std::shared_ptr<TraceContext>& ctx) const;
  bool is_fusion() const { return makes_regions_; }
  // Whether a program without it computes the same: bisection may leave it out.
  virtual bool is_optional() const { return true; }
  // `compilation`: that of the program, for what is compiled later.
  virtual std::unique_ptr<Kernel> compile(
      const BoundSymbol& bsym, const SlotOf& slot_of,
      const std::shared_ptr<const Compilation>& compilation) const = 0;

 protected:
  bool makes_regions_ = false;
};

// The only one that runs its symbols: it takes each of them, and no program does without it.
class SoleExecutor : public Executor {
 public:
  bool is_optional() const final { return false; }
  std::string refusal(const Offer&) const final { return {}; }
};

}  // namespace fulmen::exec
