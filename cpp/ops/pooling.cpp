#include "ops/pooling.h"

#include "ops/check.h"
#include "ops/families.h"
#include "ops/meta.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

template <class... Parts>
[[noreturn]] void refuse(const Call& in, const Parts&... parts) {
  in.fail(ErrorKind::kRuntime, "pool-shape", parts...);
}

void check_input(const Call& in, size_t spatial) {
  const TensorType& x = in.type("input");
  const int64_t n = static_cast<int64_t>(spatial);
  if (x.ndim() != spatial + 1 && x.ndim() != spatial + 2) {
    refuse(in, "expected a ", n + 1, "D or ", n + 2, "D input; got shape ",
           meta::shape_text(x.shape));
  }
  // The batch alone may be empty.
  for (size_t i = x.ndim() == spatial + 2; i < x.ndim(); ++i) {
    if (is_zero(x.shape[i])) in.unsupported("an empty dimension");
  }
  if (x.dtype == DType::kBool || is_complex(x.dtype)) in.unsupported("dtype ", name(x.dtype));
}

// The result of pooling to `sizes`, channels_last where the input suggests it.
Arg pooled(Call& in, std::span<const Dim> sizes, bool keeps_channels_last = true) {
  const TensorType& x = in.type("input");
  const size_t spatial = sizes.size();
  TensorType out;
  out.dtype = x.dtype;
  out.device = x.device;
  for (size_t i = 0; i + spatial < x.ndim(); ++i) out.shape.push_back(x.shape[i]);
  for (const Dim d : sizes) out.shape.push_back(d);
  out.strides = contiguous_strides(out.shape);
  // 1-d pooling is computed in 2-d, with a height of 1.
  const TensorType seen = spatial == 1 ? meta::unsqueezed(x, x.ndim() - 1) : x;
  if (keeps_channels_last && meta::suggests_channels_last(seen)) {
    if (x.device.type != DeviceType::kCPU || is_zero(x.shape[0])) {
      in.unsupported("a channels_last input");
    }
    Dims wide = out.shape;
    if (spatial == 1) wide.insert(wide.size() - 1, Dim(1));
    out.strides = meta::channels_last_strides(wide);
    if (spatial == 1) out.strides.erase(out.strides.size() - 2);
  }
  return in.make(std::move(out));
}

int64_t floor_quotient(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

template <size_t kSpatial>
Dims window_sizes(const Call& in, bool has_dilation) {
  const TensorType& x = in.type("input");
  const auto kernel = in.integers("kernel_size", kSpatial);
  auto stride = in.integers("stride", kSpatial);
  const auto padding = in.integers("padding", kSpatial);
  SmallVec<int64_t, 6> dilation(kSpatial, 1);
  if (has_dilation) dilation = in.integers("dilation", kSpatial);
  if (stride.empty()) stride = kernel;
  if (kernel.size() != kSpatial || stride.size() != kSpatial || padding.size() != kSpatial ||
      dilation.size() != kSpatial) {
    refuse(in, "kernel_size, stride, padding and dilation must have ",
           static_cast<int64_t>(kSpatial), " elements or one");
  }
  const bool ceil = in.flag("ceil_mode");
  Dims sizes;
  for (size_t i = 0; i < kSpatial; ++i) {
    const int64_t k = kernel[i], s = stride[i], p = padding[i], d = dilation[i];
    if (k <= 0 || s <= 0 || d <= 0) {
      refuse(in, "kernel size, stride and dilation must be greater than zero");
    }
    if (p < 0 || p > (d * (k - 1) + 1) / 2) {
      refuse(in, "padding must be non-negative and at most half of the effective kernel size; got ",
             p, " for kernel size ", k);
    }
    const int64_t size = x.shape[x.ndim() - kSpatial + i].value();
    int64_t out = floor_quotient(size + 2 * p - d * (k - 1) - 1 + (ceil ? s - 1 : 0), s) + 1;
    // The last window must start inside the input or its left padding.
    if (ceil && (out - 1) * s >= size + p) --out;
    if (out < 1) {
      refuse(in, "input of shape ", meta::shape_text(x.shape), " is too small for kernel size ", k);
    }
    sizes.push_back(Dim(out));
  }
  return sizes;
}

template <size_t kSpatial>
Arg max_pool_meta(Call& in) {
  if (in.flag("return_indices")) in.unsupported("return_indices=True");
  check_input(in, kSpatial);
  const Dims sizes = window_sizes<kSpatial>(in, true);
  const TensorType& x = in.type("input");
  if (kSpatial == 3 && x.ndim() == 4 && meta::suggests_channels_last(x)) {
    in.unsupported("an unbatched input that looks like channels_last");
  }
  // Without gradient ATen's own max_pool1d runs, whose result is contiguous.
  const bool direct = kSpatial == 1 && !(x.requires_grad && in.builder().grad_enabled) &&
                      x.device.type == DeviceType::kCPU;
  return pooled(in, sizes, !direct);
}

// (values, indices). Eager gives both the format of the input.
template <size_t kSpatial>
Arg max_pool_with_indices_meta(Call& in) {
  check_input(in, kSpatial);
  const Dims sizes = window_sizes<kSpatial>(in, true);
  const TensorType& x = in.type("input");
  if (kSpatial == 3 && meta::suggests_channels_last(x)) in.unsupported("a channels_last input");
  const Arg values = pooled(in, sizes);
  TensorType indices = values.tensor()->type;
  indices.dtype = DType::kInt64;
  return in.tuple({values, in.make(std::move(indices))});
}

template <size_t kSpatial>
Arg max_unpool_meta(Call& in) {
  check_input(in, kSpatial);
  const TensorType &x = in.type("input"), &indices = in.type("indices");
  const auto size = in.integers("output_size");
  if (size.size() != kSpatial || indices.dtype != DType::kInt64 ||
      !meta::same_shape(x.shape, indices.shape)) {
    in.unsupported("these indices or sizes");
  }
  for (const int64_t s : size) {
    if (s <= 0) in.unsupported("an empty output");
  }
  for (const Dim d : x.shape) {
    if (d.value() == 0) in.unsupported("an empty input");
  }
  Dims sizes;
  for (const int64_t s : size) sizes.push_back(Dim(s));
  return pooled(in, sizes, kSpatial != 3);
}

template <size_t kSpatial>
Arg avg_pool_meta(Call& in) {
  check_input(in, kSpatial);
  if (is_integral(in.type("input").dtype)) in.unsupported("an integer input");
  if (kSpatial > 1 && in.has("divisor_override") && in.integer("divisor_override") == 0) {
    refuse(in, "divisor_override must not be zero");
  }
  const Dims sizes = window_sizes<kSpatial>(in, false);
  return pooled(in, sizes, kSpatial != 3);
}

template <size_t kSpatial>
Arg adaptive_meta(Call& in, bool average) {
  const TensorType& x = in.type("input");
  // Eager raises errors of two types here.
  if (x.ndim() <= kSpatial) in.unsupported("fewer dimensions than the pooling has");
  check_input(in, kSpatial);
  if (is_integral(x.dtype)) in.unsupported("an integer input");
  const auto requested = in.integers("output_size", kSpatial);
  if (requested.size() != kSpatial) {
    refuse(in, "output_size must have ", static_cast<int64_t>(kSpatial), " elements or one");
  }
  Dims sizes;
  bool to_one = true;
  for (const int64_t size : requested) {
    if (size < 0) refuse(in, "elements of output_size must be greater than or equal to 0");
    if (size == 0) in.unsupported("an empty output");
    to_one = to_one && size == 1;
    sizes.push_back(Dim(size));
  }
  // In 3-d only the mean, which takes over for size 1, keeps the layout.
  return pooled(in, sizes, kSpatial != 3 || (average && to_one));
}

template <size_t kSpatial>
Arg adaptive_avg_meta(Call& in) {
  return adaptive_meta<kSpatial>(in, true);
}

Arg adaptive_max_meta(Call& in) {
  if (in.flag("return_indices")) in.unsupported("return_indices=True");
  return adaptive_meta<2>(in, false);
}

}  // namespace

constinit const Symbol max_pool1d{
    .schema =
        "max_pool1d(Tensor input, int[1] kernel_size, int[1]? stride=None, "
        "int[1] padding=0, int[1] dilation=1, bool ceil_mode=False, "
        "bool return_indices=False) -> Tensor",
    .torch = "torch.nn.functional.max_pool1d torch.max_pool1d",
    .tags = kPure,
    .meta = max_pool_meta<1>,
    .augmented = max_pool_steps,
    .aten = "max_pool1d(input, kernel_size, stride ?? kernel_size, padding, dilation, ceil_mode)",
};
constinit const Symbol max_pool2d{
    .schema =
        "max_pool2d(Tensor input, int[2] kernel_size, int[2]? stride=None, "
        "int[2] padding=0, int[2] dilation=1, bool ceil_mode=False, "
        "bool return_indices=False) -> Tensor",
    .torch = "torch.nn.functional.max_pool2d torch.max_pool2d",
    .tags = kPure,
    .meta = max_pool_meta<2>,
    .augmented = max_pool_steps,
    .aten = "max_pool2d(input, kernel_size, stride ?? kernel_size, padding, dilation, ceil_mode)",
};
constinit const Symbol max_pool3d{
    .schema =
        "max_pool3d(Tensor input, int[3] kernel_size, int[3]? stride=None, "
        "int[3] padding=0, int[3] dilation=1, bool ceil_mode=False, "
        "bool return_indices=False) -> Tensor",
    .torch = "torch.nn.functional.max_pool3d torch.max_pool3d",
    .tags = kPure,
    .meta = max_pool_meta<3>,
    .augmented = max_pool_steps,
    .aten = "max_pool3d(input, kernel_size, stride ?? kernel_size, padding, dilation, ceil_mode)",
};
constinit const Symbol avg_pool1d{
    .schema =
        "avg_pool1d(Tensor input, int[1] kernel_size, int[1]? stride=None, "
        "int[1] padding=0, bool ceil_mode=False, bool count_include_pad=True) -> Tensor",
    .torch = "torch.nn.functional.avg_pool1d torch.avg_pool1d",
    .tags = kPure,
    .meta = avg_pool_meta<1>,
    .augmented = avg_pool1d_steps,
    .aten =
        "avg_pool1d(input, kernel_size, stride ?? kernel_size, padding, ceil_mode, "
        "count_include_pad)",
};
constinit const Symbol avg_pool2d{
    .schema =
        "avg_pool2d(Tensor input, int[2] kernel_size, int[2]? stride=None, "
        "int[2] padding=0, bool ceil_mode=False, bool count_include_pad=True, "
        "int? divisor_override=None) -> Tensor",
    .torch = "torch.nn.functional.avg_pool2d torch._C._nn.avg_pool2d",
    .tags = kPure,
    .meta = avg_pool_meta<2>,
    .vjp = avg_pool_vjp,
    .aten =
        "avg_pool2d(input, kernel_size, stride ?? kernel_size, padding, ceil_mode, "
        "count_include_pad, divisor_override)",
};
constinit const Symbol avg_pool3d{
    .schema =
        "avg_pool3d(Tensor input, int[3] kernel_size, int[3]? stride=None, "
        "int[3] padding=0, bool ceil_mode=False, bool count_include_pad=True, "
        "int? divisor_override=None) -> Tensor",
    .torch = "torch.nn.functional.avg_pool3d torch._C._nn.avg_pool3d",
    .tags = kPure,
    .meta = avg_pool_meta<3>,
    .vjp = avg_pool_vjp,
    .aten =
        "avg_pool3d(input, kernel_size, stride ?? kernel_size, padding, ceil_mode, "
        "count_include_pad, divisor_override)",
};
constinit const Symbol adaptive_avg_pool1d{
    .schema = "adaptive_avg_pool1d(Tensor input, int[1] output_size) -> Tensor",
    .torch = "torch.nn.functional.adaptive_avg_pool1d torch.adaptive_avg_pool1d",
    .tags = kPure,
    .meta = adaptive_avg_meta<1>,
    .augmented = adaptive_avg_pool1d_steps,
};
constinit const Symbol adaptive_avg_pool2d{
    .schema = "adaptive_avg_pool2d(Tensor input, int[2] output_size) -> Tensor",
    .torch = "torch.nn.functional.adaptive_avg_pool2d torch._C._nn.adaptive_avg_pool2d",
    .tags = kPure,
    .meta = adaptive_avg_meta<2>,
    .vjp = adaptive_avg_pool_vjp,
};
constinit const Symbol adaptive_avg_pool3d{
    .schema = "adaptive_avg_pool3d(Tensor input, int[3] output_size) -> Tensor",
    .torch = "torch.nn.functional.adaptive_avg_pool3d torch._C._nn.adaptive_avg_pool3d",
    .tags = kPure,
    .meta = adaptive_avg_meta<3>,
    .vjp = adaptive_avg_pool_vjp,
};
constinit const Symbol max_pool1d_with_indices{
    .schema =
        "max_pool1d_with_indices(Tensor input, int[1] kernel_size, int[1]? stride=None, "
        "int[1] padding=0, int[1] dilation=1, bool ceil_mode=False) -> (Tensor, Tensor)",
    .torch = "torch.max_pool1d_with_indices",
    .tags = kPure,
    .meta = max_pool_with_indices_meta<1>,
    .augmented = max_pool1d_with_indices_steps,
    .aten =
        "max_pool1d_with_indices(input, kernel_size, stride ?? kernel_size, padding, dilation, "
        "ceil_mode)",
};
constinit const Symbol max_pool2d_with_indices{
    .schema =
        "max_pool2d_with_indices(Tensor input, int[2] kernel_size, int[2]? stride=None, "
        "int[2] padding=0, int[2] dilation=1, bool ceil_mode=False) -> (Tensor, Tensor)",
    .torch = "torch._C._nn.max_pool2d_with_indices",
    .tags = kPure,
    .meta = max_pool_with_indices_meta<2>,
    .vjp = max_pool_vjp,
    .aten =
        "max_pool2d_with_indices(input, kernel_size, stride ?? kernel_size, padding, dilation, "
        "ceil_mode)",
};
constinit const Symbol max_pool3d_with_indices{
    .schema =
        "max_pool3d_with_indices(Tensor input, int[3] kernel_size, int[3]? stride=None, "
        "int[3] padding=0, int[3] dilation=1, bool ceil_mode=False) -> (Tensor, Tensor)",
    .torch = "torch._C._nn.max_pool3d_with_indices",
    .tags = kPure,
    .meta = max_pool_with_indices_meta<3>,
    .vjp = max_pool_vjp,
    .aten =
        "max_pool3d_with_indices(input, kernel_size, stride ?? kernel_size, padding, dilation, "
        "ceil_mode)",
};
constinit const Symbol max_unpool2d{
    .schema = "max_unpool2d(Tensor input, Tensor indices, int[2] output_size) -> Tensor",
    .torch = "torch._C._nn.max_unpool2d",
    .tags = kPure,
    .meta = max_unpool_meta<2>,
    .vjp = max_unpool_vjp,
};
constinit const Symbol max_unpool3d{
    .schema =
        "max_unpool3d(Tensor input, Tensor indices, int[3] output_size, int[3] stride, int[3] "
        "padding) -> Tensor",
    .torch = "torch._C._nn.max_unpool3d",
    .tags = kPure,
    .meta = max_unpool_meta<3>,
    .vjp = max_unpool_vjp,
};
// aten's gives (values, indices) always.
constinit const Symbol adaptive_max_pool2d{
    .schema =
        "adaptive_max_pool2d(Tensor input, int[2] output_size, bool return_indices=False)"
        " -> Tensor",
    .torch = "torch.nn.functional.adaptive_max_pool2d",
    .tags = kPure,
    .meta = adaptive_max_meta,
    .augmented = adaptive_max_pool2d_steps,
    .aten = "-",
};

std::span<const Symbol* const> pooling_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_POOLING_OPS(X) FULMEN_POOLING_BACKWARD_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
