#include "ops/conv.h"

#include "ops/check.h"
#include "ops/families.h"
#include "ops/meta.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

constexpr uint32_t kProduct = kPure | kMatmul;

template <class... Parts>
[[noreturn]] void refuse(const Call& in, const Parts&... parts) {
  in.fail(ErrorKind::kRuntime, "conv-shape", parts...);
}

struct Geometry {
  size_t spatial;  // 1, 2 or 3
  bool transposed = false;
  SmallVec<int64_t, 6> stride = {}, padding = {}, output_padding = {}, dilation = {};
  bool same = false;  // padding='same'
};

void check_operands(const Call& in, const Geometry& g, size_t batched, int64_t groups) {
  const TensorType& x = in.type("input");
  const TensorType& w = in.type("weight");
  const int64_t n = static_cast<int64_t>(g.spatial);
  if (w.ndim() != g.spatial + 2) {
    refuse(in, "weight must have ", n + 2, " dimensions; got shape ", meta::shape_text(w.shape));
  }
  check::same_dtype(in, {&in.tensor("input"), &in.tensor("weight"), in.opt_tensor("bias")});
  if (groups <= 0) in.unsupported("groups that are not positive");
  for (const Dim d : w.shape) {
    if (is_zero(d)) in.unsupported("an empty weight");
  }
  const Dim channels = x.shape[batched];
  const Dim expected = g.transposed ? w.shape[0] : w.shape[1] * Dim(groups);
  if (!check::equal(in, channels, expected)) {
    refuse(in, "input of shape ", meta::shape_text(x.shape), " has ", channels,
           " channels; weight of shape ", meta::shape_text(w.shape), " with groups=", groups,
           " expects ", expected);
  }
  if (w.shape[0].value() % groups != 0) {
    refuse(in, "weight of shape ", meta::shape_text(w.shape),
           " must have a first size that is a multiple of groups=", groups);
  }
  const Dim out_channels = g.transposed ? w.shape[1] * Dim(groups) : w.shape[0];
  if (const TensorProxy* bias = in.opt_tensor("bias")) {
    if (bias->type.ndim() != 1 || !check::equal(in, bias->type.shape[0], out_channels)) {
      refuse(in, "bias must have shape (", out_channels, ",); got ",
             meta::shape_text(bias->type.shape));
    }
  }
  for (size_t i = 0; i < g.spatial; ++i) {
    if (g.stride[i] <= 0) refuse(in, "non-positive stride is not supported");
    if (g.dilation[i] <= 0) refuse(in, "dilation should be greater than zero");
    if (g.padding[i] < 0) refuse(in, "negative padding is not supported");
  }
}

Dim spatial_size(const Call& in, const Geometry& g, Dim size, Dim kernel, size_t i) {
  const Dim reach = Dim(g.dilation[i]) * (kernel - 1);
  if (g.transposed) {
    const Dim out = (size - 1) * Dim(g.stride[i]) - Dim(2 * g.padding[i]) + reach +
                    Dim(g.output_padding[i]) + 1;
    if (out.is_concrete() && out.value() <= 0) refuse(in, "the output would be empty");
    return out;
  }
  if (g.same) return size;
  const Dim room = size + Dim(2 * g.padding[i]) - reach - 1;
  if (room.is_concrete() && room.value() < 0) {
    refuse(in, "the kernel of size ", reach + 1, " is larger than the padded input of size ",
           size + Dim(2 * g.padding[i]));
  }
  return floor_div(room, Dim(g.stride[i])) + 1;
}

// The output is channels_last if the input or the weight suggests it, after the changes that ATen
// makes: a batch dimension for an unbatched input, and a height of 1 for conv1d.
bool is_channels_last(const Call& in, const Geometry& g, bool batched) {
  TensorType x = in.type("input");
  TensorType w = in.type("weight");
  if (!batched) x = meta::unsqueezed(x, 0);
  if (g.spatial == 1) {
    if (!is_contiguous(x)) x.strides = contiguous_strides(x.shape);
    x = meta::unsqueezed(x, 2);
    w = meta::unsqueezed(w, 2);
  }
  return meta::suggests_channels_last(x) || meta::suggests_channels_last(w);
}

Arg conv(Call& in, const Geometry& g) {
  const TensorType& x = in.type("input");
  const TensorType& w = in.type("weight");
  const int64_t n = static_cast<int64_t>(g.spatial);
  if (x.ndim() != g.spatial + 1 && x.ndim() != g.spatial + 2) {
    refuse(in, "expected ", n + 1, "D (unbatched) or ", n + 2, "D (batched) input; got shape ",
           meta::shape_text(x.shape));
  }
  const bool batched = x.ndim() == g.spatial + 2;
  const int64_t groups = in.integer("groups");
  check_operands(in, g, batched, groups);
  TensorType out;
  out.dtype = x.dtype;
  out.device =
      check::device(in, {&in.tensor("input"), &in.tensor("weight"), in.opt_tensor("bias")});
  if (is_complex(x.dtype) || x.dtype == DType::kBool) in.unsupported("dtype ", name(x.dtype));
  out.shape.push_back(batched ? x.shape[0] : Dim(1));
  out.shape.push_back(g.transposed ? w.shape[1] * Dim(groups) : w.shape[0]);
  for (size_t i = 0; i < g.spatial; ++i) {
    const Dim size = x.shape[i + 1 + batched];
    if (is_zero(size)) in.unsupported("an empty spatial dimension");
    out.shape.push_back(spatial_size(in, g, size, w.shape[i + 2], i));
  }
  out.strides = contiguous_strides(out.shape);
  if (is_channels_last(in, g, batched) && !is_zero(out.shape[0])) {
    // Which kernel runs, and whether it keeps the layout, depends on the device and, in 3-d, on
    // sizes and the machine.
    if (out.device.type != DeviceType::kCPU || !is_floating(out.dtype)) {
      in.unsupported("a channels_last operand");
    }
    if (g.spatial == 3) in.unsupported("a channels_last_3d operand");
    if (g.spatial == 1) {
      Dims wide = out.shape;
      wide.insert(2, Dim(1));
      out.strides = meta::channels_last_strides(wide);
      out.strides.erase(2);
    } else {
      out.strides = meta::channels_last_strides(out.shape);
    }
  }
  if (!batched) {
    out.shape.erase(0);
    out.strides.erase(0);
  }
  return in.make(std::move(out));
}

template <size_t kSpatial>
Arg conv_meta(Call& in) {
  Geometry g{.spatial = kSpatial};
  g.stride = in.integers("stride", kSpatial);
  g.padding = in.integers("padding", kSpatial);
  g.dilation = in.integers("dilation", kSpatial);
  if (g.stride.size() != kSpatial || g.padding.size() != kSpatial ||
      g.dilation.size() != kSpatial) {
    refuse(in, "stride, padding and dilation must have ", static_cast<int64_t>(kSpatial),
           " elements or one");
  }
  return conv(in, g);
}

template <size_t kSpatial>
Arg conv_padding_meta(Call& in) {
  Geometry g{.spatial = kSpatial};
  g.stride = in.integers("stride", kSpatial);
  g.dilation = in.integers("dilation", kSpatial);
  g.padding.resize(kSpatial, 0);
  if (g.stride.size() != kSpatial || g.dilation.size() != kSpatial) {
    refuse(in, "stride and dilation must have ", static_cast<int64_t>(kSpatial),
           " elements or one");
  }
  if (in.text("padding") == "same") {
    g.same = true;
    for (const int64_t s : g.stride) {
      if (s != 1) refuse(in, "padding='same' is not supported for strided convolutions");
    }
  } else if (in.text("padding") != "valid") {
    refuse(in, "invalid padding string '", in.text("padding"), "'; expected 'same' or 'valid'");
  }
  return conv(in, g);
}

template <size_t kSpatial>
Arg conv_transpose_meta(Call& in) {
  Geometry g{.spatial = kSpatial, .transposed = true};
  g.stride = in.integers("stride", kSpatial);
  g.padding = in.integers("padding", kSpatial);
  g.output_padding = in.integers("output_padding", kSpatial);
  g.dilation = in.integers("dilation", kSpatial);
  if (g.stride.size() != kSpatial || g.padding.size() != kSpatial ||
      g.output_padding.size() != kSpatial || g.dilation.size() != kSpatial) {
    refuse(in, "stride, padding, output_padding and dilation must have ",
           static_cast<int64_t>(kSpatial), " elements or one");
  }
  for (size_t i = 0; i < kSpatial; ++i) {
    const int64_t limit = std::max(g.stride[i], g.dilation[i]);
    if (g.output_padding[i] >= limit || g.output_padding[i] < 0) {
      refuse(in, "output padding must be smaller than either stride or dilation; got ",
             g.output_padding[i]);
    }
  }
  return conv(in, g);
}

}  // namespace

constinit const Symbol conv1d{
    .schema =
        "conv1d(Tensor input, Tensor weight, Tensor? bias=None, int[1] stride=1, "
        "int[1] padding=0, int[1] dilation=1, int groups=1) -> Tensor",
    .torch = "torch.nn.functional.conv1d torch.conv1d",
    .tags = kProduct,
    .meta = conv_meta<1>,
    .vjp = convolution_vjp,
};
constinit const Symbol conv2d{
    .schema =
        "conv2d(Tensor input, Tensor weight, Tensor? bias=None, int[2] stride=1, "
        "int[2] padding=0, int[2] dilation=1, int groups=1) -> Tensor",
    .torch = "torch.nn.functional.conv2d torch.conv2d",
    .tags = kProduct,
    .meta = conv_meta<2>,
    .vjp = convolution_vjp,
};
constinit const Symbol conv3d{
    .schema =
        "conv3d(Tensor input, Tensor weight, Tensor? bias=None, int[3] stride=1, "
        "int[3] padding=0, int[3] dilation=1, int groups=1) -> Tensor",
    .torch = "torch.nn.functional.conv3d torch.conv3d",
    .tags = kProduct,
    .meta = conv_meta<3>,
    .vjp = convolution_vjp,
};
constinit const Symbol conv1d_padding{
    .schema =
        "conv1d.padding(Tensor input, Tensor weight, Tensor? bias=None, int[1] stride=1, "
        "str padding='valid', int[1] dilation=1, int groups=1) -> Tensor",
    .torch = "torch.nn.functional.conv1d torch.conv1d",
    .tags = kProduct,
    .meta = conv_padding_meta<1>,
    .vjp = convolution_vjp,
    .augmented = padded_convolution,
};
constinit const Symbol conv2d_padding{
    .schema =
        "conv2d.padding(Tensor input, Tensor weight, Tensor? bias=None, int[2] stride=1, "
        "str padding='valid', int[2] dilation=1, int groups=1) -> Tensor",
    .torch = "torch.nn.functional.conv2d torch.conv2d",
    .tags = kProduct,
    .meta = conv_padding_meta<2>,
    .vjp = convolution_vjp,
    .augmented = padded_convolution,
};
constinit const Symbol conv3d_padding{
    .schema =
        "conv3d.padding(Tensor input, Tensor weight, Tensor? bias=None, int[3] stride=1, "
        "str padding='valid', int[3] dilation=1, int groups=1) -> Tensor",
    .torch = "torch.nn.functional.conv3d torch.conv3d",
    .tags = kProduct,
    .meta = conv_padding_meta<3>,
    .vjp = convolution_vjp,
    .augmented = padded_convolution,
};
constinit const Symbol conv_transpose1d{
    .schema =
        "conv_transpose1d(Tensor input, Tensor weight, Tensor? bias=None, int[1] stride=1, "
        "int[1] padding=0, int[1] output_padding=0, int groups=1, int[1] dilation=1)"
        " -> Tensor",
    .torch = "torch.nn.functional.conv_transpose1d torch.conv_transpose1d",
    .tags = kProduct,
    .meta = conv_transpose_meta<1>,
    .vjp = convolution_vjp,
};
constinit const Symbol conv_transpose2d{
    .schema =
        "conv_transpose2d(Tensor input, Tensor weight, Tensor? bias=None, int[2] stride=1, "
        "int[2] padding=0, int[2] output_padding=0, int groups=1, int[2] dilation=1)"
        " -> Tensor",
    .torch = "torch.nn.functional.conv_transpose2d torch.conv_transpose2d",
    .tags = kProduct,
    .meta = conv_transpose_meta<2>,
    .vjp = convolution_vjp,
};
constinit const Symbol conv_transpose3d{
    .schema =
        "conv_transpose3d(Tensor input, Tensor weight, Tensor? bias=None, int[3] stride=1, "
        "int[3] padding=0, int[3] output_padding=0, int groups=1, int[3] dilation=1)"
        " -> Tensor",
    .torch = "torch.nn.functional.conv_transpose3d torch.conv_transpose3d",
    .tags = kProduct,
    .meta = conv_transpose_meta<3>,
    .vjp = convolution_vjp,
};

std::span<const Symbol* const> conv_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_CONV_OPS(X) X(convolution_backward)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
