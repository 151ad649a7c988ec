#include "ops/reduction.h"

#include <cmath>
#include <limits>

#include "ops/arith.h"
#include "ops/comparison.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/ordering.h"
#include "ops/power.h"
#include "ops/reduce.h"
#include "ops/reduction_gradient.h"
#include "ops/select.h"

namespace fulmen::ops {
namespace {

// Every element of a sum has its gradient.
Args spread_grad(Call& in, const Arg& grad) {
  return grads(in, {converted(meta::spread(in, grad), in.type("input").dtype)});
}

Arg sum_meta(Call& in) {
  const DType own = in.type("input").dtype;
  meta::require(in, own, meta::kAnyDType);
  const DType dtype = in.dtype("dtype").value_or(meta::sum_dtype(own));
  meta::require(in, dtype, meta::kAnyDType);
  return meta::reduce(in, dtype);
}

Arg nansum_meta(Call& in) {
  meta::require(in, in.type("input").dtype, meta::kReals);
  return sum_meta(in);
}

Arg mean_meta(Call& in) {
  const DType dtype = in.dtype("dtype").value_or(in.type("input").dtype);
  if (is_integral(dtype)) {
    in.fail(ErrorKind::kRuntime, "mean-dtype",
            "could not infer output dtype. Input dtype must be either a floating point or complex "
            "dtype. Got: ",
            name(dtype));
  }
  meta::require(in, in.type("input").dtype, meta::kAnyDType);
  meta::require(in, dtype, meta::kInexact);
  return meta::reduce(in, dtype);
}

Arg nanmean_meta(Call& in) {
  meta::require(in, in.type("input").dtype, meta::kFloats);
  return mean_meta(in);
}

// bool, but uint8 for uint8.
Arg truth_meta(Call& in) {
  const DType own = in.type("input").dtype;
  meta::require(in, own, meta::kAnyDType);
  if (in.symbol().info->schema.params.size() > 1 && in.has("dim") && in["dim"].is_sequence() &&
      in["dim"].items().empty()) {
    in.unsupported("an empty list of dimensions");
  }
  return meta::reduce(in, own == DType::kUInt8 ? own : DType::kBool);
}

Arg count_meta(Call& in) {
  meta::require(in, in.type("input").dtype, meta::kAnyDType);
  return meta::reduce(in, DType::kInt64);
}

Arg logsumexp_meta(Call& in) {
  const DType own = in.type("input").dtype;
  meta::require(in, own, meta::kAnyDType);
  return meta::reduce(in, meta::float_dtype(in, own));
}

Arg vector_norm_meta(Call& in) {
  const TensorType& input = in.type("input");
  meta::require(in, input.dtype, meta::kInexact);
  const DType dtype = in.dtype("dtype").value_or(input.dtype);
  if (category(dtype) != category(input.dtype) || !(promote(dtype, input.dtype) == dtype)) {
    in.unsupported("a norm that narrows its input");
  }
  const Arg ord = in["ord"];
  const bool simple = ord.kind() == Arg::Kind::kInt || ord.kind() == Arg::Kind::kFloat;
  if (!simple) in.unsupported("this order");
  const bool has_identity = in.real("ord") >= 0 && std::isfinite(in.real("ord"));
  if (!has_identity && meta::reduces_nothing(in)) in.unsupported("a norm of no elements");
  if (in["dim"].is_sequence() && in["dim"].items().empty()) in.unsupported("an empty list of dims");
  return meta::reduce(in, real_dtype(dtype));
}

}  // namespace

constinit const Symbol sum{
    .schema = "sum(Tensor input, *, dtype? dtype=None) -> Tensor",
    .torch = "torch.sum torch.Tensor.sum",
    .tags = kPure | kReduction,
    .meta = sum_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args { return spread_grad(in, grad); },
};
constinit const Symbol sum_dim{
    .schema =
        "sum.dim(Tensor input, int[1]? dim, bool keepdim=False, *, dtype? dtype=None) -> "
        "Tensor",
    .torch = "torch.sum torch.Tensor.sum",
    .tags = kPure | kReduction,
    .meta = sum_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args { return spread_grad(in, grad); },
};
constinit const Symbol nansum{
    .schema =
        "nansum(Tensor input, int[1]? dim=None, bool keepdim=False, *, dtype? dtype=None) "
        "-> Tensor",
    .torch = "torch.nansum torch.Tensor.nansum",
    .tags = kPure | kReduction,
    .meta = nansum_meta,
    .vjp = nansum_vjp,
};
constinit const Symbol mean{
    .schema = "mean(Tensor input, *, dtype? dtype=None) -> Tensor",
    .torch = "torch.mean torch.Tensor.mean",
    .tags = kPure | kReduction,
    .meta = mean_meta,
    .decompose = [](Call& in) -> Arg {
      const Dim count = numel(in.type("input"));
      return record(sum, {in["input"], in["dtype"]}) / Arg(count);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return spread_grad(in, grad / Arg(numel(in.type("input"))));
    },
};
constinit const Symbol mean_dim{
    .schema =
        "mean.dim(Tensor input, int[1]? dim, bool keepdim=False, *, dtype? dtype=None) -> "
        "Tensor",
    .torch = "torch.mean torch.Tensor.mean",
    .tags = kPure | kReduction,
    .meta = mean_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg total = record(sum_dim, {in["input"], in["dim"], in["keepdim"], in["dtype"]});
      return total / Arg(meta::reduced_count(in));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return spread_grad(in, grad / Arg(meta::reduced_count(in)));
    },
};
constinit const Symbol nanmean{
    .schema =
        "nanmean(Tensor input, int[1]? dim=None, bool keepdim=False, *, dtype? dtype=None) "
        "-> Tensor",
    .torch = "torch.nanmean torch.Tensor.nanmean",
    .tags = kPure | kReduction,
    .meta = nanmean_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg present = logical_not(isnan(in["input"]));
      const Arg count = record(sum_dim, {present, in["dim"], in["keepdim"], Arg()});
      return record(nansum, {in["input"], in["dim"], in["keepdim"], in["dtype"]}) / count;
    },
};
constinit const Symbol prod{
    .schema = "prod(Tensor input, *, dtype? dtype=None) -> Tensor",
    .torch = "torch.prod torch.Tensor.prod",
    .tags = kPure | kReduction,
    .meta = sum_meta,
    .vjp = prod_vjp,
};
constinit const Symbol prod_dim{
    .schema =
        "prod.dim(Tensor input, int dim, bool keepdim=False, *, dtype? dtype=None) -> "
        "Tensor",
    .torch = "torch.prod torch.Tensor.prod",
    .tags = kPure | kReduction,
    .meta = sum_meta,
    .vjp = prod_vjp,
};
constinit const Symbol all{
    .schema = "all(Tensor input) -> Tensor",
    .torch = "torch.all torch.Tensor.all",
    .tags = kPure | kReduction,
    .meta = truth_meta,
};
constinit const Symbol all_dim{
    .schema = "all.dim(Tensor input, int[1]? dim, bool keepdim=False) -> Tensor",
    .torch = "torch.all torch.Tensor.all",
    .tags = kPure | kReduction,
    .meta = truth_meta,
};
constinit const Symbol any{
    .schema = "any(Tensor input) -> Tensor",
    .torch = "torch.any torch.Tensor.any",
    .tags = kPure | kReduction,
    .meta = truth_meta,
};
constinit const Symbol any_dim{
    .schema = "any.dim(Tensor input, int[1]? dim, bool keepdim=False) -> Tensor",
    .torch = "torch.any torch.Tensor.any",
    .tags = kPure | kReduction,
    .meta = truth_meta,
};
constinit const Symbol count_nonzero{
    .schema = "count_nonzero(Tensor input, int[1]? dim=None) -> Tensor",
    .torch = "torch.count_nonzero torch.Tensor.count_nonzero",
    .tags = kPure | kReduction | kNonDifferentiable,
    .meta = count_meta,
};
constinit const Symbol logsumexp{
    .schema = "logsumexp(Tensor input, int[1] dim, bool keepdim=False) -> Tensor",
    .torch = "torch.logsumexp torch.Tensor.logsumexp torch.special.logsumexp",
    .tags = kPure | kReduction,
    .meta = logsumexp_meta,
    .decompose = [](Call& in) -> Arg {
      const DType own = in.type("input").dtype;
      const Arg x = converted(in["input"], meta::float_dtype(in, own)), dim = in["dim"];
      if (is_complex(own)) in.unsupported("the decomposition of a complex call");
      const Arg wide = amax(x, dim, true);
      const Arg shift = where(isinf(wide), 0, wide);
      const Arg narrow = in.flag("keepdim") ? wide : amax(x, dim, false);
      return log(sum_dim(exp(x - shift), dim, in["keepdim"])) + where(isinf(narrow), 0, narrow);
    },
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      const Arg x = in[0];
      return first_grad(in, meta::spread(in, grad) * exp(x - meta::spread(in, out)));
    },
};
constinit const Symbol linalg_vector_norm{
    .schema =
        "linalg_vector_norm(Tensor input, Scalar ord=2, int[1]? dim=None, bool "
        "keepdim=False, *, dtype? dtype=None) -> Tensor",
    .torch = "torch.linalg.vector_norm",
    .tags = kPure | kReduction,
    .meta = vector_norm_meta,
    .decompose = [](Call& in) -> Arg {
      Arg x = in["input"];
      if (in.has("dtype")) x = converted(x, *in.dtype("dtype"));
      Opmath math(x.tensor()->type.dtype);
      const double ord = in.real("ord");
      if (std::isinf(ord)) {
        const Symbol& extremum = ord > 0 ? amax : amin;
        return extremum(abs(x), in["dim"], in["keepdim"]);
      }
      if (ord == 0.0) {
        const DType dtype = real_dtype(x.tensor()->type.dtype);
        return record(sum_dim, {ne(x, 0), in["dim"], in["keepdim"], dtype});
      }
      // Eager takes no power, which could overflow, of a single element.
      if (meta::reduced_count(in) == Dim(1)) return amax(abs(x), in["dim"], in["keepdim"]);
      x = math.up(x);
      if (ord == 1.0) return math.down(sum_dim(abs(x), in["dim"], in["keepdim"]));
      if (ord == 2.0) return math.down(sqrt(sum_dim(square(abs(x)), in["dim"], in["keepdim"])));
      return math.down(pow(sum_dim(pow(abs(x), ord), in["dim"], in["keepdim"]), 1.0 / ord));
    },
    .vjp = vector_norm_vjp,
};
constinit const Symbol norm{
    .schema =
        "norm(Tensor input, any p='fro', int[1]? dim=None, bool keepdim=False, *, dtype? "
        "dtype=None) -> Tensor",
    .torch = "torch.norm torch.Tensor.norm",
    .tags = kPure | kReduction,
    .decompose = [](Call& in) -> Arg {
      const Arg p = in["p"];
      Arg ord = p.is_none() ? Arg(2) : p;
      if (p.kind() == Arg::Kind::kString) {
        if (p.text() != "fro" || in.dims("dim").size() > 2) in.unsupported("a matrix norm");
        ord = 2;
      } else if (!ord.is_number()) {
        in.unsupported("this p");
      }
      return record(linalg_vector_norm, {in["input"], ord, in["dim"], in["keepdim"], in["dtype"]});
    },
    .aten = "-",
};

std::span<const Symbol* const> reduction_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_REDUCTION_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
