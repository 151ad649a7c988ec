#include "ops/scan.h"

#include "ops/arith.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/reduction_gradient.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

Arg scanned(Call& in, uint8_t accept, DType dtype) {
  const TensorType& input = in.type("input");
  meta::require(in, input.dtype, accept);
  meta::require(in, dtype, accept);
  // Eager does not look at the dimension of every empty tensor.
  const int64_t dim = in.integer("dim"), n = static_cast<int64_t>(input.ndim());
  if (is_zero(numel(input)) && (dim >= n || dim < -n)) in.unsupported("an empty tensor");
  meta::wrap_dim(in, in.integer("dim"), input.ndim());
  return meta::fresh(in, input, input.shape, dtype);
}

Arg cumsum_meta(Call& in) {
  const DType own = in.type("input").dtype;
  return scanned(in, meta::kAnyDType, in.dtype("dtype").value_or(meta::sum_dtype(own)));
}

Arg logcumsumexp_meta(Call& in) { return scanned(in, meta::kInexact, in.type("input").dtype); }

Arg cummax_meta(Call& in) {
  const Arg values = scanned(in, meta::kReals, in.type("input").dtype);
  return in.tuple({values, scanned(in, meta::kReals, DType::kInt64)});
}

// input[1:] - input[:-1] along a dimension.
Arg diff_meta(Call& in) {
  TensorType part = in.type("input");
  meta::require(in, part.dtype, meta::kAnyDType);
  if (in.integer("n") != 1 || in.has("prepend") || in.has("append") || part.ndim() == 0) {
    in.unsupported("these arguments");
  }
  const int64_t dim = meta::wrap_dim(in, in.integer("dim"), part.ndim());
  if (is_zero(part.shape[dim])) return in[0];
  part.shape[dim] = part.shape[dim] - Dim(1);
  const TensorType* operands[] = {&part, &part};
  TensorType out = part;
  out.strides = meta::pointwise_strides(operands, part.shape);
  return in.make(std::move(out));
}

}  // namespace

constinit const Symbol cumsum{
    .schema = "cumsum(Tensor input, int dim, *, dtype? dtype=None) -> Tensor",
    .torch = "torch.cumsum torch.Tensor.cumsum torch.Tensor.cumsum_",
    .tags = kPure,
    .meta = cumsum_meta,
    .vjp = cumsum_vjp,
};
constinit const Symbol cumprod{
    .schema = "cumprod(Tensor input, int dim, *, dtype? dtype=None) -> Tensor",
    .torch = "torch.cumprod torch.Tensor.cumprod torch.Tensor.cumprod_",
    .tags = kPure,
    .meta = cumsum_meta,
    .vjp = cumprod_vjp,
};
constinit const Symbol logcumsumexp{
    .schema = "logcumsumexp(Tensor input, int dim) -> Tensor",
    .torch = "torch.logcumsumexp torch.Tensor.logcumsumexp",
    .tags = kPure,
    .meta = logcumsumexp_meta,
    .vjp = logcumsumexp_vjp,
};
constinit const Symbol cummax{
    .schema = "cummax(Tensor input, int dim) -> (Tensor, Tensor)",
    .torch = "torch.cummax torch.Tensor.cummax",
    .tags = kPure,
    .meta = cummax_meta,
    .vjp = cummax_vjp,
};
constinit const Symbol cummin{
    .schema = "cummin(Tensor input, int dim) -> (Tensor, Tensor)",
    .torch = "torch.cummin torch.Tensor.cummin",
    .tags = kPure,
    .meta = cummax_meta,
    .vjp = cummax_vjp,
};
constinit const Symbol diff{
    .schema =
        "diff(Tensor input, int n=1, int dim=-1, Tensor? prepend=None, Tensor? "
        "append=None) -> Tensor",
    .torch = "torch.diff torch.Tensor.diff",
    .tags = kPure,
    .meta = diff_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg x = in["input"], dim = in["dim"];
      const TensorType& t = in.type("input");
      if (t.dtype == DType::kBool) in.unsupported("the decomposition for bool");
      const int64_t last = t.shape[meta::wrap_dim(in, in.integer("dim"), t.ndim())].value() - 1;
      return narrow(x, dim, 1, last) - narrow(x, dim, 0, last);
    },
};

std::span<const Symbol* const> scan_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_SCAN_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
