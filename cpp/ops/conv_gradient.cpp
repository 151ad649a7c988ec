#include "ops/arith.h"
#include "ops/check.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

// As the convolution itself: in 1-d ATen adds a height of 1 to a contiguous input.
bool is_channels_last(const TensorType& input, const TensorType& weight) {
  TensorType x = input, w = weight;
  if (x.ndim() == 3) {
    if (!is_contiguous(x)) x.strides = contiguous_strides(x.shape);
    x = meta::unsqueezed(x, 2);
    w = meta::unsqueezed(w, 2);
  }
  return meta::suggests_channels_last(x) || meta::suggests_channels_last(w);
}

Arg gradient_like(Call& in, const TensorType& t, bool channels_last) {
  TensorType out = t;
  out.strides = contiguous_strides(t.shape);
  if (channels_last && t.ndim() == 3) {
    Dims wide = t.shape;
    wide.insert(2, Dim(1));
    out.strides = meta::channels_last_strides(wide);
    out.strides.erase(2);
  } else if (channels_last) {
    out.strides = meta::channels_last_strides(t.shape);
  }
  return in.make(std::move(out));
}

Arg convolution_backward_meta(Call& in) {
  const TensorType &x = in.type("input"), &w = in.type("weight"), &g = in.type("grad_output");
  meta::require(in, x.dtype, meta::kFloats);
  if (x.dtype != w.dtype || g.dtype != x.dtype) in.unsupported("several dtypes");
  if (x.device.type != DeviceType::kCPU) in.unsupported("a device whose kernels choose layouts");
  if (x.ndim() < 3 || x.ndim() != w.ndim()) in.unsupported("an unbatched input");
  const bool channels_last = is_channels_last(x, w);
  if (channels_last && x.ndim() != 4) in.unsupported("a channels_last input of this rank");
  if (numel(x).value() == 0) in.unsupported("an empty input");
  const Dim channels[] = {g.shape[1]};
  return masked_results(in,
                        {gradient_like(in, x, channels_last), gradient_like(in, w, channels_last),
                         meta::fresh(in, x, channels, x.dtype)});
}

struct Padding {
  SmallVec<int64_t, 6> both;
  Args extra;  // of constant_pad_nd, where the two sides differ
  bool symmetric = true;
};

Padding padding_of(const Call& in, size_t spatial) {
  Padding p;
  const Arg& given = in["padding"];
  if (given.kind() != Arg::Kind::kString) {
    p.both = in.integers("padding", spatial);
    return p;
  }
  p.both.resize(spatial, 0);
  if (given.text() != "same") return p;
  const auto dilation = in.integers("dilation", spatial);
  p.extra.resize(2 * spatial, Arg(0));
  for (size_t i = 0; i < spatial; ++i) {
    const int64_t total = dilation[i] * (in.type("weight").shape[i + 2].value() - 1);
    p.both[i] = total / 2;
    if (total % 2 == 0) continue;
    p.symmetric = false;
    p.extra[2 * (spatial - 1 - i) + 1] = Arg(1);
  }
  return p;
}

// The convolution of which this is the gradient, of other operands.
Arg convolved(Call& in, const Arg& input, const Arg& weight) {
  const size_t i = in.type("input").ndim() - 3;
  if (in.flag("transposed")) {
    const Symbol* const rows[] = {&conv_transpose1d, &conv_transpose2d, &conv_transpose3d};
    return record(*rows[i], {input, weight, Arg(), in["stride"], in["padding"],
                             in["output_padding"], in["groups"], in["dilation"]});
  }
  const Symbol* const rows[] = {&conv1d, &conv2d, &conv3d};
  return record(*rows[i],
                {input, weight, Arg(), in["stride"], in["padding"], in["dilation"], in["groups"]});
}

Arg gradient_of(Call& in, const Arg& input, const Arg& weight, size_t which) {
  Args mask(3, Arg(false));
  mask[which] = Arg(true);
  return item(record(convolution_backward, {in["grad_output"], input, weight, Arg(), in["stride"],
                                            in["padding"], in["dilation"], in["transposed"],
                                            in["output_padding"], in["groups"], in.list(mask)}),
              which);
}

// Each result is linear in each of the operands that it is made of.
Args convolution_backward_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg &to_input = item(grad, 0), &to_weight = item(grad, 1), &to_bias = item(grad, 2);
  Arg of_grad, of_input, of_weight;
  const auto add_to = [](Arg& sum, const Arg& a) { sum = sum.is_none() ? a : sum + a; };
  if (wants_grad(in, "grad_output")) {
    if (!to_input.is_none()) add_to(of_grad, convolved(in, to_input, in["weight"]));
    if (!to_weight.is_none()) add_to(of_grad, convolved(in, in["input"], to_weight));
    if (!to_bias.is_none()) {
      const Dims& shape = in.type("grad_output").shape;
      Dims channels(shape.size(), Dim(1));
      channels[1] = shape[1];
      const Arg bias = record(view, {to_bias, in.dims_arg(channels)});
      if (of_grad.is_none())
        of_grad = expand(bias, in.dims_arg(shape));
      else
        of_grad = of_grad + bias;
    }
  }
  if (wants_grad(in, "weight") && !to_input.is_none())
    of_weight = gradient_of(in, to_input, in["weight"], 1);
  if (wants_grad(in, "input") && !to_weight.is_none())
    of_input = gradient_of(in, in["input"], to_weight, 0);
  return grads_of(in, {{"grad_output", of_grad}, {"input", of_input}, {"weight", of_weight}});
}

}  // namespace

Args convolution_vjp(Call& in, const Arg&, const Arg& grad) {
  const TensorType &x = in.type("input"), &w = in.type("weight");
  const size_t spatial = w.ndim() - 2;
  const Padding padding = padding_of(in, spatial);
  if (!padding.symmetric) in.unsupported("padding of two different sides");
  const bool transposed = in.symbol().info->schema.index("output_padding") >= 0;
  SmallVec<int64_t, 6> none(spatial, 0);
  const bool batched = x.ndim() == spatial + 2;
  const auto batch = [&](const Arg& a) { return batched ? a : record(unsqueeze, {a, Arg(0)}); };
  const Dim bias[] = {grad.tensor()->type.shape[batched]};
  const Arg all =
      record(convolution_backward,
             {batch(grad), batch(in["input"]), in["weight"],
              in.has("bias") ? in.dims_arg(bias) : Arg(), in.ints(in.integers("stride", spatial)),
              in.ints(padding.both), in.ints(in.integers("dilation", spatial)), Arg(transposed),
              in.ints(transposed ? in.integers("output_padding", spatial) : none), in["groups"],
              output_mask(in, {"input", "weight", "bias"})});
  Arg own = item(all, 0);
  if (!batched && !own.is_none()) own = record(squeeze_dim, {own, Arg(0)});
  return grads_of(in, {{"input", own}, {"weight", item(all, 1)}, {"bias", item(all, 2)}});
}

Arg padded_convolution(Call& in) {
  const size_t spatial = in.type("weight").ndim() - 2;
  const Padding padding = padding_of(in, spatial);
  if (padding.symmetric) in.unsupported("padding of equal sides");
  const Arg input = record(constant_pad_nd, {in["input"], in.list(padding.extra), Arg(0)});
  const Symbol* const rows[] = {&conv1d, &conv2d, &conv3d};
  return record(*rows[spatial - 1], {input, in["weight"], in["bias"], in["stride"],
                                     in.ints(padding.both), in["dilation"], in["groups"]});
}

constinit const Symbol convolution_backward{
    .schema =
        "convolution_backward(Tensor grad_output, Tensor input, Tensor weight, "
        "int[]? bias_sizes, int[] stride, int[] padding, int[] dilation, bool transposed, "
        "int[] output_padding, int groups, bool[] output_mask) -> (Tensor, Tensor, Tensor)",
    .torch = "torch.ops.aten.convolution_backward",
    .tags = kPure | kMatmul,
    .meta = convolution_backward_meta,
    .vjp = convolution_backward_vjp,
};

}  // namespace fulmen::ops
