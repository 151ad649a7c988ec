#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/shape.h"
#include "ops/shape_gradient.h"

// Padding, and channels exchanged for pixels.
namespace fulmen::ops {
namespace {

Arg constant_pad(Call& in) {
  const TensorType& t = in.type("input");
  const auto pad = in.integers("pad");
  if (pad.size() % 2 || pad.size() / 2 > t.ndim()) {
    in.fail(ErrorKind::kRuntime, "pad", "Length of pad must be even and at most twice the number ",
            "of dimensions of the input; got ", pad.size(), " for ", t.ndim(), " dimensions");
  }
  TensorType cut = t, out = t;
  bool only_cuts = true;
  for (size_t i = 0; i < pad.size() / 2; ++i) {
    const size_t d = t.ndim() - 1 - i;
    const int64_t before = pad[2 * i], after = pad[2 * i + 1], size = t.shape[d].value();
    only_cuts = only_cuts && before <= 0 && after <= 0;
    if (size + before + after < 0 || size + std::min<int64_t>(before, 0) < 0 ||
        size + std::min<int64_t>(before, 0) + std::min<int64_t>(after, 0) < 0) {
      in.fail(ErrorKind::kRuntime, "pad", "the input size ", size, ", plus negative padding ",
              before, " and ", after, ", resulted in a negative output size, which is invalid. ",
              "Check dimension ", d, " of your input.");
    }
    out.shape[d] = size + before + after;
  }
  if (only_cuts) {
    cut.shape = out.shape;
    out.strides = meta::preserved_strides(cut);
  } else {
    out.strides = meta::suggests_channels_last(t) ? meta::channels_last_strides(out.shape)
                                                  : contiguous_strides(out.shape);
  }
  return in.make(out);
}

// reflect, replicate and circular, where the result is sure; eager's errors come from the fallback.
Arg border_pad(Call& in, std::string_view mode) {
  const TensorType& t = in.type("input");
  const auto pad = in.integers("pad");
  const size_t spatial = pad.size() / 2;
  if (pad.size() % 2 || spatial < 1 || spatial > 3 ||
      (t.ndim() != spatial + 1 && t.ndim() != spatial + 2)) {
    in.unsupported("a padding of ", pad.size(), " numbers for ", t.ndim(), " dimensions");
  }
  if (is_integral(t.dtype)) in.unsupported("dtype ", name(t.dtype));
  if (mode == "circular" && t.ndim() != spatial + 2) in.unsupported("an unbatched input");
  if (in.has("value") && in.real("value") != 0) in.unsupported("value with mode ", mode);
  if (meta::suggests_channels_last(t)) in.unsupported("channels_last");
  Dims shape = t.shape;
  for (const Dim d : t.shape) {
    if (d.value() == 0) in.unsupported("an empty tensor");
  }
  for (size_t i = 0; i < spatial; ++i) {
    const size_t d = t.ndim() - 1 - i;
    const int64_t before = pad[2 * i], after = pad[2 * i + 1], size = t.shape[d].value();
    const int64_t limit = mode == "reflect" ? size - 1 : mode == "circular" ? size : INT64_MAX;
    if (before < 0 || after < 0 || before > limit || after > limit) {
      in.unsupported("a padding of ", before, " and ", after, " at size ", size);
    }
    shape[d] = size + before + after;
  }
  return meta::fresh(in, t, shape, t.dtype);
}

Arg pad_meta(Call& in) {
  const std::string_view mode = in.text("mode");
  if (mode == "constant") return constant_pad(in);
  if (mode == "reflect" || mode == "replicate" || mode == "circular") return border_pad(in, mode);
  in.fail(ErrorKind::kNotImplemented, "pad-mode", "Unrecognised padding mode ", mode);
}

Arg pixel_meta(Call& in, std::string_view factor, bool up) {
  const TensorType& t = in.type("input");
  const int64_t r = in.integer(factor);
  if (t.ndim() < 3) {
    in.fail(ErrorKind::kRuntime, "pixel-shuffle",
            "expects input to have at least 3 dimensions, but got input with ", t.ndim(),
            " dimension(s)");
  }
  if (r <= 0) {
    in.fail(ErrorKind::kRuntime, "pixel-shuffle", "expects a positive ", factor, ", but got ", r);
  }
  if (is_zero(numel(t))) in.unsupported("an empty tensor");
  const size_t n = t.ndim();
  Dims shape = t.shape;
  const int64_t c = shape[n - 3].value(), h = shape[n - 2].value(), w = shape[n - 1].value();
  if (up ? c % (r * r) != 0 : h % r != 0 || w % r != 0) {
    in.fail(ErrorKind::kRuntime, "pixel-shuffle", "expects sizes that are divisible by the square ",
            "of the factor; got shape ", meta::shape_text(t.shape), " and factor ", r);
  }
  shape[n - 3] = up ? c / (r * r) : c * r * r;
  shape[n - 2] = up ? h * r : h / r;
  shape[n - 1] = up ? w * r : w / r;
  if (meta::suggests_channels_last(t)) {
    if (t.device.type != DeviceType::kCPU || t.ndim() != 4) in.unsupported("channels_last");
    TensorType out = t;
    out.shape = shape;
    out.strides = meta::channels_last_strides(shape);
    return in.make(out);
  }
  return meta::fresh(in, t, shape, t.dtype);
}

}  // namespace

constinit const Symbol pad{
    .schema = "pad(Tensor input, int[] pad, str mode='constant', float? value=None) -> Tensor",
    .torch = "torch.nn.functional.pad torch._C._nn.pad",
    .tags = kPure,
    .meta = pad_meta,
    .vjp = pad_vjp,
};
constinit const Symbol constant_pad_nd{
    .schema = "constant_pad_nd(Tensor input, int[] pad, Scalar value=0) -> Tensor",
    .torch = "torch.constant_pad_nd",
    .tags = kPure,
    .meta = constant_pad,
    .vjp = constant_pad_vjp,
};
constinit const Symbol pixel_shuffle{
    .schema = "pixel_shuffle(Tensor input, int upscale_factor) -> Tensor",
    .torch = "torch.pixel_shuffle torch.nn.functional.pixel_shuffle",
    .tags = kPure,
    .meta = [](Call& in) { return pixel_meta(in, "upscale_factor", true); },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {pixel_unshuffle(grad, in["upscale_factor"])});
    },
};
constinit const Symbol pixel_unshuffle{
    .schema = "pixel_unshuffle(Tensor input, int downscale_factor) -> Tensor",
    .torch = "torch.pixel_unshuffle torch.nn.functional.pixel_unshuffle",
    .tags = kPure,
    .meta = [](Call& in) { return pixel_meta(in, "downscale_factor", false); },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {pixel_shuffle(grad, in["downscale_factor"])});
    },
};

}  // namespace fulmen::ops
