#include "ops/gradient.h"

#include "ops/arith.h"
#include "ops/reduction.h"
#include "ops/shape.h"

namespace fulmen::ops {

bool wants_grad(const Call& in, std::string_view param) {
  const TensorProxy* t = in.opt_tensor(param);
  return t && t->type.requires_grad;
}

Args grads_of(const Call& in, std::initializer_list<NamedGrad> named) {
  Args out;
  out.resize(in.size());
  for (const NamedGrad& g : named) {
    const int i = in.symbol().info->schema.index(g.param);
    if (i < 0) internal_error(in.symbol().name(), " has no parameter ", g.param);
    out[static_cast<size_t>(i)] = g.grad;
  }
  return out;
}

Arg output_mask(Call& in, std::initializer_list<std::string_view> params) {
  Args mask;
  for (const std::string_view param : params) mask.push_back(Arg(wants_grad(in, param)));
  return in.list(mask);
}

Arg reduced_to(const Arg& grad, const TensorType& type) {
  Arg out = grad;
  const TensorType& from = out.tensor()->type;
  if (!(from.shape == type.shape)) {
    const size_t extra = from.ndim() - type.ndim();
    Args dims;
    for (size_t i = 0; i < from.ndim(); ++i) {
      const bool widened = i >= extra && is_one(type.shape[i - extra]) && !is_one(from.shape[i]);
      if (i < extra || widened) dims.push_back(Arg(static_cast<int64_t>(i)));
    }
    TraceContext& ctx = Builder::current().ctx();
    out = sum_dim(out, ctx.make_collection(Arg::Kind::kList, dims), true);
    if (extra) {
      Args sizes;
      for (const Dim d : type.shape) sizes.push_back(Arg(d));
      out = record(view, {out, ctx.make_collection(Arg::Kind::kList, sizes)});
    }
  }
  return converted(out, type.dtype);
}

Arg masked_results(Call& in, std::initializer_list<Arg> results) {
  const std::span<const Arg> mask = in["output_mask"].items();
  if (mask.size() != results.size()) in.unsupported("an output_mask of another length");
  Args kept;
  size_t i = 0;
  for (const Arg& result : results) kept.push_back(mask[i++].boolean() ? result : Arg());
  return in.tuple(kept);
}

const Arg& item(const Arg& tuple, size_t i) { return tuple.items()[i]; }

}  // namespace fulmen::ops
