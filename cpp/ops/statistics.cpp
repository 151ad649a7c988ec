#include "ops/statistics.h"

#include <algorithm>

#include "ops/arith.h"
#include "ops/comparison.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/reduce.h"
#include "ops/reduction.h"
#include "ops/reduction_gradient.h"
#include "ops/select.h"

namespace fulmen::ops {
namespace {

Arg moment_meta(Call& in) {
  const DType own = in.type("input").dtype;
  meta::require(in, own, meta::kInexact);
  return meta::reduce(in, real_dtype(own));
}

Arg moments_meta(Call& in) {
  const Arg moment = moment_meta(in);
  return in.tuple({moment, meta::reduce(in, in.type("input").dtype)});
}

bool has_param(const Call& in, std::string_view name) {
  return in.symbol().info->schema.index(name) >= 0;
}

// The mean over the reduced dimensions.
Arg mean_over(Call& in, const Arg& x, bool keepdim) {
  const Arg dim = has_param(in, "dim") ? in["dim"] : Arg();
  return record(mean_dim, {x, dim, keepdim, Arg()});
}

Arg average(Call& in) {
  return mean_over(in, in["input"], has_param(in, "keepdim") && in.flag("keepdim"));
}

// What the sum of squares is divided by.
double degrees_of_freedom(Call& in) {
  double correction = 1.0;
  if (has_param(in, "unbiased")) {
    correction = in.flag("unbiased") ? 1.0 : 0.0;
  } else if (in.has("correction")) {
    correction = in.real("correction");
  }
  const double count = static_cast<double>(meta::reduced_count(in).value());
  return std::max(count - correction, 0.0);
}

Arg variance(Call& in) {
  if (is_complex(in.type("input").dtype)) in.unsupported("the decomposition of a complex call");
  Opmath math(in);
  const Arg x = math.up(in["input"]);
  const Arg squares = square(x - mean_over(in, x, true));
  const Arg dim = has_param(in, "dim") ? in["dim"] : Arg();
  const bool keepdim = has_param(in, "keepdim") && in.flag("keepdim");
  const Arg total = record(sum_dim, {squares, dim, keepdim, Arg()});
  return math.down(total / degrees_of_freedom(in));
}

}  // namespace

constinit const Symbol var{
    .schema = "var(Tensor input, bool unbiased=True) -> Tensor",
    .torch = "torch.var torch.Tensor.var",
    .tags = kPure | kReduction,
    .meta = moment_meta,
    .decompose = [](Call& in) -> Arg { return variance(in); },
    .vjp = var_vjp,
};
constinit const Symbol var_dim{
    .schema =
        "var.dim(Tensor input, int[1]? dim, bool unbiased=True, bool keepdim=False) -> "
        "Tensor",
    .torch = "torch.var torch.Tensor.var",
    .tags = kPure | kReduction,
    .meta = moment_meta,
    .decompose = [](Call& in) -> Arg { return variance(in); },
    .vjp = var_vjp,
};
constinit const Symbol var_correction{
    .schema =
        "var.correction(Tensor input, int[1]? dim=None, *, Scalar? correction=None, bool "
        "keepdim=False) -> Tensor",
    .torch = "torch.var torch.Tensor.var",
    .tags = kPure | kReduction,
    .meta = moment_meta,
    .decompose = [](Call& in) -> Arg { return variance(in); },
    .vjp = var_vjp,
};
constinit const Symbol standard_deviation{
    .schema = "std(Tensor input, bool unbiased=True) -> Tensor",
    .torch = "torch.std torch.Tensor.std",
    .tags = kPure | kReduction,
    .meta = moment_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg v = variance(in);
      return sqrt(v);
    },
    .vjp = std_vjp,
};
constinit const Symbol standard_deviation_dim{
    .schema =
        "std.dim(Tensor input, int[1]? dim, bool unbiased=True, bool keepdim=False) -> "
        "Tensor",
    .torch = "torch.std torch.Tensor.std",
    .tags = kPure | kReduction,
    .meta = moment_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg v = variance(in);
      return sqrt(v);
    },
    .vjp = std_vjp,
};
constinit const Symbol standard_deviation_correction{
    .schema =
        "std.correction(Tensor input, int[1]? dim=None, *, Scalar? correction=None, bool "
        "keepdim=False) -> Tensor",
    .torch = "torch.std torch.Tensor.std",
    .tags = kPure | kReduction,
    .meta = moment_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg v = variance(in);
      return sqrt(v);
    },
    .vjp = std_vjp,
};
constinit const Symbol var_mean{
    .schema = "var_mean(Tensor input, bool unbiased=True) -> (Tensor, Tensor)",
    .torch = "torch.var_mean",
    .tags = kPure | kReduction,
    .meta = moments_meta,
    .decompose = [](Call& in) -> Arg { return in.tuple({variance(in), average(in)}); },
    .vjp = var_mean_vjp,
};
constinit const Symbol var_mean_dim{
    .schema =
        "var_mean.dim(Tensor input, int[1]? dim, bool unbiased=True, bool keepdim=False) "
        "-> (Tensor, Tensor)",
    .torch = "torch.var_mean",
    .tags = kPure | kReduction,
    .meta = moments_meta,
    .decompose = [](Call& in) -> Arg { return in.tuple({variance(in), average(in)}); },
    .vjp = var_mean_vjp,
};
constinit const Symbol var_mean_correction{
    .schema =
        "var_mean.correction(Tensor input, int[1]? dim=None, *, Scalar? correction=None, "
        "bool keepdim=False) -> (Tensor, Tensor)",
    .torch = "torch.var_mean",
    .tags = kPure | kReduction,
    .meta = moments_meta,
    .decompose = [](Call& in) -> Arg { return in.tuple({variance(in), average(in)}); },
    .vjp = var_mean_vjp,
};
constinit const Symbol std_mean{
    .schema = "std_mean(Tensor input, bool unbiased=True) -> (Tensor, Tensor)",
    .torch = "torch.std_mean",
    .tags = kPure | kReduction,
    .meta = moments_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg v = variance(in);
      return in.tuple({sqrt(v), average(in)});
    },
    .vjp = std_mean_vjp,
};
constinit const Symbol std_mean_dim{
    .schema =
        "std_mean.dim(Tensor input, int[1]? dim, bool unbiased=True, bool keepdim=False) "
        "-> (Tensor, Tensor)",
    .torch = "torch.std_mean",
    .tags = kPure | kReduction,
    .meta = moments_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg v = variance(in);
      return in.tuple({sqrt(v), average(in)});
    },
    .vjp = std_mean_vjp,
};
constinit const Symbol std_mean_correction{
    .schema =
        "std_mean.correction(Tensor input, int[1]? dim=None, *, Scalar? correction=None, "
        "bool keepdim=False) -> (Tensor, Tensor)",
    .torch = "torch.std_mean",
    .tags = kPure | kReduction,
    .meta = moments_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg v = variance(in);
      return in.tuple({sqrt(v), average(in)});
    },
    .vjp = std_mean_vjp,
};

std::span<const Symbol* const> statistics_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_STATISTICS_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
