#include "ir/builder.h"

#include "ir/rewrite.h"

namespace fulmen {
namespace {

thread_local Builder* current_builder = nullptr;

// Results are fresh proxies of this call, so this is the one place that may still write them.
void set_requires_grad(const Arg& output) {
  for_each_proxy(output, [](const Proxy* p) {
    auto* t = const_cast<TensorProxy*>(as_tensor(p));
    if (t && is_differentiable(t->type.dtype)) t->type.requires_grad = true;
  });
}

bool any_inference(std::span<const Arg> args, const Proxy* wanted = nullptr) {
  bool found = false;
  for (const Arg& a : args) {
    for_each_proxy(a, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      found = found || (wanted ? p == wanted : t && t->is_inference);
    });
  }
  return found;
}

// A view, and the result of a write, is what its base is.
void set_is_inference(const Arg& output, std::span<const Arg> args, bool inference_mode) {
  if (!inference_mode && !any_inference(args)) return;
  for_each_proxy(output, [&](const Proxy* p) {
    auto* t = const_cast<TensorProxy*>(as_tensor(p));
    if (!t || any_inference(args, p)) return;
    t->is_inference = t->alias_of ? t->alias_of->is_inference : inference_mode;
  });
}

bool is_argument(std::span<const Arg> args, const Arg& output) {
  for (const Arg& a : args) {
    if (a.is_proxy() && a.proxy() == output.proxy()) return true;
  }
  return false;
}

Arg run_rules(const Symbol& s, Call& call) {
  if (s.meta) return s.meta(call);
  if (s.info->rules) return s.info->rules->meta(call);
  if (s.decompose) {
    Builder scratch(call.builder().shared_ctx());
    scratch.grad_enabled = call.builder().grad_enabled;
    scratch.inference_mode = call.builder().inference_mode;
    scratch.default_dtype = call.builder().default_dtype;
    scratch.default_device = call.builder().default_device;
    scratch.source = call.builder().source;
    return s.decompose(call);
  }
  internal_error(s.name(), " has neither a meta nor a decomposition");
}

}  // namespace

Arg SymbolRules::decompose(Call& in) {
  internal_error(in.symbol().name(), " has no decomposition");
}

Args SymbolRules::vjp(Call& in, const Arg&, const Arg&) {
  internal_error(in.symbol().name(), " has no vjp");
}

Builder::Builder(std::shared_ptr<TraceContext> ctx)
    : ctx_(std::move(ctx)), dim_scope_(ctx_->arena()), outer_(current_builder) {
  current_builder = this;
}

Builder::~Builder() { current_builder = outer_; }

Builder& Builder::current() {
  if (!current_builder) internal_error("no trace is being recorded on this thread");
  return *current_builder;
}

Builder* Builder::current_or_null() { return current_builder; }

Arg Builder::infer(const Symbol& symbol, std::span<const Arg> args) {
  Call call(symbol, args, *this);
  const Arg output = run_rules(symbol, call);
  // Eager returns the argument itself (contiguous() of a contiguous tensor): nothing to do.
  const bool fresh = !(output.is_proxy() && is_argument(args, output));
  const bool tracked = grad_enabled && !inference_mode;
  const auto sources = symbol.has(kOthersAreLike) ? args.first(1) : args;
  if (fresh && tracked && !symbol.has(kNonDifferentiable) &&
      (any_requires_grad(sources) || has_late_graph(sources))) {
    const bool first = symbol.has(kFirstDifferentiable) && output.is_sequence();
    set_requires_grad(first ? output.items()[0] : output);
  }
  if (fresh) set_is_inference(output, args, inference_mode);
  // A view requires grad as its base does, in every grad mode.
  if (fresh && !tracked && symbol.has(kView) && !symbol.has(kNonDifferentiable)) {
    for_each_proxy(output, [](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      if (t && t->alias_of && t->alias_of->type.requires_grad && is_differentiable(t->type.dtype)) {
        const_cast<TensorProxy*>(t)->type.requires_grad = true;
      }
    });
  }
  return output;
}

Arg Builder::call(const Symbol& symbol, std::span<const Arg> args) {
  const Arg output = infer(symbol, args);
  const bool identity = output.is_proxy() && is_argument(args, output);
  if (identity && !symbol.has(kEffect | kInplace)) return output;
  body_.push_back(ctx_->make_bound_symbol(symbol, args, output, source));
  note_graphs(symbol, output);
  return output;
}

void Builder::note_graphs(const Symbol& symbol, const Arg& output) {
  if (symbol.has(kInplace)) {
    const TensorProxy* t = output.is_proxy() ? output.tensor() : nullptr;
    if (t && t->type.requires_grad && t->alias_of && !t->alias_of->type.requires_grad) {
      late_graphs_.insert(storage_of(t));
    }
  } else if (symbol.has(kView) && (symbol.has(kNonDifferentiable) || !grad_enabled)) {
    for_each_proxy(output, [&](const Proxy* p) { detached_.insert(p); });
  }
}

bool Builder::has_late_graph(std::span<const Arg> args) const {
  if (late_graphs_.empty()) return false;
  bool found = false;
  for (const Arg& a : args) {
    for_each_proxy(a, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      if (!t || !is_differentiable(t->type.dtype) || !late_graphs_.contains(storage_of(t))) return;
      while (t->alias_of && !detached_.contains(t)) t = t->alias_of;
      found = found || !t->alias_of;
    });
  }
  return found;
}

Arg Symbol::record(std::span<const Arg> leading) const {
  Builder& b = Builder::current();
  Args bound;
  std::string why;
  if (!try_bind(info->schema, leading, {}, b.arena(), bound, &why)) {
    internal_error(name(), "(): ", why);
  }
  return b.call(*this, bound);
}

const Arg& Call::operator[](std::string_view param) const {
  const int i = symbol_.info->schema.index(param);
  if (i < 0) internal_error(symbol_.name(), " has no parameter ", param);
  return args_[i];
}

const TensorProxy& Call::tensor(std::string_view param) const {
  const TensorProxy* t = (*this)[param].tensor();
  if (!t) unsupported(param, " is not a tensor");
  return *t;
}

const TensorProxy* Call::opt_tensor(std::string_view param) const {
  return (*this)[param].tensor();
}

int64_t Call::integer(std::string_view param) const {
  const Arg& a = (*this)[param];
  if (a.kind() == Arg::Kind::kBool) return a.boolean();
  if (!a.is_int() && !a.is_number()) unsupported(param, " is not an integer");
  return a.dim().value();
}

std::optional<int64_t> Call::opt_integer(std::string_view param) const {
  if (!has(param)) return std::nullopt;
  return integer(param);
}

double Call::real(std::string_view param) const {
  const Arg& a = (*this)[param];
  switch (a.kind()) {
    case Arg::Kind::kFloat: return a.real();
    case Arg::Kind::kBool:
    case Arg::Kind::kInt: return static_cast<double>(a.integer());
    default: unsupported(param, " is not a constant real number");
  }
}

std::optional<DType> Call::dtype(std::string_view param) const {
  const Arg& a = (*this)[param];
  if (a.is_none()) return std::nullopt;
  return a.dtype();
}

std::optional<Device> Call::device(std::string_view param) const {
  const Arg& a = (*this)[param];
  if (a.is_none()) return std::nullopt;
  return a.device();
}

SmallVec<int64_t, 6> Call::integers(std::string_view param) const {
  SmallVec<int64_t, 6> out;
  for (const Dim d : dims(param)) out.push_back(d.value());
  return out;
}

SmallVec<int64_t, 6> Call::integers(std::string_view param, size_t n) const {
  SmallVec<int64_t, 6> out = integers(param);
  if (out.size() == 1) out.resize(n, int64_t{out[0]});
  return out;
}

Dims Call::dims(std::string_view param) const {
  const Arg& a = (*this)[param];
  if (a.is_none()) return {};
  if (!a.is_sequence()) return {a.dim()};
  Dims out;
  for (const Arg& item : a.items()) {
    if (!item.is_number()) unsupported(param, " is not a list of integers");
    out.push_back(item.dim());
  }
  return out;
}

SmallVec<const TensorProxy*, 8> Call::tensors(std::string_view param) const {
  SmallVec<const TensorProxy*, 8> out;
  for (const Arg& item : (*this)[param].items()) {
    if (!item.is_tensor()) unsupported(param, " is not a list of tensors");
    out.push_back(item.tensor());
  }
  return out;
}

Arg Call::make(TensorType type) {
  type.requires_grad = false;
  return builder_.ctx().make_tensor(std::move(type));
}

Arg Call::make_view(TensorType type, const TensorProxy& base) {
  // A view of a leaf that requires grad requires grad in every mode but no_grad.
  type.requires_grad = false;
  TensorProxy* t = builder_.ctx().make_tensor(std::move(type));
  t->alias_of = &base;
  return t;
}

Arg Call::tuple(std::initializer_list<Arg> items) {
  return tuple(std::span<const Arg>(items.begin(), items.size()));
}
Arg Call::tuple(std::span<const Arg> items) {
  return builder_.ctx().make_collection(Arg::Kind::kTuple, items);
}
Arg Call::list(std::span<const Arg> items) {
  return builder_.ctx().make_collection(Arg::Kind::kList, items);
}
Arg Call::ints(std::span<const int64_t> values) {
  Args items;
  for (const int64_t v : values) items.push_back(Arg(v));
  return list(items);
}
Arg Call::dims_arg(std::span<const Dim> values) {
  Args items;
  for (const Dim d : values) items.push_back(Arg(d));
  return list(items);
}

void Call::raise(ErrorKind kind, std::string_view id, std::string message) const {
  throw UserError(kind, id, cat(symbol_.name(), "(): ", message, source_suffix(builder_.source)));
}

std::string source_suffix(const SourceLine* line) {
  if (!line || line->file.empty()) return {};
  const size_t slash = line->file.rfind('/');
  const std::string_view file =
      slash == std::string_view::npos ? line->file : line->file.substr(slash + 1);
  std::string s = cat("  [", file, ":", line->line);
  if (!line->function.empty()) append(s, cat(" in ", line->function));
  append(s, ']');
  return s;
}

std::vector<const BoundSymbol*> subsymbols(const std::shared_ptr<TraceContext>& ctx,
                                           const BoundSymbol& bsym) {
  const Symbol& s = *bsym.symbol;
  const bool has_rules = s.info->rules && s.info->rules->has_decomposition();
  if (!s.decompose && !has_rules) return {};
  Builder builder(ctx);
  builder.source = bsym.source;
  // Whether results require grad is already known; see set_requires_grad.
  for_each_proxy(bsym.output, [&](const Proxy* p) {
    const TensorProxy* t = as_tensor(p);
    builder.grad_enabled = t && t->type.requires_grad;
  });
  Call call(s, bsym.args, builder);
  Arg out;
  try {
    out = s.decompose ? s.decompose(call) : s.info->rules->decompose(call);
  } catch (const Unsupported&) {
    return {};  // the decomposition does not cover this call
  }
  Substitution map;
  map.bind(out, bsym.output);
  std::vector<const BoundSymbol*> body;
  for (const BoundSymbol* inner : builder.body()) body.push_back(map.apply(*ctx, *inner));
  return body;
}

}  // namespace fulmen
