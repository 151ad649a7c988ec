#include "ops/gradient.h"

#include "ops/creation.h"
#include "ops/meta.h"
#include "ops/reduction.h"
#include "ops/select.h"
#include "ops/shape.h"

namespace fulmen::ops {

bool wants_grad(const Call& in, size_t param) {
  const TensorProxy* t = in[param].tensor();
  return t && t->type.requires_grad;
}

bool wants_grad(const Call& in, std::string_view param) {
  const TensorProxy* t = in[param].tensor();
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

Arg masked_results(Call& in, std::initializer_list<Arg> results) {
  const std::span<const Arg> mask = in["output_mask"].items();
  if (mask.size() != results.size()) in.unsupported("an output_mask of another length");
  Args kept;
  size_t i = 0;
  for (const Arg& result : results) kept.push_back(mask[i++].boolean() ? result : Arg());
  return in.tuple(kept);
}

const Arg& item(const Arg& tuple, size_t i) { return tuple.items()[i]; }

Arg dims_list(std::span<const Dim> dims) {
  Args items;
  for (const Dim d : dims) items.push_back(Arg(d));
  return Builder::current().ctx().make_collection(Arg::Kind::kList, items);
}

Arg int_list(std::span<const int64_t> values) {
  Args items;
  for (const int64_t v : values) items.push_back(Arg(v));
  return Builder::current().ctx().make_collection(Arg::Kind::kList, items);
}

Arg sum_to(const Arg& grad, std::span<const Dim> shape) {
  const Dims have = grad.tensor()->type.shape;
  if (meta::same_shape(have, shape)) return grad;
  if (shape.empty()) return sum(grad);
  const size_t leading = have.size() - shape.size();
  Args dims;
  for (size_t i = 0; i < have.size(); ++i) {
    const bool grown = i >= leading && is_one(shape[i - leading]) && !is_one(have[i]);
    if (i < leading || grown) dims.push_back(Arg(static_cast<int64_t>(i)));
  }
  const Arg list = Builder::current().ctx().make_collection(Arg::Kind::kList, dims);
  const Arg total = sum_dim(grad, list, true);
  return leading ? view(total, dims_list(shape)) : total;
}

Arg reduced_to(const Arg& grad, const TensorType& type) {
  return converted(sum_to(grad, type.shape), type.dtype);
}

Arg zeros_as(const Arg& grad, const TensorType& like) {
  return new_zeros(grad, dims_list(like.shape));
}

Arg zero_where(const Arg& mask, const Arg& grad) { return where(mask, 0.0, grad); }

Arg conjugate(const Arg& a) {
  if (a.kind() == Arg::Kind::kComplex) {
    const std::complex<double> c = std::conj(a.complex());
    return Arg::complex(Builder::current().arena().make<std::complex<double>>(c));
  }
  return a.is_tensor() && is_complex(a.tensor()->type.dtype) ? conj_physical(a) : a;
}

Arg real_if(const TensorType& t, const Arg& grad) {
  return !is_complex(t.dtype) && is_complex(grad.tensor()->type.dtype) ? real(grad) : grad;
}

Arg part(const Arg& grad, size_t i) { return grad.is_none() ? grad : grad.items()[i]; }

Args pass_vjp(Call& in, const Arg&, const Arg& grad) { return grads(in, {grad}); }

Args zero_vjp(Call& in, const Arg&, const Arg& grad) {
  Args out;
  out.resize(in.size());
  for (size_t i = 0; i < in.size(); ++i) {
    if (wants_grad(in, i)) out[i] = zeros_as(grad, in[i].tensor()->type);
  }
  return out;
}

Args reshape_vjp(Call& in, const Arg&, const Arg& grad) {
  const Dims& shape = in[size_t{0}].tensor()->type.shape;
  if (meta::same_shape(shape, grad.tensor()->type.shape)) return grads(in, {grad});
  return grads(in, {reshape(grad, dims_list(shape))});
}

}  // namespace fulmen::ops
