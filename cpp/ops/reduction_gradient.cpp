#include "ops/reduction_gradient.h"

#include <cmath>
#include <limits>

#include "ops/bitwise.h"
#include "ops/comparison.h"
#include "ops/creation.h"
#include "ops/gradient.h"
#include "ops/indexing.h"
#include "ops/ordering.h"
#include "ops/power.h"
#include "ops/reduce.h"
#include "ops/reduction.h"
#include "ops/scan.h"
#include "ops/select.h"
#include "ops/shape.h"
#include "ops/statistics.h"

namespace fulmen::ops {
namespace {

bool has_param(const Call& in, std::string_view name) {
  return in.symbol().info->schema.index(name) >= 0;
}

Arg dims_of(Call& in) { return has_param(in, "dim") ? in["dim"] : Arg(); }

// The product of the other elements along a dimension, from the products on both sides.
Arg product_of_others(const Arg& x, int64_t dim) {
  const TensorType& t = x.tensor()->type;
  const int64_t size = t.shape[dim].value();
  Dims edge = t.shape;
  edge[dim] = 1;
  const Arg one = new_ones(x, dims_list(edge));
  if (size == 1) return one;
  const Arg dims = int_list({{dim}});
  const auto shifted = [&](const Arg& inner) {
    const Arg parts[] = {one, inner};
    return cat(Builder::current().ctx().make_collection(Arg::Kind::kList, parts), dim);
  };
  const Arg before = cumprod(shifted(narrow(x, dim, 0, size - 1)), dim);
  const Arg after = cumprod(shifted(flip(narrow(x, dim, 1, size - 1), dims)), dim);
  return before * flip(after, dims);
}

// In steps that have gradients: an element is in all products from its place on, which are made
// again without it.
Arg cumprod_backward_steps(Call& in) {
  const Arg x = in["input"];
  const Dims& shape = in.type("input").shape;
  const auto d = static_cast<int64_t>(meta::wrap_dim(in, in.integer("dim"), shape.size()));
  const Dim n = shape[d];
  // Along `dim` the products, along a last dimension the element that they leave out.
  Dims wide = shape, square(shape.size() + 1, Dim(1));
  wide.push_back(n);
  square[d] = square.back() = n;
  const Arg ones = new_ones(x, dims_list(Dims{n, n}));
  const Arg from = reshape(tril(ones), dims_list(square));
  const Arg itself = reshape(eq(tril(ones) + triu(ones), 2), dims_list(square));
  const Arg others = contiguous_clone(where(itself, 1, expand(unsqueeze(x, -1), dims_list(wide))));
  const Arg weighted = unsqueeze(in["grad"], -1) * cumprod(others, d) * from;
  return movedim(sum_dim(weighted, int_list({{d}})), -1, d);
}

}  // namespace

Args nansum_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg g = meta::spread(in, converted(grad, in.type("input").dtype));
  return grads(in, {g * logical_not(isnan(in["input"]))});
}

Args prod_vjp(Call& in, const Arg& out, const Arg& grad) {
  real_grad(in, grad);
  const Arg x = converted(in["input"], grad.tensor()->type.dtype);
  const TensorType& t = x.tensor()->type;
  if (t.ndim() == 0) return grads(in, {grad});
  if (is_zero(numel(t))) return grads(in, {zeros_as(grad, t)});
  const Arg g = meta::spread(in, grad);
  const Arg simple = g * (meta::spread(in, out) / x);
  // Where there is a zero, and division would give nothing, the other elements are multiplied. As
  // eager decides for the whole tensor, infinities elsewhere are treated alike.
  const bool whole = !has_param(in, "dim");
  const int64_t dim = whole ? 0 : meta::wrap_dim(in, in.integer("dim"), t.ndim());
  Arg others = product_of_others(whole ? reshape(x, int_list({{-1}})) : x, dim);
  if (whole) others = reshape(others, dims_list(t.shape));
  const Arg zeros = sum(eq(x, 0));
  Arg careful = g * others;
  if (whole) careful = zero_where(gt(zeros, 1), careful);
  return grads(in, {where(eq(zeros, 0), simple, careful)});
}

Args vector_norm_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg x = in["input"], g = meta::spread(in, grad), norm = meta::spread(in, out);
  const double p = in.real("ord");
  if (p == 0.0) return grads(in, {});  // as eager: none
  if (p == 1.0) return grads(in, {sgn(x) * g});
  if (p == 2.0) return grads(in, {g * zero_where(eq(norm, 0), x / norm)});
  if (std::isinf(p)) {
    const Arg size = abs(x);
    const Arg mask = logical_or(eq(size, norm), isnan(size));
    return grads(in, {sgn(x) * (g / sum_dim(mask, dims_of(in), true) * mask)});
  }
  if (p < 1.0) {
    const Arg direction = zero_where(eq(x, 0), sgn(x) * pow(abs(x), p - 1));
    return grads(in, {direction * g * pow(norm, 1 - p)});
  }
  const Arg direction = p < 2.0 ? sgn(x) * pow(abs(x), p - 1) : x * pow(abs(x), p - 2);
  return grads(in, {direction * zero_where(eq(norm, 0), g / pow(norm, p - 1))});
}

Args cumsum_vjp(Call& in, const Arg&, const Arg& grad) {
  const TensorType& t = in.type("input");
  const Arg g = converted(grad, t.dtype), dims = int_list({{in.integer("dim")}});
  const bool single =
      t.ndim() == 0 || is_one(t.shape[meta::wrap_dim(in, in.integer("dim"), t.ndim())]);
  if (single || is_zero(numel(t))) return grads(in, {g});
  return grads(in, {flip(record(cumsum, {flip(g, dims), in["dim"], Arg()}), dims)});
}

Args cumprod_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg g = converted(grad, in.type("input").dtype);
  if (in.type("input").ndim() == 0) return grads(in, {g});
  const auto dense = [](const Arg& a) {
    return is_contiguous(a.tensor()->type) ? a : contiguous_clone(a);
  };
  return grads(in, {cumprod_backward(g, dense(in["input"]), in["dim"], dense(out))});
}

Args logcumsumexp_vjp(Call& in, const Arg& out, const Arg& grad) {
  real_grad(in, grad);
  const Arg x = in["input"];
  const TensorType& t = x.tensor()->type;
  if (t.ndim() == 0 || is_zero(numel(t))) return grads(in, {grad});
  const double lowest = t.dtype == DType::kFloat64    ? std::numeric_limits<double>::lowest()
                        : t.dtype == DType::kFloat16  ? -65504.0
                        : t.dtype == DType::kBFloat16 ? -3.3895313892515355e+38
                                                      : std::numeric_limits<float>::lowest();
  const Arg dims = int_list({{in.integer("dim")}});
  const auto half = [&](const Arg& logarithm) {
    const Arg scan = flip(logcumsumexp(flip(logarithm - out, dims), in["dim"]), dims);
    return exp(scan + x);
  };
  const Arg positive = half(where(gt(grad, 0), log(grad), lowest));
  return grads(in, {positive - half(where(lt(grad, 0), log(-grad), lowest))});
}

Args cummax_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg g = part(grad, 0);
  if (g.is_none()) return grads(in, {});
  const TensorType& t = in.type("input");
  if (is_zero(numel(t))) return grads(in, {g});
  return grads(in, {scatter_add(zeros_as(g, t), in["dim"], out.items()[1], g)});
}

Args selected_vjp(Call& in, const Arg& out, const Arg& grad) {
  Arg g = part(grad, 0), at = out.items()[1];
  if (g.is_none()) return grads(in, {});
  const TensorType& t = in.type("input");
  const Arg dim = in["dim"];
  if (has_param(in, "keepdim") && !in.flag("keepdim") && t.ndim() > 0) {
    g = unsqueeze(g, dim);
    at = unsqueeze(at, dim);
  }
  return grads(in, {scatter(zeros_as(g, t), dim, at, g)});
}

Args extremum_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg mask = eq(meta::spread(in, out), in["input"]);
  return grads(in, {meta::spread(in, grad) * mask / sum_dim(mask, in["dim"], true)});
}

Args middle_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg x = in["input"];
  const Arg mask = logical_or(eq(x, out), logical_and(isnan(x), isnan(out)));
  return grads(in, {where(mask, grad / sum(mask), 0.0)});
}

namespace {

double correction_of(Call& in) {
  if (has_param(in, "unbiased")) return in.flag("unbiased") ? 1.0 : 0.0;
  return in.has("correction") ? in.real("correction") : 1.0;
}

Arg var_grad(Call& in, const Arg& grad) {
  const Arg x = real_grad(in, in["input"]);
  const TensorType& t = x.tensor()->type;
  if (t.ndim() == 0 || !has_param(in, "dim") || !in.has("dim")) {
    const Arg centered = x - mean(x);
    const double freedom = static_cast<double>(numel(t).value()) - correction_of(in);
    if (freedom <= 0) {
      const double nan = std::numeric_limits<double>::quiet_NaN();
      const double infinity = std::numeric_limits<double>::infinity();
      const Arg like = zeros_like(x);
      return grad * where(eq(x, mean(x)), like + nan, like + infinity);
    }
    return meta::spread(in, grad * (2.0 / freedom)) * centered;
  }
  const double count = static_cast<double>(meta::reduced_count(in).value());
  const Arg factor = Arg(2.0 / (count - correction_of(in)));
  return meta::spread(in, grad * factor) * (x - record(mean_dim, {x, in["dim"], true, Arg()}));
}

Arg std_grad(Call& in, const Arg& result, const Arg& grad) {
  return var_grad(in, zero_where(eq(result, 0), grad / (result * 2)));
}

Args with_mean(Call& in, const Arg& moment, const Arg& grad) {
  if (grad.is_none()) return grads(in, {moment});
  const Arg g = grad / Arg(meta::reduced_count(in));
  const Arg mean = meta::spread(in, g);
  return grads(in, {moment.is_none() ? mean : moment + mean});
}

}  // namespace

Args var_vjp(Call& in, const Arg&, const Arg& grad) { return grads(in, {var_grad(in, grad)}); }

Args std_vjp(Call& in, const Arg& out, const Arg& grad) {
  return grads(in, {std_grad(in, out, grad)});
}

Args var_mean_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg g = part(grad, 0);
  return with_mean(in, g.is_none() ? g : var_grad(in, g), part(grad, 1));
}

Args std_mean_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg g = part(grad, 0);
  return with_mean(in, g.is_none() ? g : std_grad(in, out.items()[0], g), part(grad, 1));
}

constinit const Symbol cumprod_backward{
    .schema = "cumprod_backward(Tensor grad, Tensor input, int dim, Tensor output) -> Tensor",
    .torch = "torch.ops.aten.cumprod_backward",
    .tags = kPure,
    .meta = [](Call& in) -> Arg {
      const TensorType &g = in.type("grad"), &x = in.type("input"), &y = in.type("output");
      // Where eager returns the gradient itself, and what it does with other strides.
      const bool covered = is_contiguous(x) && is_contiguous(y) && g.dtype == x.dtype &&
                           x.dtype == y.dtype && meta::same_shape(g.shape, x.shape) &&
                           meta::same_shape(y.shape, x.shape);
      if (!covered || is_complex(x.dtype) || x.ndim() == 0) in.unsupported("these tensors");
      const size_t d = meta::wrap_dim(in, in.integer("dim"), x.ndim());
      if (numel(x).value() <= 1 || x.shape[d].value() <= 1) return in["grad"];
      return meta::fresh(in, x, x.shape, x.dtype);
    },
    .decompose = cumprod_backward_steps,
};

}  // namespace fulmen::ops
