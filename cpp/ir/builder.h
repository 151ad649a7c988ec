#pragma once

#include <initializer_list>
#include <memory>
#include <optional>
#include <unordered_set>
#include <vector>

#include "ir/trace.h"
#include "support/error.h"

namespace fulmen {

// Records bound symbols. While one lives it is its thread's current builder, into which symbols
// called as functions record; builders nest.
class Builder {
 public:
  explicit Builder(std::shared_ptr<TraceContext> ctx);
  ~Builder();
  Builder(const Builder&) = delete;
  Builder& operator=(const Builder&) = delete;

  // Throws InternalError when this thread records nothing.
  static Builder& current();
  static Builder* current_or_null();

  TraceContext& ctx() { return *ctx_; }
  const std::shared_ptr<TraceContext>& shared_ctx() const { return ctx_; }
  Arena& arena() { return ctx_->arena(); }

  // Records `symbol` on bound arguments (one per parameter) and returns its output. Throws
  // UserError where eager raises, Unsupported where the row does not cover the call.
  Arg call(const Symbol& symbol, std::span<const Arg> args);
  // The output that `call` would return, with nothing recorded.
  Arg infer(const Symbol& symbol, std::span<const Arg> args);
  void append(const BoundSymbol* bsym) { body_.push_back(bsym); }

  std::vector<const BoundSymbol*>& body() { return body_; }

  // Ambient state of the traced program.
  bool grad_enabled = true;
  bool inference_mode = false;
  DType default_dtype = DType::kFloat32;
  Device default_device;
  const SourceLine* source = nullptr;

  // Whether one of `args` got a graph after it was made: see Note [Late graphs].
  bool has_late_graph(std::span<const Arg> args) const;

 private:
  // Note [Late graphs]
  // A write in grad mode gives a storage a graph, which tensors that were made before share: the
  // base of the written view and its other views, but not what was detached from them. Their types
  // say what was true when they were made; results of later calls are asked here.
  void note_graphs(const Symbol& symbol, const Arg& output);

  std::shared_ptr<TraceContext> ctx_;
  std::vector<const BoundSymbol*> body_;
  std::unordered_set<const Proxy*> late_graphs_;  // storages
  std::unordered_set<const Proxy*> detached_;     // views
  DimScope dim_scope_;
  Builder* outer_;
};

// A call on its way: typed access to the bound arguments, by parameter name, and the constructors
// of results. Accessors throw InternalError for a name that the schema lacks.
class Call {
 public:
  Call(const Symbol& symbol, std::span<const Arg> args, Builder& builder)
      : symbol_(symbol), args_(args), builder_(builder) {}

  const Symbol& symbol() const { return symbol_; }
  Builder& builder() { return builder_; }
  size_t size() const { return args_.size(); }
  std::span<const Arg> args() const { return args_; }
  const Arg& operator[](size_t i) const { return args_[i]; }
  const Arg& operator[](std::string_view param) const;
  bool has(std::string_view param) const { return !(*this)[param].is_none(); }

  const TensorProxy& tensor(std::string_view param) const;
  const TensorProxy* opt_tensor(std::string_view param) const;  // null for None
  const TensorType& type(std::string_view param) const { return tensor(param).type; }
  bool flag(std::string_view param) const { return (*this)[param].boolean(); }
  int64_t integer(std::string_view param) const;
  std::optional<int64_t> opt_integer(std::string_view param) const;
  double real(std::string_view param) const;  // int, float or bool
  std::string_view text(std::string_view param) const { return (*this)[param].text(); }
  std::optional<DType> dtype(std::string_view param) const;
  std::optional<Device> device(std::string_view param) const;
  // A list of integers; a single integer gives a list of one, None an empty list.
  SmallVec<int64_t, 6> integers(std::string_view param) const;
  // As `integers`, a single element repeated to n.
  SmallVec<int64_t, 6> integers(std::string_view param, size_t n) const;
  Dims dims(std::string_view param) const;
  SmallVec<const TensorProxy*, 8> tensors(std::string_view param) const;

  // A fresh tensor as result.
  Arg make(TensorType type);
  // A tensor that shares `base`'s storage; dtype and device are taken from `type`.
  Arg make_view(TensorType type, const TensorProxy& base);
  Arg tuple(std::initializer_list<Arg> items);
  Arg tuple(std::span<const Arg> items);
  Arg list(std::span<const Arg> items);
  Arg ints(std::span<const int64_t> values);
  Arg dims_arg(std::span<const Dim> values);

  // Raises the user's error: `add(): ` and the message, with the source line appended.
  template <class... Parts>
  [[noreturn]] void fail(ErrorKind kind, std::string_view id, const Parts&... parts) const {
    raise(kind, id, cat(parts...));
  }
  // Leaves the call to the universal fallback.
  template <class... Parts>
  [[noreturn]] void unsupported(const Parts&... parts) const {
    throw Unsupported(cat(symbol_.name(), ": ", parts...));
  }

 private:
  [[noreturn]] void raise(ErrorKind kind, std::string_view id, std::string message) const;

  const Symbol& symbol_;
  std::span<const Arg> args_;
  Builder& builder_;
};

// `  [model.py:41 in forward]`, or nothing.
std::string source_suffix(const SourceLine* line);

// The decomposition of `bsym` one level down: bound symbols whose last results are `bsym`'s own
// output proxies. Empty when the symbol has none.
std::vector<const BoundSymbol*> subsymbols(const std::shared_ptr<TraceContext>& ctx,
                                           const BoundSymbol& bsym);

}  // namespace fulmen
