#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ir/schema.h"

namespace fulmen {

class Call;
struct BoundSymbol;
struct Symbol;

enum Tag : uint32_t {
  kPure = 1 << 0,       // no effect but its results; may be removed, merged, reordered
  kPointwise = 1 << 1,  // one output element depends on one element of each (broadcast) input
  kReduction = 1 << 2,
  kView = 1 << 3,     // the result may share storage with the first tensor argument
  kRandom = 1 << 4,   // draws from a generator: never merged, removed or reordered among its kind
  kEffect = 1 << 5,   // changes state outside its results (grad mode, a check): a barrier
  kInplace = 1 << 6,  // writes the parameters that the schema marks with `!`
  kNonDifferentiable = 1 << 7,  // results never require grad
  kOpaque = 1 << 8,             // run by calling PyTorch from Python; metadata from fake tensors
  kCreation = 1 << 9,           // makes a tensor from no tensor
  kFloatResult = 1 << 10,       // integer inputs give a result of the default dtype
  kMatmul = 1 << 11,            // costs are products, not memory
  // Of several results only the first has a gradient; the others are statistics and the like.
  kFirstDifferentiable = 1 << 12,
  // Of the other arguments only the metadata is read: the first one alone has a gradient.
  kOthersAreLike = 1 << 13,
  // The vjp reads the result where PyTorch's node keeps the operands: a result that others may
  // write to is computed again for it.
  kKeepsOperands = 1 << 14,
};

// The scalar operation that a fusion backend emits for a pointwise prim.
enum class Lane : uint8_t;

// Rules of a symbol that is defined at run time, by Python or a plug-in.
struct SymbolRules {
  virtual ~SymbolRules() = default;
  virtual Arg meta(Call& in) = 0;
  virtual bool has_decomposition() const { return false; }
  virtual Arg decompose(Call& in);
  // As Symbol::vjp.
  virtual bool has_vjp() const { return false; }
  virtual Args vjp(Call& in, const Arg& out, const Arg& grad);
};

// What the registry derives from a row.
struct SymbolInfo {
  uint32_t index = 0;
  Schema schema;
  std::vector<std::string> torch_names;  // the first one is printed
  const Symbol* functional = nullptr;    // of an in-place twin: the row that it was derived from
  const Symbol* inplace = nullptr;       // of a row: its in-place twin, if torch has one
  // The symbols that are tried before this one when its printed name is called.
  std::vector<const Symbol*> rivals;
  std::shared_ptr<SymbolRules> rules;  // run-time symbols only
};

// One operation, declared once as a `constinit const` row; see docs/add_an_op.md.
//
// A prim has `meta`, which computes the metadata of the results. A composite has `decompose`, and
// its meta is the decomposition run on types; it may have both where running the decomposition
// would be slow or would not give eager's strides.
struct Symbol {
  std::string_view schema;
  std::string_view torch =
      {};  // callables that are this operation, space-separated; the first prints
  uint32_t tags = 0;
  Arg (*meta)(Call& in) = nullptr;
  Arg (*decompose)(Call& in) = nullptr;
  // Gradients of the tensor parameters, one Arg per parameter of the schema (None: no gradient).
  // What it reads of `in` and `out` is what autodiff saves.
  Args (*vjp)(Call& in, const Arg& out, const Arg& grad) = nullptr;
  // Where neither `vjp` nor the decomposition is what autodiff should differentiate: the same call
  // in symbols with a vjp that also return what their backward reads (a mean, indices, a mask).
  Arg (*augmented)(Call& in) = nullptr;
  Lane lane = Lane{0};
  // The ATen call, when it is not the schema's name with the parameters in order:
  // `cross_entropy_loss(input, target, weight, reduction, ignore_index, label_smoothing)`.
  // Arguments are parameter names, literals, or `name ?? other` (a name or a literal, if None).
  // "-": none, runs by its decomposition or from Python.
  std::string_view aten = {};
  mutable const SymbolInfo* info = nullptr;  // set once, when the registry is built

  const std::string& name() const { return info->schema.name; }
  bool has(uint32_t tag) const { return (tags & tag) != 0; }

  // Records a call in the current Builder; missing arguments take their defaults.
  template <class... A>
  Arg operator()(const A&... args) const {
    const Arg leading[] = {Arg(args)..., Arg()};
    return record({leading, sizeof...(args)});
  }
  Arg record(std::span<const Arg> leading) const;
};

}  // namespace fulmen
