#include "ops/ordering.h"

#include "ops/arith.h"
#include "ops/comparison.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/reduce.h"
#include "ops/reduction.h"
#include "ops/reduction_gradient.h"

namespace fulmen::ops {
namespace {

Arg amax_meta(Call& in) {
  meta::require(in, in.type("input").dtype, meta::kReals);
  if (meta::reduces_nothing(in)) in.unsupported("the extremum of no elements");
  return meta::reduce(in, in.type("input").dtype);
}

Arg aminmax_meta(Call& in) {
  const Arg low = amax_meta(in);
  return in.tuple({low, amax_meta(in)});
}

Arg full_meta(Call& in) { return amax_meta(in); }

Arg median_meta(Call& in) {
  meta::require(in, in.type("input").dtype, meta::kNumeric);
  return meta::reduce(in, in.type("input").dtype);
}

// (values, indices) over one dimension.
Arg values_and_indices(Call& in) {
  const Arg values = amax_meta(in);
  return in.tuple({values, meta::reduce(in, DType::kInt64)});
}

Arg median_dim_meta(Call& in) {
  meta::require(in, in.type("input").dtype, meta::kNumeric);
  return values_and_indices(in);
}

Arg arg_meta(Call& in) {
  meta::require(in, in.type("input").dtype, meta::kNumeric);
  if (meta::reduces_nothing(in)) in.unsupported("the extremum of no elements");
  return meta::reduce(in, DType::kInt64);
}

// The size of `dim`, at least k; 1 for a 0-d tensor.
void check_k(Call& in, int64_t first) {
  const TensorType& input = in.type("input");
  const int64_t dim = meta::wrap_dim(in, in.integer("dim"), input.ndim());
  const int64_t size = input.ndim() ? input.shape[dim].value() : 1;
  if (size == 0) in.unsupported("the extremum of no elements");
  if (in.integer("k") < first || in.integer("k") > size) {
    in.fail(ErrorKind::kRuntime, "k-out-of-range", "selected index k out of range; got ",
            in.integer("k"), "; expected ", first, " to ", size);
  }
}

Arg kthvalue_meta(Call& in) {
  meta::require(in, in.type("input").dtype, meta::kNumeric);
  check_k(in, 1);
  return values_and_indices(in);
}

Arg topk_meta(Call& in) {
  const TensorType& input = in.type("input");
  meta::require(in, input.dtype, meta::kNumeric);
  check_k(in, 0);
  Dims shape = input.shape;
  if (input.ndim()) shape[meta::wrap_dim(in, in.integer("dim"), input.ndim())] = in["k"].dim();
  return in.tuple(
      {meta::fresh(in, input, shape, input.dtype), meta::fresh(in, input, shape, DType::kInt64)});
}

// Like the input, in another order.
Arg sorted(Call& in, DType dtype) {
  const TensorType& input = in.type("input");
  meta::require(in, input.dtype, meta::kReals);
  if (in.symbol().info->schema.index("dim") >= 0) {
    meta::wrap_dim(in, in.integer("dim"), input.ndim());
  }
  return meta::like(in, dtype);
}

Arg sort_meta(Call& in) {
  return in.tuple({sorted(in, in.type("input").dtype), sorted(in, DType::kInt64)});
}

Arg argsort_meta(Call& in) { return sorted(in, DType::kInt64); }

Arg msort_meta(Call& in) {
  if (in.type("input").ndim() == 0) in.unsupported("a 0-d tensor");
  return sorted(in, in.type("input").dtype);
}

}  // namespace

constinit const Symbol amax{
    .schema = "amax(Tensor input, int[1]? dim=(), bool keepdim=False) -> Tensor",
    .torch = "torch.amax torch.Tensor.amax",
    .tags = kPure | kReduction,
    .meta = amax_meta,
    .vjp = extremum_vjp,
};
constinit const Symbol amin{
    .schema = "amin(Tensor input, int[1]? dim=(), bool keepdim=False) -> Tensor",
    .torch = "torch.amin torch.Tensor.amin",
    .tags = kPure | kReduction,
    .meta = amax_meta,
    .vjp = extremum_vjp,
};
constinit const Symbol aminmax{
    .schema = "aminmax(Tensor input, *, int? dim=None, bool keepdim=False) -> (Tensor, Tensor)",
    .torch = "torch.aminmax torch.Tensor.aminmax",
    .tags = kPure | kReduction,
    .meta = aminmax_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg dims = in.has("dim") ? in["dim"] : in.ints({});
      const Arg x = in["input"], keepdim = in["keepdim"];
      const Arg low = amin(x, dims, keepdim);
      return in.tuple({low, amax(x, dims, keepdim)});
    },
};
constinit const Symbol max{
    .schema = "max(Tensor input) -> Tensor",
    .torch = "torch.max torch.Tensor.max",
    .tags = kPure | kReduction,
    .meta = full_meta,
    .decompose = [](Call& in) -> Arg { return amax(in["input"]); },
    .vjp = middle_vjp,
};
constinit const Symbol max_dim{
    .schema = "max.dim(Tensor input, int dim, bool keepdim=False) -> (Tensor, Tensor)",
    .torch = "torch.max torch.Tensor.max",
    .tags = kPure | kReduction,
    .meta = values_and_indices,
    .vjp = selected_vjp,
};
constinit const Symbol max_other{
    .schema = "max.other(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.max torch.Tensor.max",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg { return maximum(in["input"], in["other"]); },
};
constinit const Symbol min{
    .schema = "min(Tensor input) -> Tensor",
    .torch = "torch.min torch.Tensor.min",
    .tags = kPure | kReduction,
    .meta = full_meta,
    .decompose = [](Call& in) -> Arg { return amin(in["input"]); },
    .vjp = middle_vjp,
};
constinit const Symbol min_dim{
    .schema = "min.dim(Tensor input, int dim, bool keepdim=False) -> (Tensor, Tensor)",
    .torch = "torch.min torch.Tensor.min",
    .tags = kPure | kReduction,
    .meta = values_and_indices,
    .vjp = selected_vjp,
};
constinit const Symbol min_other{
    .schema = "min.other(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.min torch.Tensor.min",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg { return minimum(in["input"], in["other"]); },
};
constinit const Symbol argmax{
    .schema = "argmax(Tensor input, int? dim=None, bool keepdim=False) -> Tensor",
    .torch = "torch.argmax torch.Tensor.argmax",
    .tags = kPure | kReduction | kNonDifferentiable,
    .meta = arg_meta,
};
constinit const Symbol argmin{
    .schema = "argmin(Tensor input, int? dim=None, bool keepdim=False) -> Tensor",
    .torch = "torch.argmin torch.Tensor.argmin",
    .tags = kPure | kReduction | kNonDifferentiable,
    .meta = arg_meta,
};
constinit const Symbol median{
    .schema = "median(Tensor input) -> Tensor",
    .torch = "torch.median torch.Tensor.median",
    .tags = kPure | kReduction,
    .meta = median_meta,
    .vjp = middle_vjp,
};
constinit const Symbol median_dim{
    .schema = "median.dim(Tensor input, int dim, bool keepdim=False) -> (Tensor, Tensor)",
    .torch = "torch.median torch.Tensor.median",
    .tags = kPure | kReduction,
    .meta = median_dim_meta,
    .vjp = selected_vjp,
};
constinit const Symbol nanmedian{
    .schema = "nanmedian(Tensor input) -> Tensor",
    .torch = "torch.nanmedian torch.Tensor.nanmedian",
    .tags = kPure | kReduction,
    .meta = median_meta,
    .vjp = middle_vjp,
};
constinit const Symbol nanmedian_dim{
    .schema = "nanmedian.dim(Tensor input, int dim, bool keepdim=False) -> (Tensor, Tensor)",
    .torch = "torch.nanmedian torch.Tensor.nanmedian",
    .tags = kPure | kReduction,
    .meta = median_dim_meta,
    .vjp = selected_vjp,
};
constinit const Symbol mode{
    .schema = "mode(Tensor input, int dim=-1, bool keepdim=False) -> (Tensor, Tensor)",
    .torch = "torch.mode torch.Tensor.mode",
    .tags = kPure | kReduction,
    .meta = values_and_indices,
    .vjp = selected_vjp,
};
constinit const Symbol kthvalue{
    .schema = "kthvalue(Tensor input, int k, int dim=-1, bool keepdim=False) -> (Tensor, Tensor)",
    .torch = "torch.kthvalue torch.Tensor.kthvalue",
    .tags = kPure | kReduction,
    .meta = kthvalue_meta,
    .vjp = selected_vjp,
};
constinit const Symbol topk{
    .schema =
        "topk(Tensor input, int k, int dim=-1, bool largest=True, bool sorted=True) -> "
        "(Tensor, Tensor)",
    .torch = "torch.topk torch.Tensor.topk",
    .tags = kPure,
    .meta = topk_meta,
    .vjp = selected_vjp,
};
constinit const Symbol sort{
    .schema = "sort(Tensor input, int dim=-1, bool descending=False) -> (Tensor, Tensor)",
    .torch = "torch.sort torch.Tensor.sort",
    .tags = kPure,
    .meta = sort_meta,
    .vjp = selected_vjp,
};
constinit const Symbol sort_stable{
    .schema =
        "sort.stable(Tensor input, *, bool? stable, int dim=-1, bool descending=False) -> "
        "(Tensor, Tensor)",
    .torch = "torch.sort torch.Tensor.sort",
    .tags = kPure,
    .meta = sort_meta,
    .vjp = selected_vjp,
};
constinit const Symbol argsort{
    .schema = "argsort(Tensor input, int dim=-1, bool descending=False) -> Tensor",
    .torch = "torch.argsort torch.Tensor.argsort",
    .tags = kPure | kNonDifferentiable,
    .meta = argsort_meta,
};
constinit const Symbol argsort_stable{
    .schema =
        "argsort.stable(Tensor input, *, bool stable, int dim=-1, bool descending=False) "
        "-> Tensor",
    .torch = "torch.argsort torch.Tensor.argsort",
    .tags = kPure | kNonDifferentiable,
    .meta = argsort_meta,
};
constinit const Symbol msort{
    .schema = "msort(Tensor input) -> Tensor",
    .torch = "torch.msort torch.Tensor.msort",
    .tags = kPure,
    .meta = msort_meta,
    .decompose = [](Call& in) -> Arg { return sort(in["input"], 0).items()[0]; },
};

std::span<const Symbol* const> ordering_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_ORDERING_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
