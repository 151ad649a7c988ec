#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/shape.h"
#include "ops/shape_gradient.h"

namespace fulmen::ops {
namespace {

Arg clone_meta(Call& in) {
  TensorType out = in.type("input");
  out.strides = meta::format_strides(in, in.type("input"), in["memory_format"]);
  return in.make(out);
}

Arg contiguous_meta(Call& in) {
  TensorType out = in.type("input");
  const std::string_view format = in.text("memory_format");
  if (format == "preserve_format") in.unsupported("memory format preserve_format");
  if (format == "contiguous_format" ? is_contiguous(out)
                                    : out.ndim() == (format == "channels_last" ? 4 : 5) &&
                                          meta::is_channels_last_contiguous(out)) {
    return in["input"];
  }
  out.strides = meta::format_strides(in, in.type("input").shape, in["memory_format"]);
  return in.make(out);
}

// One repeat count per result dimension; shorter lists are filled with ones where `fill` says so.
Arg repeat_meta(Call& in, std::string_view param, bool fill) {
  const TensorType& t = in.type("input");
  Dims counts = in.dims(param);
  while (fill && counts.size() < t.ndim()) counts.insert(0, Dim(1));
  if (counts.size() < t.ndim()) {
    in.fail(ErrorKind::kRuntime, "repeat", "Number of dimensions of repeat dims can not be ",
            "smaller than number of dimensions of tensor");
  }
  const size_t extra = counts.size() - t.ndim();
  Dims shape;
  for (size_t i = 0; i < counts.size(); ++i) {
    shape.push_back(i < extra ? counts[i] : counts[i] * t.shape[i - extra]);
    if (shape.back().value_or(0) < 0) {
      in.fail(ErrorKind::kRuntime, "repeat", "Trying to create tensor with negative dimension ",
              shape.back().value());
    }
  }
  return meta::fresh(in, t, shape, t.dtype);
}

Arg repeat_interleave_meta(Call& in) {
  const TensorType& t = in.type("input");
  const int64_t repeats = in.integer("repeats");
  if (repeats < 0) {
    in.fail(ErrorKind::kRuntime, "repeat-interleave", "Repeats must be non-negative");
  }
  Dims shape = in.has("dim") ? t.shape : Dims{numel(t)};
  if (shape.empty()) in.unsupported("a 0-d tensor with a dimension");
  const size_t d = meta::wrap_dim(in, in.opt_integer("dim").value_or(0), shape.size());
  shape[d] = shape[d] * Dim(repeats);
  if (in.has("output_size") && in.integer("output_size") != shape[d].value()) {
    in.unsupported("an output_size that differs");
  }
  return meta::fresh(in, t, shape, t.dtype);
}

// clone(expand(unsqueeze)) and flatten: what eager does too.
Arg repeat_interleave_rule(Call& in) {
  Arg x = in["input"];
  if (!in.has("dim")) x = flatten(x);
  const TensorType& t = x.tensor()->type;
  const int64_t d = meta::wrap_dim(in, in.opt_integer("dim").value_or(0), t.ndim());
  Dims shape = t.shape;
  shape.insert(d + 1, Dim(in.integer("repeats")));
  x = expand(unsqueeze(x, d + 1), in.dims_arg(shape));
  x = contiguous_clone(x);
  return flatten(x, d, d + 1);
}

// Rolls along one dimension on the CPU: the join of two slices.
TensorType rolled(Call& in, const TensorType& t, int64_t shift, int64_t dim) {
  if (is_zero(numel(t))) {
    TensorType out = t;
    out.strides = meta::preserved_strides(t);
    return out;
  }
  const size_t d = meta::wrap_dim(in, dim, t.ndim());
  if (t.ndim() == 0) in.unsupported("a 0-d tensor");
  const int64_t size = t.shape[d].value();
  int64_t start = (size - shift) % size;
  if (start < 0) start += size;
  const TensorType head = meta::slice_type(t, d, start, size);
  const TensorType tail = meta::slice_type(t, d, 0, start);
  const TensorType* const parts[] = {&head, &tail};
  return meta::cat_type(in, parts, d);
}

// How many windows fit in `sizes`, as F.unfold and F.fold slide them.
std::optional<int64_t> num_windows(const Call& in, std::span<const int64_t> sizes) {
  const auto kernel = in.integers("kernel_size", 2), dilation = in.integers("dilation", 2),
             padding = in.integers("padding", 2), stride = in.integers("stride", 2);
  int64_t n = 1;
  for (size_t i = 0; i < 2; ++i) {
    if (kernel[i] < 1 || dilation[i] < 1 || padding[i] < 0 || stride[i] < 1) return std::nullopt;
    const int64_t room = sizes[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1;
    if (room < 0) return std::nullopt;
    n *= room / stride[i] + 1;
  }
  return n;
}

Arg im2col_meta(Call& in) {
  const TensorType& x = in.type("input");
  if (x.ndim() != 3 && x.ndim() != 4) in.unsupported("other than an image or a batch of them");
  const size_t n = x.ndim();
  for (size_t i = n - 3; i < n; ++i) {  // the batch alone may be empty
    if (x.shape[i].value() == 0) in.unsupported("an empty image");
  }
  const int64_t sizes[] = {x.shape[n - 2].value(), x.shape[n - 1].value()};
  const auto windows = num_windows(in, sizes);
  if (!windows) in.unsupported("windows that do not fit");
  const auto kernel = in.integers("kernel_size", 2);
  Dims shape(std::span(x.shape.data(), n - 3));
  shape.push_back(x.shape[n - 3] * Dim(kernel[0] * kernel[1]));
  shape.push_back(Dim(*windows));
  return meta::fresh(in, x, shape, x.dtype);
}

Arg col2im_meta(Call& in) {
  const TensorType& x = in.type("input");
  if (x.ndim() != 2 && x.ndim() != 3) in.unsupported("other than columns or a batch of them");
  if (numel(x).value() == 0) in.unsupported("an empty input");
  const auto kernel = in.integers("kernel_size", 2), size = in.integers("output_size", 2);
  const int64_t area = kernel[0] * kernel[1], rows = x.shape[x.ndim() - 2].value();
  const auto windows = num_windows(in, size);
  if (!windows || area < 1 || rows % area != 0 || x.shape[x.ndim() - 1].value() != *windows) {
    in.unsupported("columns that do not fit");
  }
  Dims shape(std::span(x.shape.data(), x.ndim() - 2));
  shape.push_back(Dim(rows / area));
  for (const int64_t s : size) shape.push_back(Dim(s));
  return meta::fresh(in, x, shape, x.dtype);
}

Arg roll_meta(Call& in) {
  const TensorType& t = in.type("input");
  const auto shifts = in.integers("shifts"), dims = in.integers("dims");
  if (shifts.empty()) in.fail(ErrorKind::kRuntime, "roll", "`shifts` required");
  if (dims.empty() && shifts.size() == 1) return meta::fresh(in, t, t.shape, t.dtype);
  if (shifts.size() != dims.size()) {
    in.fail(ErrorKind::kRuntime, "roll",
            "shifts and dimensions must align. shifts: ", shifts.size(), ", dims:", dims.size());
  }
  if (t.device.type != DeviceType::kCPU) return meta::fresh(in, t, t.shape, t.dtype);
  TensorType out = t;
  for (size_t i = 0; i < shifts.size(); ++i) out = rolled(in, out, shifts[i], dims[i]);
  return in.make(out);
}

Arg flip_meta(Call& in) {
  const size_t n = in.type("input").ndim();
  SmallVec<bool, 8> seen(n ? n : 1, false);
  for (const int64_t dim : in.integers("dims")) {
    const size_t d = meta::wrap_dim(in, dim, n);
    if (seen[d]) {
      in.fail(ErrorKind::kRuntime, "repeated-dim", "dim ", d,
              " appears multiple times in the list of dims");
    }
    seen[d] = true;
  }
  return meta::like(in);
}

Arg flip_along(Call& in, int64_t dim) {
  const size_t n = in.type("input").ndim();
  if (n < static_cast<size_t>(dim) + 1) {
    in.fail(ErrorKind::kRuntime, "flip", "Input must be >= ", dim + 1, "-d.");
  }
  return flip(in["input"], in.ints({{dim}}));
}

Arg rot90_meta(Call& in) {
  TensorType out = in.type("input");
  const auto dims = in.integers("dims");
  if (dims.size() != 2) {
    in.fail(ErrorKind::kRuntime, "rot90",
            "expected total rotation dims == 2, but got dims = ", dims.size());
  }
  if (out.ndim() < 2) {
    in.fail(ErrorKind::kRuntime, "rot90",
            "expected total dims >= 2, but got total dims = ", out.ndim());
  }
  const size_t a = meta::wrap_dim(in, dims[0], out.ndim());
  const size_t b = meta::wrap_dim(in, dims[1], out.ndim());
  if (a == b) {
    in.fail(ErrorKind::kRuntime, "rot90",
            "expected rotation dims to be different, but got dim0 = ", dims[0],
            " and dim1 = ", dims[1]);
  }
  const int64_t k = (in.integer("k") % 4 + 4) % 4;
  out.strides = k ? meta::preserved_strides(out) : contiguous_strides(out.shape);
  if (k % 2) {
    std::swap(out.shape[a], out.shape[b]);
    std::swap(out.strides[a], out.strides[b]);
  }
  return in.make(out);
}

Arg triangle_meta(Call& in) {
  const TensorType& t = in.type("input");
  if (t.ndim() < 2) {
    in.fail(ErrorKind::kRuntime, "triangle", "input tensor must have at least 2 dimensions");
  }
  return meta::fresh(in, t, t.shape, t.dtype);
}

Arg diag_meta(Call& in) {
  const TensorType& t = in.type("input");
  const int64_t offset = in.integer("diagonal");
  if (t.ndim() == 1) {
    const Dim size = t.shape[0] + Dim(std::abs(offset));
    return meta::fresh(in, t, Dims{size, size}, t.dtype);
  }
  if (t.ndim() != 2) {
    in.fail(ErrorKind::kRuntime, "diag", "diag(): Supports 1D or 2D tensors. Got ", t.ndim(), "D");
  }
  return meta::fresh(in, t, meta::diagonal_type(in, t, offset, 0, 1).shape, t.dtype);
}

Arg diag_embed_meta(Call& in) {
  const TensorType& t = in.type("input");
  const size_t n = t.ndim() + 1;
  const size_t a = meta::wrap_dim(in, in.integer("dim1"), n);
  const size_t b = meta::wrap_dim(in, in.integer("dim2"), n);
  if (a == b) {
    in.fail(ErrorKind::kRuntime, "same-dims", "diagonal dimensions cannot be identical ",
            in.integer("dim1"), ", ", in.integer("dim2"));
  }
  if (t.ndim() == 0) {
    in.fail(ErrorKind::kIndex, "zero-dim",
            "Dimension specified as -1 but tensor has no dimensions");
  }
  const Dim size = t.shape.back() + Dim(std::abs(in.integer("offset")));
  Dims shape = t.shape;
  shape.pop_back();
  shape.insert(std::min(a, b), size);
  shape.insert(std::max(a, b), size);
  return meta::fresh(in, t, shape, t.dtype);
}

}  // namespace

Arg contiguous_clone(const Arg& x) {
  const Arg args[] = {x, Arg::named(Arg::Kind::kMemoryFormat, "contiguous_format")};
  return Builder::current().call(clone, args);
}

constinit const Symbol clone{
    .schema = "clone(Tensor input, *, memory_format? memory_format=None) -> Tensor",
    .torch = "torch.clone torch.Tensor.clone",
    .tags = kPure,
    .meta = clone_meta,
    .vjp = pass_vjp,
};
constinit const Symbol contiguous{
    .schema =
        "contiguous(Tensor input, *, memory_format memory_format=torch.contiguous_format) -> "
        "Tensor",
    .torch = "torch.Tensor.contiguous",
    .tags = kPure,
    .meta = contiguous_meta,
    .vjp = pass_vjp,
};
constinit const Symbol repeat{
    .schema = "repeat(Tensor input, int[]* repeats) -> Tensor",
    .torch = "torch.Tensor.repeat",
    .tags = kPure,
    .meta = [](Call& in) { return repeat_meta(in, "repeats", false); },
    .vjp = repeat_vjp,
};
constinit const Symbol tile{
    .schema = "tile(Tensor input, int[]* dims) -> Tensor",
    .torch = "torch.tile torch.Tensor.tile",
    .tags = kPure,
    .meta = [](Call& in) { return repeat_meta(in, "dims", true); },
    .decompose =
        [](Call& in) {
          Dims counts = in.dims("dims");
          while (counts.size() < in.type("input").ndim()) counts.insert(0, Dim(1));
          return repeat(in["input"], in.dims_arg(counts));
        },
};
constinit const Symbol repeat_interleave{
    .schema =
        "repeat_interleave(Tensor input, int repeats, int? dim=None, *, int? "
        "output_size=None) -> Tensor",
    .torch = "torch.repeat_interleave torch.Tensor.repeat_interleave",
    .tags = kPure,
    .meta = repeat_interleave_meta,
    .decompose = repeat_interleave_rule,
};
constinit const Symbol im2col{
    .schema =
        "im2col(Tensor input, int[2] kernel_size, int[2] dilation, int[2] padding, int[2] stride)"
        " -> Tensor",
    .torch = "torch._C._nn.im2col",
    .tags = kPure,
    .meta = im2col_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      const Dims& s = in.type("input").shape;
      const Dims size{s[s.size() - 2], s[s.size() - 1]};
      return grads(in, {col2im(grad, dims_list(size), in["kernel_size"], in["dilation"],
                               in["padding"], in["stride"])});
    },
};
constinit const Symbol col2im{
    .schema =
        "col2im(Tensor input, int[2] output_size, int[2] kernel_size, int[2] dilation, int[2] "
        "padding, int[2] stride) -> Tensor",
    .torch = "torch._C._nn.col2im",
    .tags = kPure,
    .meta = col2im_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in,
                   {im2col(grad, in["kernel_size"], in["dilation"], in["padding"], in["stride"])});
    },
};
constinit const Symbol roll{
    .schema = "roll(Tensor input, int[1] shifts, int[1]? dims=()) -> Tensor",
    .torch = "torch.roll torch.Tensor.roll",
    .tags = kPure,
    .meta = roll_meta,
    .vjp = roll_vjp,
};
constinit const Symbol flip{
    .schema = "flip(Tensor input, int[]* dims) -> Tensor",
    .torch = "torch.flip torch.Tensor.flip",
    .tags = kPure,
    .meta = flip_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {flip(grad, in["dims"])});
    },
};
constinit const Symbol fliplr{
    .schema = "fliplr(Tensor input) -> Tensor",
    .torch = "torch.fliplr torch.Tensor.fliplr",
    .tags = kPure,
    .decompose = [](Call& in) { return flip_along(in, 1); },
};
constinit const Symbol flipud{
    .schema = "flipud(Tensor input) -> Tensor",
    .torch = "torch.flipud torch.Tensor.flipud",
    .tags = kPure,
    .decompose = [](Call& in) { return flip_along(in, 0); },
};
constinit const Symbol rot90{
    .schema = "rot90(Tensor input, int k=1, int[] dims=(0, 1)) -> Tensor",
    .torch = "torch.rot90 torch.Tensor.rot90",
    .tags = kPure,
    .meta = rot90_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {rot90(grad, -in.integer("k"), in["dims"])});
    },
};
constinit const Symbol tril{
    .schema = "tril(Tensor input, int diagonal=0) -> Tensor",
    .torch = "torch.tril torch.Tensor.tril torch.Tensor.tril_",
    .tags = kPure,
    .meta = triangle_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {tril(grad, in["diagonal"])});
    },
};
constinit const Symbol triu{
    .schema = "triu(Tensor input, int diagonal=0) -> Tensor",
    .torch = "torch.triu torch.Tensor.triu torch.Tensor.triu_",
    .tags = kPure,
    .meta = triangle_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {triu(grad, in["diagonal"])});
    },
};
constinit const Symbol diag{
    .schema = "diag(Tensor input, int diagonal=0) -> Tensor",
    .torch = "torch.diag torch.Tensor.diag",
    .tags = kPure,
    .meta = diag_meta,
    .vjp = diag_vjp,
};
constinit const Symbol diag_embed{
    .schema = "diag_embed(Tensor input, int offset=0, int dim1=-2, int dim2=-1) -> Tensor",
    .torch = "torch.diag_embed torch.Tensor.diag_embed",
    .tags = kPure,
    .meta = diag_embed_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {diagonal(grad, in["offset"], in["dim1"], in["dim2"])});
    },
};
}  // namespace fulmen::ops
