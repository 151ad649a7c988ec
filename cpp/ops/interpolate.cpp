#include "ops/interpolate.h"

#include "ops/check.h"
#include "ops/families.h"
#include "ops/meta.h"

namespace fulmen::ops {
namespace {

// The input rank for which `mode` is defined; 0 for every one, -1 for an unknown mode.
int rank_of_mode(std::string_view mode) {
  if (mode == "nearest" || mode == "nearest-exact" || mode == "area") return 0;
  if (mode == "linear") return 3;
  if (mode == "bilinear" || mode == "bicubic") return 4;
  if (mode == "trilinear") return 5;
  return -1;
}

double number(const Call& in, const Arg& a) {
  if (a.kind() == Arg::Kind::kFloat) return a.real();
  if (a.kind() == Arg::Kind::kInt) return static_cast<double>(a.integer());
  in.unsupported("a scale factor that is not a constant");
}

Dims output_sizes(const Call& in, const TensorType& x) {
  const size_t spatial = x.ndim() - 2;
  if (in.has("size")) {
    Dims sizes = in.dims("size");
    if (!in["size"].is_sequence()) sizes.resize(spatial, sizes[0]);
    return sizes;
  }
  Dims sizes;
  const Arg& scale = in["scale_factor"];
  const bool list = scale.is_sequence();
  if (list && scale.items().size() != spatial) in.unsupported("scale factors of another rank");
  for (size_t i = 0; i < spatial; ++i) {
    const double factor = number(in, list ? scale.items()[i] : scale);
    sizes.push_back(
        Dim(static_cast<int64_t>(static_cast<double>(x.shape[i + 2].value()) * factor)));
  }
  return sizes;
}

// Everything that eager refuses is left to the fallback, which raises eager's own error.
Arg interpolate_meta(Call& in) {
  const TensorType& x = in.type("input");
  const std::string_view mode = in.text("mode");
  const int rank = rank_of_mode(mode);
  if (x.ndim() < 3 || x.ndim() > 5 || rank < 0 || (rank && static_cast<size_t>(rank) != x.ndim())) {
    in.unsupported("mode '", mode, "' on shape ", meta::shape_text(x.shape));
  }
  if (in.has("size") == in.has("scale_factor")) in.unsupported("size and scale_factor");
  const bool linear = mode.find("linear") != std::string_view::npos || mode == "bicubic";
  if (in.has("align_corners") && !linear) in.unsupported("align_corners with mode '", mode, "'");
  if (in.has("recompute_scale_factor") && in.flag("recompute_scale_factor") && in.has("size")) {
    in.unsupported("recompute_scale_factor with size");
  }
  if (in.flag("antialias")) in.unsupported("antialias=True");
  if (!is_floating(x.dtype) || x.device.type != DeviceType::kCPU) {
    in.unsupported("an input that is no floating-point CPU tensor");
  }
  for (const Dim d : x.shape) {
    if (is_zero(d)) in.unsupported("an empty input");
  }
  TensorType out;
  out.dtype = x.dtype;
  out.device = x.device;
  const Dims sizes = output_sizes(in, x);
  if (sizes.size() != x.ndim() - 2) in.unsupported("a size of another rank");
  out.shape = {x.shape[0], x.shape[1]};
  for (const Dim d : sizes) {
    if (d.value() <= 0) in.unsupported("an empty output");
    out.shape.push_back(d);
  }
  const bool channels_last = meta::suggests_channels_last(x);
  if (mode == "area" && (channels_last || !is_contiguous(x))) {
    in.unsupported("an input that is not contiguous");
  }
  out.strides =
      channels_last ? meta::channels_last_strides(out.shape) : contiguous_strides(out.shape);
  return in.make(std::move(out));
}

Arg grid_sample_meta(Call& in) {
  const TensorType& x = in.type("input");
  const TensorType& grid = in.type("grid");
  bool fits = (x.ndim() == 4 || x.ndim() == 5) && grid.ndim() == x.ndim() &&
              x.dtype == grid.dtype && is_floating(x.dtype) && x.device.type == DeviceType::kCPU &&
              x.device == grid.device;
  fits = fits && check::equal(in, x.shape[0], grid.shape[0]) &&
         check::equal(in, grid.shape.back(), Dim(x.ndim() - 2));
  for (size_t i = 1; fits && i < x.ndim(); ++i) fits = !is_zero(x.shape[i]);
  const std::string_view mode = in.text("mode");
  fits = fits && (mode == "bilinear" || mode == "nearest" || (mode == "bicubic" && x.ndim() == 4));
  const std::string_view padding = in.text("padding_mode");
  fits = fits && (padding == "zeros" || padding == "border" || padding == "reflection");
  if (!fits) in.unsupported("a call that eager may refuse");
  Dims shape{x.shape[0], x.shape[1]};
  for (size_t i = 1; i + 1 < grid.ndim(); ++i) shape.push_back(grid.shape[i]);
  return meta::fresh(in, x, shape, x.dtype);
}

}  // namespace

constinit const Symbol interpolate{
    .schema =
        "interpolate(Tensor input, int[1]? size=None, any scale_factor=None, "
        "str mode='nearest', bool? align_corners=None, bool? recompute_scale_factor=None, "
        "bool antialias=False) -> Tensor",
    .torch = "torch.nn.functional.interpolate",
    .tags = kPure,
    .meta = interpolate_meta,
    .vjp = interpolate_vjp,
    .augmented = interpolate_steps,
    .aten = "-",
};
constinit const Symbol grid_sample{
    .schema =
        "grid_sample(Tensor input, Tensor grid, str mode='bilinear', "
        "str padding_mode='zeros', bool? align_corners=None) -> Tensor",
    .torch = "torch.nn.functional.grid_sample",
    .tags = kPure,
    .meta = grid_sample_meta,
    .vjp = grid_sample_vjp,
    .aten = "-",
};

std::span<const Symbol* const> interpolate_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_INTERPOLATE_OPS(X) FULMEN_INTERPOLATE_BACKWARD_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
