#include "ops/fft_gradient.h"

#include "ops/fft.h"
#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/shape.h"

// The adjoint of a transform is the transform the other way round, scaled as this one.
namespace fulmen::ops {
namespace {

Arg other_norm(const Arg& norm) {
  if (norm.is_none() || norm.text() == "backward") return Arg("forward");
  return norm.text() == "forward" ? Arg("backward") : norm;
}

// How many dimensions, the last ones, the row transforms.
size_t transformed(Call& in) {
  const auto has = [&](std::string_view name) {
    return in.symbol().info->schema.index(name) >= 0 && in.has(name);
  };
  if (in.symbol().info->schema.index("s") < 0) return 1;
  if (has("dim")) return in.integers("dim").size();
  return has("s") ? in.integers("s").size() : in.type("input").ndim();
}

// Cut or filled with zeros to `size` along a dimension.
Arg resized(const Arg& g, size_t dim, int64_t size) {
  const TensorType& t = g.tensor()->type;
  const int64_t own = t.shape[dim].value();
  if (own == size) return g;
  if (own > size) return narrow(g, static_cast<int64_t>(dim), 0, size);
  SmallVec<int64_t, 6> pad(2 * (t.ndim() - dim), 0);
  pad.back() = size - own;
  return constant_pad_nd(g, int_list(pad));
}

// `row` over the last `n` dimensions of g.
Arg run(const Symbol& one, const Symbol& several, const Arg& g, size_t n, const Arg& norm) {
  if (n == 1) return record(one, {g, Arg(), Arg(-1), norm});
  SmallVec<int64_t, 6> dims;
  for (size_t i = n; i > 0; --i) dims.push_back(-static_cast<int64_t>(i));
  return record(several, {contiguous(g), Arg(), int_list(dims), norm});
}

Args as_input(Call& in, Arg g, size_t n) {
  const TensorType& t = in.type("input");
  for (size_t d = t.ndim() - n; d < t.ndim(); ++d) g = resized(g, d, t.shape[d].value());
  return grads(in, {real_if(t, g)});
}

// Of a real-to-half transform: the other half is zero.
Arg half_grad(Call& in, const Arg& grad, const Arg& norm) {
  const size_t n = transformed(in), last = in.type("input").ndim() - 1;
  const bool several = in.symbol().info->schema.index("s") >= 0;
  const std::string_view param = several ? "s" : "n";
  int64_t size = in.type("input").shape[last].value();
  if (in.has(param)) {
    const int64_t given = several ? in.integers("s").back() : in.integer("n");
    if (given > 0) size = given;
  }
  return run(fft_ifft, fft_ifftn, resized(grad, last, size), n, norm);
}

// Of a half-to-real transform: what stands for two elements counts twice.
Arg doubled_grad(Call& in, const Arg& grad, const Arg& norm) {
  const Arg g = run(fft_rfft, fft_rfftn, grad, transformed(in), norm);
  const TensorType& t = g.tensor()->type;
  const int64_t dim = static_cast<int64_t>(t.ndim()) - 1, own = t.shape.back().value();
  const int64_t twice = grad.tensor()->type.shape.back().value() - own;
  if (twice <= 0) return g;
  Args parts{narrow(g, dim, 0, 1), narrow(g, dim, 1, twice) * 2};
  if (own > 1 + twice) parts.push_back(narrow(g, dim, 1 + twice, own - 1 - twice));
  return cat(in.list(parts), dim);
}

}  // namespace

Args fft_vjp(Call& in, const Arg&, const Arg& grad) {
  const size_t n = transformed(in);
  return as_input(in, run(fft_ifft, fft_ifftn, grad, n, other_norm(in["norm"])), n);
}

Args ifft_vjp(Call& in, const Arg&, const Arg& grad) {
  const size_t n = transformed(in);
  return as_input(in, run(fft_fft, fft_fftn, grad, n, other_norm(in["norm"])), n);
}

Args rfft_vjp(Call& in, const Arg&, const Arg& grad) {
  return as_input(in, half_grad(in, grad, other_norm(in["norm"])), transformed(in));
}

Args irfft_vjp(Call& in, const Arg&, const Arg& grad) {
  return as_input(in, doubled_grad(in, grad, other_norm(in["norm"])), transformed(in));
}

// hfft is irfft of the conjugate, scaled the other way; ihfft the conjugate of rfft.
Args hfft_vjp(Call& in, const Arg&, const Arg& grad) {
  return as_input(in, conj_physical(doubled_grad(in, grad, in["norm"])), 1);
}

Args ihfft_vjp(Call& in, const Arg&, const Arg& grad) {
  return as_input(in, half_grad(in, conj_physical(grad), in["norm"]), 1);
}

}  // namespace fulmen::ops
