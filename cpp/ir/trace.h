#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "ir/proxy.h"
#include "ir/symbol.h"
#include "support/arena.h"

namespace fulmen {

// A line of the user's program, and the activation checkpoint that it runs in: 1, 2, … in the order
// in which they begin, 0 for none. See Note [Checkpoints].
struct SourceLine {
  std::string_view file;
  int line = 0;
  std::string_view function;
  int checkpoint = 0;

  friend bool operator==(const SourceLine&, const SourceLine&) = default;
};

// The use of a symbol on given arguments. Immutable; lives in the arena of its TraceContext.
struct BoundSymbol {
  const Symbol* symbol;
  std::span<const Arg> args;  // one per schema parameter
  Arg output;
  const SourceLine* source = nullptr;  // may be null
  std::string_view executor = {};      // who runs it, once claimed

  const Arg& arg(std::string_view param) const;
  int checkpoint() const { return source ? source->checkpoint : 0; }
};

class TraceContext;

// A program that a symbol runs as a part of itself. It is closed: it reads its inputs only.
struct Subprogram {
  TraceContext* ctx;  // which owns it
  std::string_view name;
  std::span<const Proxy* const> inputs;
  std::span<const BoundSymbol* const> body;
  Arg output;
};

struct Trace;

// Owns everything that the stages of one program share: proxies, bound symbols, names, constants.
class TraceContext : public std::enable_shared_from_this<TraceContext> {
 public:
  TraceContext() = default;
  TraceContext(const TraceContext&) = delete;
  TraceContext& operator=(const TraceContext&) = delete;
  ~TraceContext();

  Arena& arena() { return arena_; }

  // An unused name: `hint` itself, or `hint_1`, …; without a hint t0, t1, …. The hint is made a
  // valid Python identifier.
  std::string_view unique_name(std::string_view hint = {});

  TensorProxy* make_tensor(TensorType type, std::string_view name_hint = {});
  NumberProxy* make_number(NumberType type, Dim value, std::string_view name_hint = {});
  Proxy* make_proxy(ProxyKind kind, std::string_view name_hint = {});
  Dim make_symbolic_dim();
  // Makes s0 … s(count - 1) taken.
  void reserve_symbolic_dims(int64_t count);
  BoundSymbol* make_bound_symbol(const Symbol& symbol, std::span<const Arg> args, Arg output,
                                 const SourceLine* source);
  Arg make_collection(Arg::Kind kind, std::span<const Arg> items);
  // Copies name, inputs, body and output of `trace`, which is of this context; the name is made
  // unique.
  const Subprogram* make_program(const Trace& trace);
  Arg make_string(std::string_view text) { return Arg(arena_.copy(text)); }
  const SourceLine* make_source(const SourceLine& line);
  // Takes over one reference to `object`; `release` gives it back when the context dies.
  const Opaque* make_opaque(void* object, void (*release)(void*), std::string_view name_hint);
  const std::vector<const Opaque*>& opaques() const { return opaques_; }

 private:
  Arena arena_;
  std::unordered_set<std::string_view> names_;
  std::unordered_map<std::string_view, uint32_t> next_suffix_;
  uint32_t next_id_ = 0;
  uint32_t next_temporary_ = 0;
  uint32_t next_symbol_ = 0;
  std::vector<const Opaque*> opaques_;
  std::vector<std::pair<void*, void (*)(void*)>> owned_;
};

// A program: bound symbols in order. Value type; passes return new traces and never change one.
struct Trace {
  std::shared_ptr<TraceContext> ctx;
  std::string name = "computation";
  std::vector<const Proxy*> inputs;
  std::vector<const BoundSymbol*> body;
  Arg output;
  // Which stage made it, as the header comment of the printed trace says it.
  std::string provenance;
  // No in-place operation is left but the write-backs at the end. See Note [Write-backs].
  bool functional = false;
  // Inputs that share storage with each other, as acquisition saw it: one group per storage, two or
  // more inputs each. An input in no group shares storage with no other input.
  std::vector<std::vector<const Proxy*>> alias_groups;
};

// The subprogram as a trace of its own.
Trace to_trace(const Subprogram& program);

// Calls f(const Subprogram&) for every subprogram among the arguments of `body`, inner ones first.
template <class F>
void for_each_program(std::span<const BoundSymbol* const> body, F&& f) {
  for (const BoundSymbol* b : body) {
    for (const Arg& a : b->args) {
      if (a.kind() != Arg::Kind::kProgram) continue;
      for_each_program(a.program()->body, f);
      f(*a.program());
    }
  }
}

}  // namespace fulmen
