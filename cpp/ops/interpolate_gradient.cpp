#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/interpolate.h"
#include "ops/meta.h"
#include "ops/pooling.h"

namespace fulmen::ops {
namespace {

// Where a kernel's gradient keeps the channels_last format of the gradient that it is given.
enum class Format : uint8_t { kContiguous, kAsGiven };

template <Format kFormat>
Arg upsample_backward_meta(Call& in) {
  const TensorType& grad = in.type("grad_output");
  meta::require(in, grad.dtype, meta::kFloats);
  if (grad.device.type != DeviceType::kCPU) in.unsupported("a device whose kernels choose layouts");
  TensorType out = grad;
  out.shape = in.dims("input_size");
  if (out.shape.size() != grad.ndim()) in.unsupported("a gradient of another rank");
  const bool channels_last = kFormat == Format::kAsGiven && meta::suggests_channels_last(grad);
  out.strides =
      channels_last ? meta::channels_last_strides(out.shape) : contiguous_strides(out.shape);
  return in.make(std::move(out));
}

// The interpolation itself, of what comes back.
template <size_t spatial>
Args upsample_backward_vjp(Call& in, const Arg&, const Arg& grad) {
  const std::string_view name = in.symbol().name();
  const bool exact = name.find("exact") != std::string_view::npos;
  const bool nearest = name.find("nearest") != std::string_view::npos;
  const std::string_view mode = exact                                            ? "nearest-exact"
                                : nearest                                        ? "nearest"
                                : name.find("bicubic") != std::string_view::npos ? "bicubic"
                                : spatial == 1                                   ? "linear"
                                : spatial == 2                                   ? "bilinear"
                                                                                 : "trilinear";
  Args scales;
  for (size_t i = in.size() - spatial; i < in.size(); ++i) {
    if (!in[i].is_none()) scales.push_back(in[i]);
  }
  const bool scaled = scales.size() == spatial;
  if (!scaled && !scales.empty()) in.unsupported("a scale factor for some dimensions");
  return first_grad(
      in, record(interpolate,
                 {grad, scaled ? Arg() : in["output_size"], scaled ? in.list(scales) : Arg(),
                  Arg(mode), nearest ? Arg() : in["align_corners"], Arg(), Arg(false)}));
}

const Symbol& backward_of(const Call& in, std::string_view mode, size_t spatial) {
  const size_t i = spatial - 1;
  const Symbol* const nearest[] = {&upsample_nearest1d_backward, &upsample_nearest2d_backward,
                                   &upsample_nearest3d_backward};
  const Symbol* const exact[] = {&upsample_nearest_exact1d_backward,
                                 &upsample_nearest_exact2d_backward,
                                 &upsample_nearest_exact3d_backward};
  if (mode == "nearest") return *nearest[i];
  if (mode == "nearest-exact") return *exact[i];
  if (mode == "linear") return upsample_linear1d_backward;
  if (mode == "bilinear") return upsample_bilinear2d_backward;
  if (mode == "bicubic") return upsample_bicubic2d_backward;
  if (mode == "trilinear") return upsample_trilinear3d_backward;
  in.unsupported("mode '", mode, "'");
}

// The scale factors that the kernel is given: those of the call, unless it computes them.
Args scales_of(const Call& in, size_t spatial) {
  Args scales(spatial, Arg());
  const bool recomputed = in.has("recompute_scale_factor") && in.flag("recompute_scale_factor");
  if (!in.has("scale_factor") || recomputed) return scales;
  const Arg& given = in["scale_factor"];
  for (size_t i = 0; i < spatial; ++i) {
    const Arg& factor = given.is_sequence() ? given.items()[i] : given;
    const bool whole = factor.kind() == Arg::Kind::kInt;
    scales[i] = Arg(whole ? static_cast<double>(factor.integer()) : factor.real());
  }
  return scales;
}

// Everything that eager refuses is left to it.
template <size_t kRank>
Arg sampler_meta(Call& in) {
  const TensorType &x = in.type("input"), &grid = in.type("grid");
  meta::require(in, x.dtype, meta::kFloats);
  const bool fits = x.ndim() == kRank && grid.ndim() == kRank && x.dtype == grid.dtype &&
                    x.device.type == DeviceType::kCPU && x.device == grid.device &&
                    x.shape[0] == grid.shape[0] && grid.shape.back() == Dim(kRank - 2);
  if (!fits || numel(x).value() == 0) in.unsupported("a call that eager may refuse");
  Dims shape{x.shape[0], x.shape[1]};
  for (size_t i = 1; i + 1 < kRank; ++i) shape.push_back(grid.shape[i]);
  return meta::fresh(in, x, shape, x.dtype);
}

Args sampler_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg args[] = {grad,
                      in["input"],
                      in["grid"],
                      in["interpolation_mode"],
                      in["padding_mode"],
                      in["align_corners"],
                      output_mask(in, {"input", "grid"})};
  const bool flat = in.type("input").ndim() == 4;
  const Arg both =
      in.builder().call(flat ? grid_sampler_2d_backward : grid_sampler_3d_backward, args);
  return grads_of(in, {{"input", item(both, 0)}, {"grid", item(both, 1)}});
}

Arg sampler_backward_meta(Call& in) {
  const TensorType &x = in.type("input"), &grid = in.type("grid");
  meta::require(in, x.dtype, meta::kFloats);
  if (x.device.type != DeviceType::kCPU) in.unsupported("a device whose kernels choose layouts");
  return masked_results(
      in, {meta::fresh(in, x, x.shape, x.dtype), meta::fresh(in, grid, grid.shape, grid.dtype)});
}

template <class Names>
Arg position(const Call& in, std::string_view param, const Names& names) {
  int64_t i = 0;
  for (const std::string_view name : names) {
    if (in.text(param) == name) return Arg(i);
    ++i;
  }
  in.unsupported(param, " '", in.text(param), "'");
}

}  // namespace

Args interpolate_vjp(Call& in, const Arg& out, const Arg& grad) {
  const std::string_view mode = in.text("mode");
  if (mode == "area") in.unsupported("adaptive pooling");
  const TensorType& x = in.type("input");
  const Dims& sizes = out.tensor()->type.shape;
  const size_t spatial = x.ndim() - 2;
  Args args{grad, in.dims_arg({sizes.data() + 2, spatial}), in.dims_arg(x.shape)};
  if (mode != "nearest" && mode != "nearest-exact") {
    args.push_back(Arg(in.has("align_corners") && in.flag("align_corners")));
  }
  for (const Arg& scale : scales_of(in, spatial)) args.push_back(scale);
  return grads_of(in, {{"input", in.builder().call(backward_of(in, mode, spatial), args)}});
}

Arg interpolate_steps(Call& in) {
  if (in.text("mode") != "area") in.unsupported("other than adaptive pooling");
  const TensorType& x = in.type("input");
  const size_t spatial = x.ndim() - 2;
  const Arg result = in.builder().infer(in.symbol(), in.args());
  const Dims& sizes = result.tensor()->type.shape;
  const Symbol* const rows[] = {&adaptive_avg_pool1d, &adaptive_avg_pool2d, &adaptive_avg_pool3d};
  const Arg args[] = {in["input"], in.dims_arg({sizes.data() + 2, spatial})};
  return in.builder().call(*rows[spatial - 1], args);
}

Args grid_sample_vjp(Call& in, const Arg&, const Arg& grad) {
  static constexpr std::string_view kModes[] = {"bilinear", "nearest", "bicubic"};
  static constexpr std::string_view kPaddings[] = {"zeros", "border", "reflection"};
  const bool flat = in.type("input").ndim() == 4;
  const Arg args[] = {grad,
                      in["input"],
                      in["grid"],
                      position(in, "mode", kModes),
                      position(in, "padding_mode", kPaddings),
                      Arg(in.has("align_corners") && in.flag("align_corners")),
                      output_mask(in, {"input", "grid"})};
  const Arg both =
      in.builder().call(flat ? grid_sampler_2d_backward : grid_sampler_3d_backward, args);
  return grads_of(in, {{"input", item(both, 0)}, {"grid", item(both, 1)}});
}

constinit const Symbol upsample_nearest1d_backward{
    .schema =
        "upsample_nearest1d_backward(Tensor grad_output, int[] output_size, int[] input_size, "
        "float? scales=None) -> Tensor",
    .torch = "torch.ops.aten.upsample_nearest1d_backward",
    .tags = kPure,
    .meta = upsample_backward_meta<Format::kContiguous>,
    .vjp = upsample_backward_vjp<1>,
};
constinit const Symbol upsample_nearest2d_backward{
    .schema =
        "upsample_nearest2d_backward(Tensor grad_output, int[] output_size, int[] input_size, "
        "float? scales_h=None, float? scales_w=None) -> Tensor",
    .torch = "torch.ops.aten.upsample_nearest2d_backward",
    .tags = kPure,
    .meta = upsample_backward_meta<Format::kAsGiven>,
    .vjp = upsample_backward_vjp<2>,
};
constinit const Symbol upsample_nearest3d_backward{
    .schema =
        "upsample_nearest3d_backward(Tensor grad_output, int[] output_size, int[] input_size, "
        "float? scales_d=None, float? scales_h=None, float? scales_w=None) -> Tensor",
    .torch = "torch.ops.aten.upsample_nearest3d_backward",
    .tags = kPure,
    .meta = upsample_backward_meta<Format::kContiguous>,
    .vjp = upsample_backward_vjp<3>,
};
constinit const Symbol upsample_nearest_exact1d_backward{
    .schema =
        "_upsample_nearest_exact1d_backward(Tensor grad_output, int[] output_size, "
        "int[] input_size, float? scales=None) -> Tensor",
    .torch = "torch.ops.aten._upsample_nearest_exact1d_backward",
    .tags = kPure,
    .meta = upsample_backward_meta<Format::kContiguous>,
    .vjp = upsample_backward_vjp<1>,
};
constinit const Symbol upsample_nearest_exact2d_backward{
    .schema =
        "_upsample_nearest_exact2d_backward(Tensor grad_output, int[] output_size, "
        "int[] input_size, float? scales_h=None, float? scales_w=None) -> Tensor",
    .torch = "torch.ops.aten._upsample_nearest_exact2d_backward",
    .tags = kPure,
    .meta = upsample_backward_meta<Format::kAsGiven>,
    .vjp = upsample_backward_vjp<2>,
};
constinit const Symbol upsample_nearest_exact3d_backward{
    .schema =
        "_upsample_nearest_exact3d_backward(Tensor grad_output, int[] output_size, "
        "int[] input_size, float? scales_d=None, float? scales_h=None, float? scales_w=None)"
        " -> Tensor",
    .torch = "torch.ops.aten._upsample_nearest_exact3d_backward",
    .tags = kPure,
    .meta = upsample_backward_meta<Format::kContiguous>,
    .vjp = upsample_backward_vjp<3>,
};
constinit const Symbol upsample_linear1d_backward{
    .schema =
        "upsample_linear1d_backward(Tensor grad_output, int[] output_size, int[] input_size, "
        "bool align_corners, float? scales=None) -> Tensor",
    .torch = "torch.ops.aten.upsample_linear1d_backward",
    .tags = kPure,
    .meta = upsample_backward_meta<Format::kContiguous>,
    .vjp = upsample_backward_vjp<1>,
};
constinit const Symbol upsample_bilinear2d_backward{
    .schema =
        "upsample_bilinear2d_backward(Tensor grad_output, int[] output_size, int[] input_size, "
        "bool align_corners, float? scales_h=None, float? scales_w=None) -> Tensor",
    .torch = "torch.ops.aten.upsample_bilinear2d_backward",
    .tags = kPure,
    .meta = upsample_backward_meta<Format::kAsGiven>,
    .vjp = upsample_backward_vjp<2>,
};
constinit const Symbol upsample_bicubic2d_backward{
    .schema =
        "upsample_bicubic2d_backward(Tensor grad_output, int[] output_size, int[] input_size, "
        "bool align_corners, float? scales_h=None, float? scales_w=None) -> Tensor",
    .torch = "torch.ops.aten.upsample_bicubic2d_backward",
    .tags = kPure,
    .meta = upsample_backward_meta<Format::kContiguous>,
    .vjp = upsample_backward_vjp<2>,
};
constinit const Symbol upsample_trilinear3d_backward{
    .schema =
        "upsample_trilinear3d_backward(Tensor grad_output, int[] output_size, int[] input_size, "
        "bool align_corners, float? scales_d=None, float? scales_h=None, float? scales_w=None)"
        " -> Tensor",
    .torch = "torch.ops.aten.upsample_trilinear3d_backward",
    .tags = kPure,
    .meta = upsample_backward_meta<Format::kAsGiven>,
    .vjp = upsample_backward_vjp<3>,
};
constinit const Symbol grid_sampler_2d{
    .schema =
        "grid_sampler_2d(Tensor input, Tensor grid, int interpolation_mode, int padding_mode, "
        "bool align_corners) -> Tensor",
    .torch = "torch.grid_sampler_2d",
    .tags = kPure,
    .meta = sampler_meta<4>,
    .vjp = sampler_vjp,
};
constinit const Symbol grid_sampler_3d{
    .schema =
        "grid_sampler_3d(Tensor input, Tensor grid, int interpolation_mode, int padding_mode, "
        "bool align_corners) -> Tensor",
    .torch = "torch.grid_sampler_3d",
    .tags = kPure,
    .meta = sampler_meta<5>,
    .vjp = sampler_vjp,
};
constinit const Symbol grid_sampler_2d_backward{
    .schema =
        "grid_sampler_2d_backward(Tensor grad_output, Tensor input, Tensor grid, "
        "int interpolation_mode, int padding_mode, bool align_corners, bool[] output_mask) -> "
        "(Tensor, Tensor)",
    .torch = "torch.ops.aten.grid_sampler_2d_backward",
    .tags = kPure,
    .meta = sampler_backward_meta,
};
constinit const Symbol grid_sampler_3d_backward{
    .schema =
        "grid_sampler_3d_backward(Tensor grad_output, Tensor input, Tensor grid, "
        "int interpolation_mode, int padding_mode, bool align_corners, bool[] output_mask) -> "
        "(Tensor, Tensor)",
    .torch = "torch.ops.aten.grid_sampler_3d_backward",
    .tags = kPure,
    .meta = sampler_backward_meta,
};

}  // namespace fulmen::ops
