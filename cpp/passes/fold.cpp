#include "passes/fold.h"

#include <cmath>
#include <unordered_map>

#include "ir/builder.h"
#include "ir/rewrite.h"
#include "passes/emit.h"
#include "passes/escape.h"
#include "passes/rebase.h"

namespace fulmen::passes {
namespace {

// What a rule sees besides the bound symbol itself.
class Definitions {
 public:
  void add(const BoundSymbol* b) {
    for_each_proxy(b->output, [&](const Proxy* p) { of_.set(p, b); });
  }
  // The call that made `a`, if it is one of `symbol`.
  const BoundSymbol* made_by(const Arg& a, std::string_view symbol) const {
    const BoundSymbol* b = a.is_proxy() ? of_.get(a.proxy()) : nullptr;
    return b && b->symbol->name() == symbol ? b : nullptr;
  }

 private:
  ProxyMap<const BoundSymbol*> of_;
};

bool is_number(const Arg& a, double value) {
  switch (a.kind()) {
    case Arg::Kind::kInt: return static_cast<double>(a.integer()) == value && !std::signbit(value);
    case Arg::Kind::kFloat:
      return a.real() == value && std::signbit(a.real()) == std::signbit(value);
    default: return false;
  }
}

bool is_complex_tensor(const Arg& a) { return a.is_tensor() && is_complex(a.tensor()->type.dtype); }

// Every value of `from` is one of `to`.
bool is_exact(DType from, DType to) {
  const auto small = [](DType t) { return t == DType::kFloat16 || t == DType::kBFloat16; };
  if (small(from)) return to == DType::kFloat32 || to == DType::kFloat64;
  return from == DType::kFloat32 && to == DType::kFloat64;
}

Arg mul_by_one(const BoundSymbol& b, const Definitions&) {
  if (is_complex_tensor(b.args[0])) return {};
  if (is_number(b.args[1], 1.0)) return b.args[0];
  if (is_number(b.args[0], 1.0)) return b.args[1];
  return {};
}

Arg div_by_one(const BoundSymbol& b, const Definitions&) {
  if (is_complex_tensor(b.args[0])) return {};
  return is_number(b.args[1], 1.0) ? b.args[0] : Arg();
}

Arg add_zero(const BoundSymbol& b, const Definitions&) {
  const TensorProxy* x = b.args[0].tensor();
  if (!x || is_complex(x->type.dtype)) return {};
  // 0.0 + -0.0 is 0.0, -0.0 + -0.0 is -0.0: the only neutral number of a float.
  const bool neutral =
      is_integral(x->type.dtype) ? b.args[1] == Arg(0) : is_number(b.args[1], -0.0);
  return neutral ? b.args[0] : Arg();
}

Arg sub_zero(const BoundSymbol& b, const Definitions&) {
  const TensorProxy* x = b.args[0].tensor();
  if (!x || is_complex(x->type.dtype)) return {};
  return is_number(b.args[1], 0.0) ? b.args[0] : Arg();
}

Arg neg_of_neg(const BoundSymbol& b, const Definitions& made) {
  const BoundSymbol* inner = made.made_by(b.args[0], "neg");
  return inner ? inner->args[0] : Arg();
}

Arg transpose_of_transpose(const BoundSymbol& b, const Definitions& made) {
  const BoundSymbol* inner = made.made_by(b.args[0], "transpose");
  if (!inner) return {};
  const auto n = static_cast<int64_t>(b.args[0].tensor()->type.ndim());
  const auto dim = [&](const Arg& a) { return a.integer() < 0 ? a.integer() + n : a.integer(); };
  const int64_t a = dim(b.args[1]), c = dim(b.args[2]);
  const int64_t x = dim(inner->args[1]), y = dim(inner->args[2]);
  return (a == x && c == y) || (a == y && c == x) ? inner->args[0] : Arg();
}

template <const char* kName>
Arg undone_by_itself(const BoundSymbol& b, const Definitions& made) {
  const BoundSymbol* inner = made.made_by(b.args[0], kName);
  return inner ? inner->args[0] : Arg();
}

Arg permute_of_permute(const BoundSymbol& b, const Definitions& made) {
  const BoundSymbol* inner = made.made_by(b.args[0], "permute");
  if (!inner) return {};
  const auto outer_dims = b.arg("dims").items(), inner_dims = inner->arg("dims").items();
  const auto n = static_cast<int64_t>(outer_dims.size());
  const auto wrap = [&](int64_t d) { return d < 0 ? d + n : d; };
  Args dims;
  bool identity = true;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t d = wrap(inner_dims[wrap(outer_dims[i].integer())].integer());
    identity = identity && d == i;
    dims.push_back(Arg(d));
  }
  if (identity) return inner->args[0];
  return emit("permute",
              {inner->args[0], Builder::current().ctx().make_collection(Arg::Kind::kList, dims)});
}

// Only where both are views: a reshape that copies decides the strides of what follows.
Arg view_of_view(const BoundSymbol& b, const Definitions& made) {
  const TensorProxy* out = b.output.tensor();
  if (!out || !out->alias_of) return {};
  for (const std::string_view name : {"view", "reshape"}) {
    const BoundSymbol* inner = made.made_by(b.args[0], name);
    if (!inner || !inner->output.tensor()->alias_of) continue;
    const TensorProxy* base = inner->args[0].tensor();
    if (base->type == out->type) return base;
    Args size;
    for (const Dim d : out->type.shape) size.push_back(Arg(d));
    try {
      return emit("view", {base, Builder::current().ctx().make_collection(Arg::Kind::kList, size)});
    } catch (const UserError&) {
      return {};  // the two steps are possible, the one is not
    }
  }
  return {};
}

Arg cast_of_cast(const BoundSymbol& b, const Definitions& made) {
  const BoundSymbol* inner = made.made_by(b.args[0], b.symbol->name());
  const TensorProxy* out = b.output.tensor();
  const TensorProxy* x = b.args[0].tensor();
  if (!out || !x) return {};
  if (out->type == x->type) return b.args[0];
  if (!inner || !inner->args[0].is_tensor()) return {};
  const TensorType& source = inner->args[0].tensor()->type;
  if (!is_exact(source.dtype, x->type.dtype) || source.device != out->type.device) return {};
  if (source.dtype == out->type.dtype) return inner->args[0];
  Args args{b.args};
  args[0] = inner->args[0];
  return Builder::current().call(*b.symbol, args);
}

Arg copy_of_same_layout(const BoundSymbol& b, const Definitions&) { return b.args[0]; }

constexpr char kT[] = "t", kNumpyT[] = "numpy_T", kMatrixT[] = "mT";

struct FoldRow {
  std::string_view symbol;
  // The tensor to read instead, which may be recorded in the current builder; None: no change.
  // Metadata and aliasing are checked after.
  Arg (*replacement)(const BoundSymbol& b, const Definitions& made);
};

constexpr FoldRow kRows[] = {
    {"mul", mul_by_one},
    {"div", div_by_one},
    {"add", add_zero},
    {"sub", sub_zero},
    {"neg", neg_of_neg},
    {"transpose", transpose_of_transpose},
    {"t", undone_by_itself<kT>},
    {"numpy_T", undone_by_itself<kNumpyT>},
    {"mT", undone_by_itself<kMatrixT>},
    {"permute", permute_of_permute},
    {"view", view_of_view},
    {"reshape", view_of_view},
    {"to.dtype", cast_of_cast},
    {"_to_copy", cast_of_cast},
    {"clone", copy_of_same_layout},
};

bool records_gradients(const Trace& trace) {
  return std::any_of(trace.inputs.begin(), trace.inputs.end(),
                     [](const Proxy* p) { return any_requires_grad(Arg(p)); }) ||
         std::any_of(trace.body.begin(), trace.body.end(),
                     [](const BoundSymbol* b) { return any_requires_grad(b->output); });
}

class Folder {
 public:
  explicit Folder(const Trace& trace)
      : trace_(trace), escapes_(trace), records_gradients_(records_gradients(trace)) {
    for (const FoldRow& row : kRows) {
      if (const Symbol* s = find_row(row.symbol)) rows_.emplace(s, &row);
    }
    for (const Proxy* p : trace.inputs) is_input_.set(p, true);
  }

  Trace run(PassContext& ctx) {
    Builder builder(trace_.ctx);
    Substitution map;
    auto& body = builder.body();
    body.reserve(trace_.body.size());
    for (const BoundSymbol* original : trace_.body) {
      const BoundSymbol* b = apply_rebased(map, *trace_.ctx, *original);
      if (b != original) escapes_.join(b->output, original->output);
      const size_t before = body.size();
      const Arg replacement = try_fold(builder, *b, before);
      if (!replacement.is_none() && ctx.take_fuel(b)) {
        for (size_t i = before; i < body.size(); ++i) made_.add(body[i]);
        map.add(b->output.proxy(), replacement);
        continue;
      }
      body.resize(before);
      body.push_back(b);
      made_.add(b);
      if (b->symbol->has(kEffect)) made_ = Definitions();
    }
    if (map.empty()) return trace_;
    Trace out = trace_;
    out.output = map.apply(*trace_.ctx, trace_.output);
    out.body = std::move(body);
    return out;
  }

 private:
  Arg try_fold(Builder& builder, const BoundSymbol& b, size_t before) {
    const auto row = rows_.find(b.symbol);
    if (row == rows_.end()) return {};
    const TensorProxy* old = b.output.tensor();
    if (!old) return {};
    builder.grad_enabled = old->type.requires_grad;
    builder.source = b.source;
    Arg found;
    try {
      found = row->second->replacement(b, made_);
    } catch (const Unsupported&) {
      return {};
    }
    const TensorProxy* now = found.tensor();
    if (!now || !(now->type == old->type)) return {};
    const bool is_new = builder.body().size() > before;
    if (escapes_.is_result(old) && !is_new) return {};
    if (storage_of(now) != storage_of(old) && !is_new && !may_share(old, now)) return {};
    return found;
  }

  // Whether `old`, a tensor of its own, may become another name of `now`.
  bool may_share(const TensorProxy* old, const TensorProxy* now) const {
    if (escapes_.is_reachable(old) || escapes_.is_written(now)) return false;
    // What autograd saves of an input, the caller may write to before the backward.
    return !(records_gradients_ && is_input_.get(storage_of(now)));
  }

  const Trace& trace_;
  Escapes escapes_;
  bool records_gradients_;
  ProxyMap<bool> is_input_;
  std::unordered_map<const Symbol*, const FoldRow*> rows_;
  Definitions made_;
};

}  // namespace

Trace constant_folding(const Trace& trace, PassContext& ctx) { return Folder(trace).run(ctx); }

}  // namespace fulmen::passes
