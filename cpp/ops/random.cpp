#include "ops/random.h"

#include "ops/creation.h"
#include "ops/families.h"
#include "ops/meta.h"
#include "ops/shape.h"

#define FULMEN_FACTORY                                                                      \
  "any generator=None, dtype? dtype=None, layout? layout=None, device? device=None, bool? " \
  "pin_memory=False, bool? requires_grad=False"

namespace fulmen::ops {
namespace {

constexpr uint32_t kFactory = kRandom | kCreation | kNonDifferentiable;
constexpr uint32_t kLike = kRandom | kNonDifferentiable;

// The program draws from the default generator; another one is an object that it can't hold.
void require_default_generator(Call& in) {
  if (in.has("generator")) in.unsupported("a generator");
}

Arg factory_meta(Call& in, DType dtype) {
  require_default_generator(in);
  return in.make(meta::created(in, in.dims("size"), dtype));
}

void require_range(Call& in, int64_t low, int64_t high) {
  if (low >= high) {
    in.fail(ErrorKind::kRuntime, "random-range", "random_ expects 'from' to be less than 'to', ",
            "but got from=", low, " >= to=", high);
  }
}

Arg like_meta(Call& in) {
  require_default_generator(in);
  const TensorType& t = in.type("input");
  TensorType out = meta::created(in, t.shape, t.dtype);
  out.strides = meta::format_strides(in, t, in["memory_format"]);
  return in.make(out);
}

void require_floating(Call& in, DType t) {
  if (!is_floating(t)) in.unsupported("dtype ", name(t));
}

Arg float_factory_meta(Call& in) {
  const DType dtype = in.dtype("dtype").value_or(in.builder().default_dtype);
  require_floating(in, dtype);
  return factory_meta(in, dtype);
}

Arg randint_like_meta(Call& in, int64_t low) {
  const DType dtype = in.dtype("dtype").value_or(in.type("input").dtype);
  if (is_complex(dtype) || dtype == DType::kBool) in.unsupported("dtype ", name(dtype));
  require_range(in, low, in.integer("high"));
  return like_meta(in);
}

Arg float_like_meta(Call& in) {
  require_floating(in, in.dtype("dtype").value_or(in.type("input").dtype));
  return like_meta(in);
}

Arg bernoulli_meta(Call& in) {
  require_default_generator(in);
  const TensorType& t = in.type("input");
  require_floating(in, t.dtype);
  return meta::fresh(in, t, t.shape, t.dtype);
}

// The functional forms of in-place operations fill a copy of the tensor.
Arg filled_meta(Call& in) {
  require_default_generator(in);
  if (is_complex(in.type("input").dtype)) in.unsupported("a complex tensor");
  TensorType out = in.type("input");
  out.strides = meta::preserved_strides(out);
  return in.make(out);
}

Arg float_filled_meta(Call& in) {
  require_floating(in, in.type("input").dtype);
  return filled_meta(in);
}

Arg bernoulli_p_meta(Call& in) {
  if (in["p"].is_number()) {
    const double p = in.real("p");
    if (!(p >= 0 && p <= 1)) {
      in.fail(ErrorKind::kRuntime, "probability",
              "bernoulli_ expects p to be in [0, 1], but got p=", p);
    }
  }
  require_default_generator(in);
  if (is_complex(in.type("input").dtype)) in.unsupported("a complex tensor");
  return meta::fresh(in, in.type("input"), in.type("input").shape, in.type("input").dtype);
}

Arg bernoulli_tensor_meta(Call& in) {
  Dims shape = in.type("input").shape;
  if (is_zero(numel(in.type("input")))) in.unsupported("an empty tensor");
  meta::expand_strides(in, in.type("p"), shape);
  require_floating(in, in.type("p").dtype);
  return filled_meta(in);
}

// Without bounds every type has its own; with them, eager's checks of bool are the fallback's.
Arg random_filled_meta(Call& in) {
  if (in.type("input").dtype == DType::kBool) in.unsupported("dtype bool");
  if (in.symbol().info->schema.index("from") >= 0 && in.has("to")) {
    require_range(in, in.integer("from"), in.integer("to"));
  }
  return filled_meta(in);
}

Arg normal_meta(Call& in, const TensorType& like, const Dims& shape) {
  require_default_generator(in);
  require_floating(in, like.dtype);
  if (in["std"].is_number() && in.real("std") < 0) {
    in.fail(ErrorKind::kRuntime, "normal-std", "normal expects std >= 0.0, but found std ",
            in.real("std"));
  }
  return meta::fresh(in, like, shape, like.dtype);
}

Arg multinomial_meta(Call& in) {
  require_default_generator(in);
  const TensorType& t = in.type("input");
  const int64_t samples = in.integer("num_samples");
  if (t.ndim() != 1 && t.ndim() != 2) {
    in.fail(ErrorKind::kRuntime, "multinomial", "prob_dist must be 1 or 2 dim");
  }
  if (!is_floating(t.dtype)) {
    in.fail(ErrorKind::kRuntime, "multinomial", "multinomial only supports floating-point dtypes ",
            "for input, got: ", name(t.dtype));
  }
  if (samples <= 0) {
    in.fail(ErrorKind::kRuntime, "multinomial", "cannot sample n_sample <= 0 samples");
  }
  if (!in.flag("replacement") && samples > t.shape.back().value()) {
    in.fail(ErrorKind::kRuntime, "multinomial",
            "cannot sample n_sample > prob_dist.size(-1) samples without replacement");
  }
  Dims shape = t.shape;
  shape.back() = samples;
  return meta::fresh(in, t, shape, DType::kInt64);
}

// Autograd has zeros for the tensors that a sample's distribution depends on.
Args no_dependence(Call& in, const Arg&, const Arg&) {
  Args out;
  for (const Arg& a : in.args()) {
    const bool wanted = a.is_tensor() && a.tensor()->type.requires_grad;
    out.push_back(wanted ? zeros_like(a) : Arg());
  }
  return out;
}

}  // namespace

constinit const Symbol bernoulli{
    .schema = "bernoulli(Tensor input, *, any generator=None) -> Tensor",
    .torch = "torch.bernoulli torch.Tensor.bernoulli",
    .tags = kRandom,
    .meta = bernoulli_meta,
    .vjp = no_dependence,
};
constinit const Symbol bernoulli_p{
    .schema = "bernoulli.p(Tensor input, float p, *, any generator=None) -> Tensor",
    .torch = "torch.bernoulli torch.Tensor.bernoulli torch.Tensor.bernoulli_",
    .tags = kRandom,
    .meta = bernoulli_p_meta,
    .vjp = no_dependence,
};
constinit const Symbol bernoulli_tensor{
    .schema = "bernoulli.Tensor(Tensor input, Tensor p, *, any generator=None) -> Tensor",
    .torch = "torch.ops.aten.bernoulli torch.Tensor.bernoulli_",
    .tags = kRandom,
    .meta = bernoulli_tensor_meta,
    .vjp = no_dependence,
};
constinit const Symbol rand{
    .schema = "rand(int[]* size, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.rand",
    .tags = kFactory,
    .meta = float_factory_meta,
};
constinit const Symbol randn{
    .schema = "randn(int[]* size, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.randn",
    .tags = kFactory,
    .meta = float_factory_meta,
};
constinit const Symbol randint{
    .schema = "randint(int high, int[] size, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.randint",
    .tags = kFactory,
    .meta =
        [](Call& in) {
          require_range(in, 0, in.integer("high"));
          return factory_meta(in, DType::kInt64);
        },
};
constinit const Symbol randint_low{
    .schema = "randint.low(int low, int high, int[] size, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.randint",
    .tags = kFactory,
    .meta =
        [](Call& in) {
          require_range(in, in.integer("low"), in.integer("high"));
          return factory_meta(in, DType::kInt64);
        },
};
constinit const Symbol randperm{
    .schema = "randperm(int n, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.randperm",
    .tags = kFactory,
    .meta =
        [](Call& in) {
          require_default_generator(in);
          if (in.integer("n") < 0) {
            in.fail(ErrorKind::kRuntime, "randperm", "n must be non-negative, got",
                    in.integer("n"));
          }
          const Dim shape[] = {Dim(in.integer("n"))};
          return in.make(meta::created(in, shape, DType::kInt64));
        },
};
constinit const Symbol rand_like{
    .schema = "rand_like(Tensor input, *, " FULMEN_FACTORY
              ", memory_format? memory_format=None) -> Tensor",
    .torch = "torch.rand_like",
    .tags = kLike,
    .meta = float_like_meta,
};
constinit const Symbol randn_like{
    .schema = "randn_like(Tensor input, *, " FULMEN_FACTORY
              ", memory_format? memory_format=None) -> Tensor",
    .torch = "torch.randn_like",
    .tags = kLike,
    .meta = float_like_meta,
};
constinit const Symbol randint_like{
    .schema = "randint_like(Tensor input, int high, *, " FULMEN_FACTORY
              ", memory_format? memory_format=None) -> Tensor",
    .torch = "torch.randint_like",
    .tags = kLike,
    .meta = [](Call& in) { return randint_like_meta(in, 0); },
};
constinit const Symbol randint_like_low{
    .schema = "randint_like.low_dtype(Tensor input, int low, int high, *, " FULMEN_FACTORY
              ", memory_format? memory_format=None) -> Tensor",
    .torch = "torch.randint_like",
    .tags = kLike,
    .meta = [](Call& in) { return randint_like_meta(in, in.integer("low")); },
};
constinit const Symbol normal_tensor_float{
    .schema = "normal.Tensor_float(Tensor mean, float std=1, *, any generator=None) -> Tensor",
    .torch = "torch.normal",
    .tags = kRandom,
    .meta = [](Call& in) { return normal_meta(in, in.type("mean"), in.type("mean").shape); },
    .vjp = no_dependence,
};
constinit const Symbol normal_float_tensor{
    .schema = "normal.float_Tensor(float mean, Tensor std, *, any generator=None) -> Tensor",
    .torch = "torch.normal",
    .tags = kRandom,
    .meta = [](Call& in) { return normal_meta(in, in.type("std"), in.type("std").shape); },
    .vjp = no_dependence,
};
constinit const Symbol normal_tensor_tensor{
    .schema = "normal.Tensor_Tensor(Tensor mean, Tensor std, *, any generator=None) -> Tensor",
    .torch = "torch.normal",
    .tags = kRandom,
    .meta =
        [](Call& in) {
          const TensorType &mean = in.type("mean"), &std = in.type("std");
          if (mean.dtype != std.dtype || mean.device != std.device) {
            in.unsupported("a mean and std of different dtypes or devices");
          }
          return normal_meta(in, mean, meta::broadcast(in, mean.shape, std.shape));
        },
    .vjp = no_dependence,
};
constinit const Symbol normal{
    .schema =
        "normal.float_float(float mean, float std, int[] size, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.normal",
    .tags = kFactory,
    .meta =
        [](Call& in) {
          if (in.real("std") < 0) {
            in.fail(ErrorKind::kRuntime, "normal-std", "normal expects std >= 0.0, but found std ",
                    in.real("std"));
          }
          return float_factory_meta(in);
        },
};
constinit const Symbol multinomial{
    .schema =
        "multinomial(Tensor input, int num_samples, bool replacement=False, *, any "
        "generator=None) -> Tensor",
    .torch = "torch.multinomial torch.Tensor.multinomial",
    .tags = kLike,
    .meta = multinomial_meta,
};
constinit const Symbol uniform{
    .schema = "uniform(Tensor input, float from=0, float to=1, *, any generator=None) -> Tensor",
    .torch = "torch.ops.aten.uniform torch.Tensor.uniform_",
    .tags = kRandom,
    .meta = float_filled_meta,
    .vjp = no_dependence,
};
constinit const Symbol normal_functional{
    .schema =
        "normal_functional(Tensor input, float mean=0, float std=1, *, any generator=None) "
        "-> Tensor",
    .torch = "torch.ops.aten.normal_functional torch.Tensor.normal_",
    .tags = kRandom,
    .meta = float_filled_meta,
    .vjp = no_dependence,
};
constinit const Symbol exponential{
    .schema = "exponential(Tensor input, float lambd=1, *, any generator=None) -> Tensor",
    .torch = "torch.ops.aten.exponential torch.Tensor.exponential_",
    .tags = kRandom,
    .meta = float_filled_meta,
    .vjp = no_dependence,
};
constinit const Symbol log_normal{
    .schema =
        "log_normal(Tensor input, float mean=1, float std=2, *, any generator=None) -> "
        "Tensor",
    .torch = "torch.ops.aten.log_normal torch.Tensor.log_normal_",
    .tags = kRandom,
    .meta = float_filled_meta,
    .vjp = no_dependence,
};
constinit const Symbol geometric{
    .schema = "geometric(Tensor input, float p, *, any generator=None) -> Tensor",
    .torch = "torch.ops.aten.geometric torch.Tensor.geometric_",
    .tags = kRandom,
    .meta = float_filled_meta,
    .vjp = no_dependence,
};
constinit const Symbol cauchy{
    .schema =
        "cauchy(Tensor input, float median=0, float sigma=1, *, any generator=None) -> "
        "Tensor",
    .torch = "torch.ops.aten.cauchy torch.Tensor.cauchy_",
    .tags = kRandom,
    .meta = float_filled_meta,
    .vjp = no_dependence,
};
constinit const Symbol random_from{
    .schema = "random.from(Tensor input, int from, int? to, *, any generator=None) -> Tensor",
    .torch = "torch.ops.aten.random torch.Tensor.random_",
    .tags = kRandom,
    .meta = random_filled_meta,
    .vjp = no_dependence,
};
constinit const Symbol random_to{
    .schema = "random.to(Tensor input, int to, *, any generator=None) -> Tensor",
    .torch = "torch.ops.aten.random torch.Tensor.random_",
    .tags = kRandom,
    .meta = random_filled_meta,
    .vjp = no_dependence,
};
constinit const Symbol random{
    .schema = "random(Tensor input, *, any generator=None) -> Tensor",
    .torch = "torch.ops.aten.random torch.Tensor.random_",
    .tags = kRandom,
    .meta = filled_meta,
    .vjp = no_dependence,
};

std::span<const Symbol* const> random_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_RANDOM_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
