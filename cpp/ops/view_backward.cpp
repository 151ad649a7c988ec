#include "ops/creation.h"
#include "ops/gradient.h"
#include "ops/indexing.h"
#include "ops/meta.h"
#include "ops/shape.h"

// ATen's own backward operations of views and of padding.
namespace fulmen::ops {
namespace {

Arg view_backward_meta(Call& in) {
  const TensorType& g = in.type("grad_output");
  return meta::fresh(in, g, in.dims("input_sizes"), g.dtype);
}

Arg unfold_backward_meta(Call& in) {
  const TensorType& g = in.type("grad_in");
  return meta::fresh(in, g, in.dims("input_sizes"), g.dtype);
}

// A gradient of the padded tensor, summed where elements were repeated.
Arg pad_backward_meta(Call& in) {
  const TensorType &g = in.type("grad_output"), &t = in.type("input");
  const auto pad = in.integers("padding");
  const size_t spatial = pad.size() / 2;
  bool fits = (t.ndim() == spatial + 1 || t.ndim() == spatial + 2) && g.ndim() == t.ndim();
  for (size_t i = 0; fits && i < t.ndim(); ++i) {
    const size_t back = t.ndim() - 1 - i;
    const int64_t added = back < spatial ? pad[2 * back] + pad[2 * back + 1] : 0;
    fits = g.shape[i].value() == t.shape[i].value() + added;
  }
  if (!fits || g.dtype != t.dtype) in.unsupported("a gradient that does not fit the padding");
  return meta::fresh(in, t, t.shape, t.dtype);
}

Arg zeros_of_input(Call& in) { return new_zeros(in["grad_output"], in["input_sizes"]); }

}  // namespace

constinit const Symbol slice_backward{
    .schema =
        "slice_backward(Tensor grad_output, int[] input_sizes, int dim, int start, int end, int "
        "step) -> Tensor",
    .torch = "torch.ops.aten.slice_backward",
    .tags = kPure,
    .meta = view_backward_meta,
    .decompose = [](Call& in) -> Arg {
      return slice_scatter(zeros_of_input(in), in["grad_output"], in["dim"], in["start"], in["end"],
                           in["step"]);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {slice(grad, in["dim"], in["start"], in["end"], in["step"])});
    },
};
constinit const Symbol select_backward{
    .schema =
        "select_backward(Tensor grad_output, int[] input_sizes, int dim, int index) -> Tensor",
    .torch = "torch.ops.aten.select_backward",
    .tags = kPure,
    .meta = view_backward_meta,
    .decompose = [](Call& in) -> Arg {
      return select_scatter(zeros_of_input(in), in["grad_output"], in["dim"], in["index"]);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {select(grad, in["dim"], in["index"])});
    },
};
constinit const Symbol diagonal_backward{
    .schema =
        "diagonal_backward(Tensor grad_output, int[] input_sizes, int offset, int dim1, int dim2) "
        "-> Tensor",
    .torch = "torch.ops.aten.diagonal_backward",
    .tags = kPure,
    .meta = view_backward_meta,
    .decompose = [](Call& in) -> Arg {
      return diagonal_scatter(zeros_of_input(in), in["grad_output"], in["offset"], in["dim1"],
                              in["dim2"]);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {diagonal(grad, in["offset"], in["dim1"], in["dim2"])});
    },
};
constinit const Symbol unfold_backward{
    .schema =
        "unfold_backward(Tensor grad_in, int[] input_sizes, int dim, int size, int step) -> Tensor",
    .torch = "torch.ops.aten.unfold_backward",
    .tags = kPure,
    .meta = unfold_backward_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {unfold(grad, in["dim"], in["size"], in["step"])});
    },
};

#define FULMEN_PAD_BACKWARD(row, mode)                                              \
  constinit const Symbol row{                                                       \
      .schema = #row "(Tensor grad_output, Tensor input, int[] padding) -> Tensor", \
      .torch = "torch.ops.aten." #row,                                              \
      .tags = kPure,                                                                \
      .meta = pad_backward_meta,                                                    \
      .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {                    \
        return grads(in, {pad(grad, in["padding"], mode)});                         \
      },                                                                            \
  };
FULMEN_PAD_BACKWARD(reflection_pad1d_backward, "reflect")
FULMEN_PAD_BACKWARD(reflection_pad2d_backward, "reflect")
FULMEN_PAD_BACKWARD(reflection_pad3d_backward, "reflect")
FULMEN_PAD_BACKWARD(replication_pad1d_backward, "replicate")
FULMEN_PAD_BACKWARD(replication_pad2d_backward, "replicate")
FULMEN_PAD_BACKWARD(replication_pad3d_backward, "replicate")
#undef FULMEN_PAD_BACKWARD

}  // namespace fulmen::ops
