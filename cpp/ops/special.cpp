#include "ops/special.h"

#include "ops/arith.h"
#include "ops/bitwise.h"
#include "ops/comparison.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/gradient.h"
#include "ops/lane.h"
#include "ops/select.h"

namespace fulmen::ops {
namespace {

// I1 and its kin, where `slope` divides by the argument: its limit is used near zero.
template <class Slope>
Args bessel_grad(Call& in, const Arg& grad, Slope slope) {
  const Arg x = in[0];
  const double epsilon = grad.tensor()->type.dtype == DType::kFloat64 ? 0x1p-52 : 0x1p-23;
  const Arg large = gt(abs(x), epsilon);
  return grads(in, {grad * where(large, slope(where(large, x, epsilon)), 0.5)});
}

Args gamma_grad(Call& in, const Arg& grad) {
  if (wants_grad(in, 0)) in.unsupported("the gradient of the first argument");
  const Arg a = in[0], x = in[1];
  return grads(in, {Arg(), grad * exp((a - 1) * log(x) - x - lgamma(a))});
}

// x * log(y + shift)
Args xlogy_grad(Call& in, const Arg& grad, const Symbol& self, double shift) {
  const Arg x = in[0], y = in[1];
  return operand_grads(
      in,
      [&] {
        const Arg g = self(grad, y);
        if (y.is_tensor()) return zero_where(logical_and(eq(x, 0.0), le(y, -shift)), g);
        return in.real("other") > -shift ? g : zero_where(eq(x, 0.0), g);
      },
      [&] { return grad * x / (shift == 0.0 ? y : y + shift); });
}

Arg polygamma_meta(Call& in) {
  if (in.integer("n") < 0) in.unsupported("a negative order");
  return meta::elementwise(in, meta::kReals, meta::Result::kFloat);
}

}  // namespace

constinit const Symbol erf{
    .schema = "erf(Tensor input) -> Tensor",
    .torch = "torch.erf torch.Tensor.erf torch.special.erf torch.erf_ torch.Tensor.erf_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {exp(-(in[0] * in[0])) * 1.1283791670955126 * grad});
    },
    .lane = Lane::kErf,
};
constinit const Symbol erfc{
    .schema = "erfc(Tensor input) -> Tensor",
    .torch = "torch.erfc torch.Tensor.erfc torch.special.erfc torch.erfc_ torch.Tensor.erfc_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {exp(-(in[0] * in[0])) * -1.1283791670955126 * grad});
    },
    .lane = Lane::kErfc,
};
constinit const Symbol erfinv{
    .schema = "erfinv(Tensor input) -> Tensor",
    .torch = "torch.erfinv torch.Tensor.erfinv torch.special.erfinv torch.Tensor.erfinv_",
    .tags = kElementwise | kFloatResult | kKeepsOperands,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {exp(out * out) * 0.8862269254527579 * grad});
    },
    .lane = Lane::kErfinv,
};
constinit const Symbol lgamma{
    .schema = "lgamma(Tensor input) -> Tensor",
    .torch = "torch.lgamma torch.Tensor.lgamma torch.special.gammaln torch.Tensor.lgamma_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, grad * digamma(in[0]));
    },
    .lane = Lane::kLgamma,
};
constinit const Symbol digamma{
    .schema = "digamma(Tensor input) -> Tensor",
    .torch =
        "torch.digamma torch.Tensor.digamma torch.special.digamma torch.special.psi "
        "torch.Tensor.digamma_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad * polygamma(1, in[0])});
    },
    .lane = Lane::kDigamma,
};
constinit const Symbol i0{
    .schema = "i0(Tensor input) -> Tensor",
    .torch = "torch.i0 torch.Tensor.i0 torch.special.i0 torch.i0_ torch.Tensor.i0_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, grad * special_i1(in[0]));
    },
};
constinit const Symbol polygamma{
    .schema = "polygamma(int n, Tensor input) -> Tensor",
    .torch = "torch.polygamma torch.special.polygamma",
    .tags = kElementwise | kFloatResult,
    .meta = polygamma_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {Arg(), grad * polygamma(in.integer("n") + 1, in[1])});
    },
};
constinit const Symbol special_entr{
    .schema = "special_entr(Tensor input) -> Tensor",
    .torch = "torch.special.entr",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad * -(log(in[0]) + 1)});
    },
};
constinit const Symbol special_erfcx{
    .schema = "special_erfcx(Tensor input) -> Tensor",
    .torch = "torch.special.erfcx",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {(in[0] * 2.0 * out - 1.1283791670955126) * grad});
    },
};
constinit const Symbol special_i0e{
    .schema = "special_i0e(Tensor input) -> Tensor",
    .torch = "torch.special.i0e",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {grad * (special_i1e(in[0]) - sgn(in[0]) * out)});
    },
};
constinit const Symbol special_i1{
    .schema = "special_i1(Tensor input) -> Tensor",
    .torch = "torch.special.i1",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return bessel_grad(in, grad, [&](const Arg& x) { return i0(x) - out * reciprocal(x); });
    },
};
constinit const Symbol special_i1e{
    .schema = "special_i1e(Tensor input) -> Tensor",
    .torch = "torch.special.i1e",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return bessel_grad(
          in, grad, [&](const Arg& x) { return special_i0e(x) - out * (sgn(x) + reciprocal(x)); });
    },
};
constinit const Symbol special_ndtr{
    .schema = "special_ndtr(Tensor input) -> Tensor",
    .torch = "torch.special.ndtr",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .decompose = [](Call& in) -> Arg {
      const Arg x = converted(in[0], meta::float_dtype(in, in.type("input").dtype));
      return (erf(x * 0.7071067811865476) + 1) * 0.5;
    },
};
constinit const Symbol special_ndtri{
    .schema = "special_ndtri(Tensor input) -> Tensor",
    .torch = "torch.special.ndtri",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {grad * 2.5066282746310002 * exp(out * out / 2)});
    },
};
constinit const Symbol special_log_ndtr{
    .schema = "special_log_ndtr(Tensor input) -> Tensor",
    .torch = "torch.special.log_ndtr",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {grad / 2.5066282746310002 * exp(-(out + in[0] * in[0] / 2))});
    },
};
constinit const Symbol special_airy_ai{
    .schema = "special_airy_ai(Tensor input) -> Tensor",
    .torch = "torch.special.airy_ai",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_bessel_j0{
    .schema = "special_bessel_j0(Tensor input) -> Tensor",
    .torch = "torch.special.bessel_j0",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_bessel_j1{
    .schema = "special_bessel_j1(Tensor input) -> Tensor",
    .torch = "torch.special.bessel_j1",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_bessel_y0{
    .schema = "special_bessel_y0(Tensor input) -> Tensor",
    .torch = "torch.special.bessel_y0",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_bessel_y1{
    .schema = "special_bessel_y1(Tensor input) -> Tensor",
    .torch = "torch.special.bessel_y1",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_modified_bessel_i0{
    .schema = "special_modified_bessel_i0(Tensor input) -> Tensor",
    .torch = "torch.special.modified_bessel_i0",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_modified_bessel_i1{
    .schema = "special_modified_bessel_i1(Tensor input) -> Tensor",
    .torch = "torch.special.modified_bessel_i1",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_modified_bessel_k0{
    .schema = "special_modified_bessel_k0(Tensor input) -> Tensor",
    .torch = "torch.special.modified_bessel_k0",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_modified_bessel_k1{
    .schema = "special_modified_bessel_k1(Tensor input) -> Tensor",
    .torch = "torch.special.modified_bessel_k1",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_scaled_modified_bessel_k0{
    .schema = "special_scaled_modified_bessel_k0(Tensor input) -> Tensor",
    .torch = "torch.special.scaled_modified_bessel_k0",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_scaled_modified_bessel_k1{
    .schema = "special_scaled_modified_bessel_k1(Tensor input) -> Tensor",
    .torch = "torch.special.scaled_modified_bessel_k1",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_spherical_bessel_j0{
    .schema = "special_spherical_bessel_j0(Tensor input) -> Tensor",
    .torch = "torch.special.spherical_bessel_j0",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_gammainc{
    .schema = "special_gammainc(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.special.gammainc",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args { return gamma_grad(in, grad); },
};
constinit const Symbol special_gammaincc{
    .schema = "special_gammaincc(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.special.gammaincc",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args { return gamma_grad(in, -grad); },
};
constinit const Symbol xlogy{
    .schema = "xlogy(Tensor|Scalar input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.xlogy torch.Tensor.xlogy torch.special.xlogy torch.xlogy_ torch.Tensor.xlogy_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return xlogy_grad(in, grad, xlogy, 0.0);
    },
};
constinit const Symbol special_xlog1py{
    .schema = "special_xlog1py(Tensor|Scalar input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.special.xlog1py",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return xlogy_grad(in, grad, special_xlog1py, 1.0);
    },
};
constinit const Symbol special_zeta{
    .schema = "special_zeta(Tensor|Scalar input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.special.zeta",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      if (wants_grad(in, 0)) in.unsupported("the gradient of the first argument");
      const Arg x = in[0];
      const Arg next = x.is_tensor() ? x + 1.0 : Arg(in.real("input") + 1.0);
      const Arg factor = x.is_tensor() ? -x : Arg(-in.real("input"));
      return grads(in, {Arg(), grad * factor * special_zeta(next, in[1])});
    },
};
constinit const Symbol special_chebyshev_polynomial_t{
    .schema = "special_chebyshev_polynomial_t(Tensor|Scalar input, Tensor|Scalar n) -> Tensor",
    .torch = "torch.special.chebyshev_polynomial_t",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_chebyshev_polynomial_u{
    .schema = "special_chebyshev_polynomial_u(Tensor|Scalar input, Tensor|Scalar n) -> Tensor",
    .torch = "torch.special.chebyshev_polynomial_u",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_chebyshev_polynomial_v{
    .schema = "special_chebyshev_polynomial_v(Tensor|Scalar input, Tensor|Scalar n) -> Tensor",
    .torch = "torch.special.chebyshev_polynomial_v",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_chebyshev_polynomial_w{
    .schema = "special_chebyshev_polynomial_w(Tensor|Scalar input, Tensor|Scalar n) -> Tensor",
    .torch = "torch.special.chebyshev_polynomial_w",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_hermite_polynomial_h{
    .schema = "special_hermite_polynomial_h(Tensor|Scalar input, Tensor|Scalar n) -> Tensor",
    .torch = "torch.special.hermite_polynomial_h",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_hermite_polynomial_he{
    .schema = "special_hermite_polynomial_he(Tensor|Scalar input, Tensor|Scalar n) -> Tensor",
    .torch = "torch.special.hermite_polynomial_he",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_laguerre_polynomial_l{
    .schema = "special_laguerre_polynomial_l(Tensor|Scalar input, Tensor|Scalar n) -> Tensor",
    .torch = "torch.special.laguerre_polynomial_l",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_legendre_polynomial_p{
    .schema = "special_legendre_polynomial_p(Tensor|Scalar input, Tensor|Scalar n) -> Tensor",
    .torch = "torch.special.legendre_polynomial_p",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_shifted_chebyshev_polynomial_t{
    .schema =
        "special_shifted_chebyshev_polynomial_t(Tensor|Scalar input, Tensor|Scalar n) -> "
        "Tensor",
    .torch = "torch.special.shifted_chebyshev_polynomial_t",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_shifted_chebyshev_polynomial_u{
    .schema =
        "special_shifted_chebyshev_polynomial_u(Tensor|Scalar input, Tensor|Scalar n) -> "
        "Tensor",
    .torch = "torch.special.shifted_chebyshev_polynomial_u",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_shifted_chebyshev_polynomial_v{
    .schema =
        "special_shifted_chebyshev_polynomial_v(Tensor|Scalar input, Tensor|Scalar n) -> "
        "Tensor",
    .torch = "torch.special.shifted_chebyshev_polynomial_v",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};
constinit const Symbol special_shifted_chebyshev_polynomial_w{
    .schema =
        "special_shifted_chebyshev_polynomial_w(Tensor|Scalar input, Tensor|Scalar n) -> "
        "Tensor",
    .torch = "torch.special.shifted_chebyshev_polynomial_w",
    .tags = kElementwise | kFloatResult | kNonDifferentiable,
    .meta = meta::elementwise<meta::kRealsNoHalf, meta::Result::kFloat>,
};

std::span<const Symbol* const> special_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_SPECIAL_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
