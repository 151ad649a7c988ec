#include "ops/creation.h"

#include <cmath>

#include "ops/families.h"
#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/shape.h"

// What every factory takes after its own arguments.
#define FULMEN_FACTORY                                                                    \
  "dtype? dtype=None, layout? layout=None, device? device=None, bool? pin_memory=False, " \
  "bool? requires_grad=False"

namespace fulmen {
namespace meta {

TensorType created(Call& in, std::span<const Dim> shape, DType dtype) {
  const auto is_set = [&](std::string_view param) {
    return in.symbol().info->schema.index(param) >= 0 && in.has(param) && in.flag(param);
  };
  if (is_set("pin_memory")) in.unsupported("pinned memory");
  if (is_set("requires_grad")) in.unsupported("requires_grad=True");
  if (in.has("layout") && in["layout"].text() != "strided") {
    in.unsupported("layout ", in["layout"].text());
  }
  TensorType out;
  out.dtype = in.dtype("dtype").value_or(dtype);
  const TensorProxy* like = in.size() ? in[size_t{0}].tensor() : nullptr;
  out.device = in.device("device").value_or(like ? like->type.device : in.builder().default_device);
  if (out.device.type == DeviceType::kCUDA && out.device.index < 0) {
    in.unsupported("a CUDA device without index");
  }
  for (const Dim d : shape) {
    if (d.value_or(0) < 0) {
      in.fail(ErrorKind::kRuntime, "negative-size",
              "Trying to create tensor with negative dimension ", d.value(), ": ",
              shape_text(shape));
    }
  }
  out.shape = Dims(shape);
  out.strides = contiguous_strides(shape);
  return out;
}

void require_fits(const Call& in, const Arg& number, DType dtype) {
  const auto refuse = [&] { in.unsupported("a number that may not fit ", name(dtype)); };
  if (is_complex(dtype) || dtype == DType::kBool || number.kind() == Arg::Kind::kBool) return;
  if (number.kind() == Arg::Kind::kComplex) refuse();
  if (number.kind() == Arg::Kind::kFloat) {
    const double v = number.real();
    const bool finite = std::isfinite(v);
    if (is_integral(dtype) && (!finite || std::abs(v) > 127)) refuse();
    if (finite && dtype == DType::kFloat16 && std::abs(v) > 65504) refuse();
    // The largest finite numbers, as torch.finfo has them.
    const double largest =
        dtype == DType::kBFloat16 ? 3.3895313892515355e+38 : 3.4028234663852886e+38;
    if (finite && is_floating(dtype) && dtype != DType::kFloat64 && std::abs(v) > largest) refuse();
    return;
  }
  if (number.kind() != Arg::Kind::kInt) {
    if (dtype != DType::kInt64 && !is_floating(dtype)) refuse();
    return;
  }
  const int64_t limit = dtype == DType::kFloat16                     ? 65504
                        : itemsize(dtype) == 1                       ? 127
                        : itemsize(dtype) == 2 && is_integral(dtype) ? 32767
                        : dtype == DType::kInt32                     ? 2147483647
                                                                     : INT64_MAX;
  if (number.integer() > limit || number.integer() < -limit) refuse();
  if (number.integer() < 0 && (dtype == DType::kUInt8 || dtype == DType::kUInt16 ||
                               dtype == DType::kUInt32 || dtype == DType::kUInt64)) {
    refuse();
  }
}

}  // namespace meta

namespace ops {
namespace {

// empty() and its kin hold whatever the memory held: two calls are never merged or computed ahead,
// so they are not kPure.
constexpr uint32_t kUninitialized = kCreation | kNonDifferentiable;
constexpr uint32_t kFactory = kPure | kCreation | kNonDifferentiable;
constexpr uint32_t kLike = kPure | kNonDifferentiable;

Arg factory_meta(Call& in) {
  return in.make(meta::created(in, in.dims("size"), in.builder().default_dtype));
}

Arg empty_meta(Call& in) {
  TensorType out = meta::created(in, in.dims("size"), in.builder().default_dtype);
  out.strides = meta::format_strides(in, out.shape, in["memory_format"]);
  return in.make(out);
}

Arg full_meta(Call& in) {
  const TensorType out =
      meta::created(in, in.dims("size"), meta::scalar_dtype(in, in["fill_value"]));
  meta::require_fits(in, in["fill_value"], out.dtype);
  return in.make(out);
}

void require_fill_fits(Call& in, DType dtype) {
  if (in.symbol().info->schema.index("fill_value") < 0) return;
  meta::require_fits(in, in["fill_value"], dtype);
}

Arg like_meta(Call& in) {
  const TensorType& t = in.type("input");
  TensorType out = meta::created(in, t.shape, t.dtype);
  require_fill_fits(in, out.dtype);
  out.strides = meta::format_strides(in, t, in["memory_format"]);
  return in.make(out);
}

Arg new_meta(Call& in) {
  const TensorType out = meta::created(in, in.dims("size"), in.type("input").dtype);
  require_fill_fits(in, out.dtype);
  return in.make(out);
}

struct Number {
  bool is_integer;
  double real;
  int64_t integer;  // truncated
};

Number number_of(Call& in, const Arg& a) {
  if (a.kind() == Arg::Kind::kInt) return {true, static_cast<double>(a.integer()), a.integer()};
  if (a.kind() != Arg::Kind::kFloat) in.unsupported("a bound that is not a constant real number");
  if (!std::isfinite(a.real())) {
    in.fail(ErrorKind::kRuntime, "arange", "unsupported range: a bound is not finite");
  }
  if (std::abs(a.real()) > 9e18) in.unsupported("a large bound");
  return {false, a.real(), static_cast<int64_t>(a.real())};
}

Arg arange_meta(Call& in, const Arg& from, const Arg& to, const Arg& by) {
  const Number start = number_of(in, from), end = number_of(in, to), step = number_of(in, by);
  const bool integers = start.is_integer && end.is_integer && step.is_integer;
  TensorType out = meta::created(in, {}, integers ? DType::kInt64 : in.builder().default_dtype);
  if (is_complex(out.dtype) || out.dtype == DType::kBool) in.unsupported("dtype ", name(out.dtype));
  const auto zero_step = [&] { in.fail(ErrorKind::kValue, "arange", "step must be nonzero"); };
  if (step.real == 0) zero_step();
  if (step.real > 0 ? end.real < start.real : end.real > start.real) {
    in.fail(ErrorKind::kRuntime, "arange",
            "upper bound and lower bound inconsistent with step sign");
  }
  int64_t size = 0;
  if (out.dtype == DType::kInt64) {
    // Bounds and step are truncated first; other integer types truncate the values instead.
    if (step.integer == 0) zero_step();
    const int64_t sign = step.integer > 0 ? 1 : -1;
    size = (end.integer - start.integer + step.integer - sign) / step.integer;
  } else {
    size = static_cast<int64_t>(std::ceil((end.real - start.real) / step.real));
  }
  out.shape = {Dim(size)};
  out.strides = {Dim(1)};
  return in.make(out);
}

Arg linspace_meta(Call& in) {
  const int64_t steps = in.integer("steps");
  if (steps < 0) {
    in.fail(ErrorKind::kRuntime, "linspace", "number of steps must be non-negative");
  }
  const bool is_complex_range =
      in["start"].kind() == Arg::Kind::kComplex || in["end"].kind() == Arg::Kind::kComplex;
  const DType dtype = in.builder().default_dtype;
  const auto given = in.dtype("dtype");
  if (is_complex_range && given && !is_complex(*given)) in.unsupported("a real dtype");
  const Dim shape[] = {Dim(steps)};
  return in.make(meta::created(in, shape, is_complex_range ? complex_dtype(dtype) : dtype));
}

Arg eye_of(Call& in, int64_t n, int64_t m) {
  const Dim shape[] = {Dim(n), Dim(m)};
  if (n < 0 || m < 0) {
    in.fail(ErrorKind::kRuntime, "eye", "n and m must be greater or equal to 0, got ", n, " and ",
            m);
  }
  return in.make(meta::created(in, shape, in.builder().default_dtype));
}

Arg strided_meta(Call& in, DType dtype) {
  const Dims size = in.dims("size"), stride = in.dims("stride");
  if (size.size() != stride.size()) {
    in.fail(ErrorKind::kRuntime, "empty-strided", "mismatch in length of strides and shape. got ",
            size.size(), " sizes and ", stride.size(), " strides");
  }
  for (const Dim d : stride) {
    if (d.value_or(0) < 0) in.unsupported("a negative stride");
  }
  TensorType out = meta::created(in, size, dtype);
  out.strides = stride;
  return in.make(out);
}

Arg complex_meta(Call& in) {
  const DType a = in[size_t{0}].tensor()->type.dtype, b = in[1].tensor()->type.dtype;
  const bool fits = a == DType::kFloat16 || a == DType::kFloat32 || a == DType::kFloat64;
  if (!fits) {
    in.fail(ErrorKind::kRuntime, "complex-parts",
            "Expected both inputs to be Half, Float or Double tensors but got ", name(a), " and ",
            name(b));
  }
  if (a != b) {
    in.fail(ErrorKind::kRuntime, "complex-parts", "Expected object of scalar type ", name(a),
            " but got scalar type ", name(b), " for second argument");
  }
  return meta::pointwise_with(in, in.args().first(2), complex_dtype(a));
}

Arg triangle_indices(Call& in, bool lower) {
  const int64_t rows = in.integer("row"), columns = in.integer("col"),
                offset = in.integer("offset");
  if (rows < 0 || columns < 0) {
    in.fail(ErrorKind::kRuntime, "triangle-indices", "row and col must be non-negative, got ", rows,
            " and ", columns);
  }
  if (rows > (1 << 20)) in.unsupported("many rows");
  int64_t count = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t below = std::clamp<int64_t>(r + offset + (lower ? 1 : 0), 0, columns);
    count += lower ? below : columns - below;
  }
  const Dim shape[] = {Dim(2), Dim(count)};
  return in.make(meta::created(in, shape, DType::kInt64));
}

}  // namespace

Arg scalar_tensor_like(Builder& builder, const Arg& number, const TensorType& like) {
  const Arg args[] = {number, Arg(like.dtype), Arg(), Arg(like.device), Arg(false), Arg(false)};
  return builder.call(scalar_tensor, args);
}

constinit const Symbol zeros{
    .schema = "zeros(int[]* size, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.zeros",
    .tags = kFactory,
    .meta = factory_meta,
};
constinit const Symbol ones{
    .schema = "ones(int[]* size, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.ones",
    .tags = kFactory,
    .meta = factory_meta,
};
constinit const Symbol empty{
    .schema =
        "empty(int[]* size, *, " FULMEN_FACTORY ", memory_format? memory_format=None) -> Tensor",
    .torch = "torch.empty",
    .tags = kUninitialized,
    .meta = empty_meta,
};
constinit const Symbol full{
    .schema = "full(int[] size, Scalar fill_value, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.full",
    .tags = kFactory,
    .meta = full_meta,
};
constinit const Symbol zeros_like{
    .schema = "zeros_like(Tensor input, *, " FULMEN_FACTORY
              ", memory_format? memory_format=None) -> Tensor",
    .torch = "torch.zeros_like",
    .tags = kLike,
    .meta = like_meta,
};
constinit const Symbol ones_like{
    .schema = "ones_like(Tensor input, *, " FULMEN_FACTORY
              ", memory_format? memory_format=None) -> Tensor",
    .torch = "torch.ones_like",
    .tags = kLike,
    .meta = like_meta,
};
constinit const Symbol empty_like{
    .schema = "empty_like(Tensor input, *, " FULMEN_FACTORY
              ", memory_format? memory_format=None) -> Tensor",
    .torch = "torch.empty_like",
    .tags = kNonDifferentiable,
    .meta = like_meta,
};
constinit const Symbol full_like{
    .schema = "full_like(Tensor input, Scalar fill_value, *, " FULMEN_FACTORY
              ", memory_format? memory_format=None) -> Tensor",
    .torch = "torch.full_like",
    .tags = kLike,
    .meta = like_meta,
};
constinit const Symbol new_zeros{
    .schema = "new_zeros(Tensor input, int[]* size, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.Tensor.new_zeros",
    .tags = kLike,
    .meta = new_meta,
};
constinit const Symbol new_ones{
    .schema = "new_ones(Tensor input, int[]* size, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.Tensor.new_ones",
    .tags = kLike,
    .meta = new_meta,
};
constinit const Symbol new_empty{
    .schema = "new_empty(Tensor input, int[]* size, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.Tensor.new_empty",
    .tags = kNonDifferentiable,
    .meta = new_meta,
};
constinit const Symbol new_full{
    .schema =
        "new_full(Tensor input, int[] size, Scalar fill_value, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.Tensor.new_full",
    .tags = kLike,
    .meta = new_meta,
};
constinit const Symbol arange{
    .schema = "arange(Scalar end, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.arange",
    .tags = kFactory,
    .meta = [](Call& in) { return arange_meta(in, Arg(0), in["end"], Arg(1)); },
};
constinit const Symbol arange_start{
    .schema = "arange.start(Scalar start, Scalar end, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.arange",
    .tags = kFactory,
    .meta = [](Call& in) { return arange_meta(in, in["start"], in["end"], Arg(1)); },
};
constinit const Symbol arange_start_step{
    .schema =
        "arange.start_step(Scalar start, Scalar end, Scalar step, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.arange",
    .tags = kFactory,
    .meta = [](Call& in) { return arange_meta(in, in["start"], in["end"], in["step"]); },
};
constinit const Symbol linspace{
    .schema = "linspace(Scalar start, Scalar end, int steps, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.linspace",
    .tags = kFactory,
    .meta = linspace_meta,
};
constinit const Symbol logspace{
    .schema = "logspace(Scalar start, Scalar end, int steps, float base=10.0, *, " FULMEN_FACTORY
              ") -> Tensor",
    .torch = "torch.logspace",
    .tags = kFactory,
    .meta = linspace_meta,
};
constinit const Symbol eye{
    .schema = "eye(int n, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.eye",
    .tags = kFactory,
    .meta = [](Call& in) { return eye_of(in, in.integer("n"), in.integer("n")); },
};
constinit const Symbol eye_m{
    .schema = "eye.m(int n, int m, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.eye",
    .tags = kFactory,
    .meta = [](Call& in) { return eye_of(in, in.integer("n"), in.integer("m")); },
};
constinit const Symbol empty_strided{
    .schema = "empty_strided(int[] size, int[] stride, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.empty_strided",
    .tags = kUninitialized,
    .meta = [](Call& in) { return strided_meta(in, in.builder().default_dtype); },
};
constinit const Symbol new_empty_strided{
    .schema = "new_empty_strided(Tensor input, int[] size, int[] stride, *, " FULMEN_FACTORY
              ") -> Tensor",
    .torch = "torch.Tensor.new_empty_strided",
    .tags = kNonDifferentiable,
    .meta = [](Call& in) { return strided_meta(in, in.type("input").dtype); },
};
constinit const Symbol scalar_tensor{
    .schema = "scalar_tensor(Scalar s, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.scalar_tensor",
    .tags = kFactory,
    .meta =
        [](Call& in) {
          const TensorType out = meta::created(in, {}, in.builder().default_dtype);
          meta::require_fits(in, in["s"], out.dtype);
          return in.make(out);
        },
};
constinit const Symbol complex{
    .schema = "complex(Tensor real, Tensor imag) -> Tensor",
    .torch = "torch.complex",
    .tags = kPure | kPointwise,
    .meta = complex_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(in, [&] { return real(grad); }, [&] { return imag(grad); });
    },
};
constinit const Symbol polar{
    .schema = "polar(Tensor abs, Tensor angle) -> Tensor",
    .torch = "torch.polar",
    .tags = kPure | kPointwise,
    .meta = complex_meta,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      const Arg g = conj_physical(grad);
      return operand_grads(
          in, [&] { return real(g * sgn(out)); },
          [&] {
            const auto* i = in.builder().arena().make<std::complex<double>>(0.0, 1.0);
            return real(g * (out * Arg::complex(i)));
          });
    },
};
constinit const Symbol tril_indices{
    .schema = "tril_indices(int row, int col, int offset=0, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.tril_indices",
    .tags = kFactory,
    .meta = [](Call& in) { return triangle_indices(in, true); },
};
constinit const Symbol triu_indices{
    .schema = "triu_indices(int row, int col, int offset=0, *, " FULMEN_FACTORY ") -> Tensor",
    .torch = "torch.triu_indices",
    .tags = kFactory,
    .meta = [](Call& in) { return triangle_indices(in, false); },
};

std::span<const Symbol* const> creation_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_CREATION_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace ops
}  // namespace fulmen
