#include "ops/arith.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/indexing.h"
#include "ops/meta.h"
#include "ops/pooling.h"
#include "ops/reduction.h"
#include "ops/shape.h"

// Gradients of pooling. In 1-d ATen pools in 2-d, with a height of 1.
namespace fulmen::ops {
namespace {

// The gradient of the input: channels_last where it suggests that and the kernel keeps it.
template <bool kKeepsChannelsLast>
Arg gradient_meta(Call& in) {
  TensorType out = in.type("self");
  meta::require(in, out.dtype, meta::kFloats);
  if (in.type("grad_output").dtype != out.dtype) in.unsupported("a gradient of another dtype");
  if (out.device.type != DeviceType::kCPU) in.unsupported("a device whose kernels choose layouts");
  const bool channels_last = kKeepsChannelsLast && meta::suggests_channels_last(out);
  out.strides =
      channels_last ? meta::channels_last_strides(out.shape) : contiguous_strides(out.shape);
  return in.make(std::move(out));
}

// Batched inputs only look like channels_last in the rank that the kernel knows.
template <bool kKeepsChannelsLast>
Arg gradient_3d_meta(Call& in) {
  if (in.type("self").ndim() != 5) in.unsupported("an unbatched input");
  return gradient_meta<kKeepsChannelsLast>(in);
}

// An empty stride is none: windows beside each other.
std::string_view stride_of(Call& in, size_t n) {
  return in.has("stride") && !in.integers("stride", n).empty() ? "stride" : "kernel_size";
}
Arg strides_of(Call& in, size_t n) { return in.ints(in.integers(stride_of(in, n), n)); }

Arg ints_of(Call& in, std::string_view param, size_t n) { return in.ints(in.integers(param, n)); }

size_t rank_of(const Call& in, std::string_view name) {
  return static_cast<size_t>(in.symbol().name()[name.size()] - '0');
}

Arg flat(const Arg& a) { return record(unsqueeze, {a, Arg(-2)}); }
Arg unflat(const Arg& a) { return record(squeeze_dim, {a, Arg(-2)}); }

// (1, k) for k.
Arg in_2d(Call& in, std::string_view param, int64_t height) {
  const int64_t both[] = {height, in.integers(param, 1)[0]};
  return in.ints(both);
}

Arg max_pool1d_in_2d(Call& in) {
  const Arg stride = in_2d(in, stride_of(in, 1), 1);
  return record(max_pool2d_with_indices,
                {flat(in["input"]), in_2d(in, "kernel_size", 1), stride, in_2d(in, "padding", 0),
                 in_2d(in, "dilation", 1), in["ceil_mode"]});
}

// What maxima took from `indices` of each plane, the last `n` dimensions.
Arg taken_at(Call& in, const Arg& from, size_t n) {
  const TensorType& indices = in.type("indices");
  if (meta::suggests_channels_last(indices)) in.unsupported("channels_last indices");
  Dims rows(std::span<const Dim>(indices.shape.data(), indices.ndim() - n));
  rows.push_back(Dim(-1));
  const auto flattened = [&](const Arg& a) {
    return record(view, {contiguous(a), in.dims_arg(rows)});
  };
  const Arg taken = gather(flattened(from), -1, flattened(in["indices"]));
  return record(view, {taken, in.dims_arg(indices.shape)});
}

template <size_t n>
Args max_pool_backward_vjp(Call& in, const Arg&, const Arg& grad) {
  return linear_backward_grads(in, grad, [&] { return taken_at(in, grad, n); });
}

template <size_t n>
Args avg_pool_backward_vjp(Call& in, const Arg&, const Arg& grad) {
  return linear_backward_grads(in, grad, [&] {
    return record(n == 2 ? avg_pool2d : avg_pool3d,
                  {grad, in["kernel_size"], in["stride"], in["padding"], in["ceil_mode"],
                   in["count_include_pad"], in["divisor_override"]});
  });
}

template <size_t n>
Args adaptive_avg_pool_backward_vjp(Call& in, const Arg&, const Arg& grad) {
  return linear_backward_grads(in, grad, [&] {
    const Dims& shape = in.type("grad_output").shape;
    const std::span<const Dim> sizes(shape.data() + shape.size() - n, n);
    return record(n == 2 ? adaptive_avg_pool2d : adaptive_avg_pool3d, {grad, in.dims_arg(sizes)});
  });
}

// Where every size is 1 eager takes the mean.
bool is_mean(Call& in, size_t n) {
  for (const int64_t size : in.integers("output_size", n)) {
    if (size != 1) return false;
  }
  return true;
}

}  // namespace

Args max_pool_vjp(Call& in, const Arg& out, const Arg& grad) {
  if (item(grad, 0).is_none()) return Args(in.size(), Arg());
  const size_t n = rank_of(in, "max_pool");
  const Symbol& backward =
      n == 2 ? max_pool2d_with_indices_backward : max_pool3d_with_indices_backward;
  return first_grad(in,
                    record(backward, {item(grad, 0), in["input"], ints_of(in, "kernel_size", n),
                                      strides_of(in, n), ints_of(in, "padding", n),
                                      ints_of(in, "dilation", n), in["ceil_mode"], item(out, 1)}));
}

Arg max_pool_steps(Call& in) {
  const size_t n = rank_of(in, "max_pool");
  if (n == 1) return unflat(item(max_pool1d_in_2d(in), 0));
  const Symbol& symbol = n == 2 ? max_pool2d_with_indices : max_pool3d_with_indices;
  return item(record(symbol, {in["input"], in["kernel_size"], in["stride"], in["padding"],
                              in["dilation"], in["ceil_mode"]}),
              0);
}

Arg max_pool1d_with_indices_steps(Call& in) {
  const Arg both = max_pool1d_in_2d(in);
  return in.tuple({unflat(item(both, 0)), unflat(item(both, 1))});
}

Args avg_pool_vjp(Call& in, const Arg&, const Arg& grad) {
  const size_t n = rank_of(in, "avg_pool");
  const Symbol& backward = n == 2 ? avg_pool2d_backward : avg_pool3d_backward;
  return first_grad(
      in, record(backward, {grad, in["input"], ints_of(in, "kernel_size", n), strides_of(in, n),
                            ints_of(in, "padding", n), in["ceil_mode"], in["count_include_pad"],
                            in["divisor_override"]}));
}

Arg avg_pool1d_steps(Call& in) {
  const Arg stride = in_2d(in, stride_of(in, 1), 1);
  return unflat(record(
      avg_pool2d, {flat(in["input"]), in_2d(in, "kernel_size", 1), stride, in_2d(in, "padding", 0),
                   in["ceil_mode"], in["count_include_pad"], Arg()}));
}

Args adaptive_avg_pool_vjp(Call& in, const Arg&, const Arg& grad) {
  const size_t n = rank_of(in, "adaptive_avg_pool");
  const TensorType& x = in.type("input");
  if (is_mean(in, n)) {
    Dim count = 1;
    for (size_t d = x.ndim() - n; d < x.ndim(); ++d) count = count * x.shape[d];
    return first_grad(in, expand(grad, in.dims_arg(x.shape)) / Arg(count));
  }
  const Symbol& backward = n == 2 ? adaptive_avg_pool2d_backward : adaptive_avg_pool3d_backward;
  return first_grad(in, record(backward, {grad, in["input"]}));
}

Arg adaptive_avg_pool1d_steps(Call& in) {
  return unflat(record(adaptive_avg_pool2d, {flat(in["input"]), in_2d(in, "output_size", 1)}));
}

Arg adaptive_max_pool2d_steps(Call& in) {
  return item(
      record(adaptive_max_pool2d_with_indices, {in["input"], ints_of(in, "output_size", 2)}), 0);
}

Args max_unpool_vjp(Call& in, const Arg&, const Arg& grad) {
  return first_grad(in, taken_at(in, grad, rank_of(in, "max_unpool")));
}

constinit const Symbol max_pool2d_with_indices_backward{
    .schema =
        "max_pool2d_with_indices_backward(Tensor grad_output, Tensor self, int[2] kernel_size, "
        "int[2] stride, int[2] padding, int[2] dilation, bool ceil_mode, Tensor indices) -> "
        "Tensor",
    .torch = "torch.ops.aten.max_pool2d_with_indices_backward",
    .tags = kPure,
    .meta = gradient_meta<true>,
    .vjp = max_pool_backward_vjp<2>,
};
constinit const Symbol max_pool3d_with_indices_backward{
    .schema =
        "max_pool3d_with_indices_backward(Tensor grad_output, Tensor self, int[3] kernel_size, "
        "int[3] stride, int[3] padding, int[3] dilation, bool ceil_mode, Tensor indices) -> "
        "Tensor",
    .torch = "torch.ops.aten.max_pool3d_with_indices_backward",
    .tags = kPure,
    .meta = gradient_3d_meta<true>,
    .vjp = max_pool_backward_vjp<3>,
};
constinit const Symbol avg_pool2d_backward{
    .schema =
        "avg_pool2d_backward(Tensor grad_output, Tensor self, int[2] kernel_size, "
        "int[2] stride, int[2] padding, bool ceil_mode, bool count_include_pad, "
        "int? divisor_override) -> Tensor",
    .torch = "torch.ops.aten.avg_pool2d_backward",
    .tags = kPure,
    .meta = gradient_meta<true>,
    .vjp = avg_pool_backward_vjp<2>,
};
constinit const Symbol avg_pool3d_backward{
    .schema =
        "avg_pool3d_backward(Tensor grad_output, Tensor self, int[3] kernel_size, "
        "int[3] stride, int[3] padding, bool ceil_mode, bool count_include_pad, "
        "int? divisor_override) -> Tensor",
    .torch = "torch.ops.aten.avg_pool3d_backward",
    .tags = kPure,
    .meta = gradient_meta<false>,
    .vjp = avg_pool_backward_vjp<3>,
};
constinit const Symbol adaptive_avg_pool2d_backward{
    .schema = "_adaptive_avg_pool2d_backward(Tensor grad_output, Tensor self) -> Tensor",
    .torch = "torch.ops.aten._adaptive_avg_pool2d_backward",
    .tags = kPure,
    .meta = gradient_meta<true>,
    .vjp = adaptive_avg_pool_backward_vjp<2>,
};
constinit const Symbol adaptive_avg_pool3d_backward{
    .schema = "_adaptive_avg_pool3d_backward(Tensor grad_output, Tensor self) -> Tensor",
    .torch = "torch.ops.aten._adaptive_avg_pool3d_backward",
    .tags = kPure,
    .meta = gradient_meta<false>,
    .vjp = adaptive_avg_pool_backward_vjp<3>,
};
constinit const Symbol adaptive_max_pool2d_with_indices{
    .schema = "adaptive_max_pool2d.indices(Tensor self, int[2] output_size) -> (Tensor, Tensor)",
    .torch = "torch.ops.aten.adaptive_max_pool2d",
    .tags = kPure,
    .meta =
        [](Call& in) {
          const Arg args[] = {in["self"], in["output_size"], Arg(false)};
          const Arg values = in.builder().infer(adaptive_max_pool2d, args);
          TensorType indices = values.tensor()->type;
          indices.dtype = DType::kInt64;
          return in.tuple({values, in.make(std::move(indices))});
        },
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      if (item(grad, 0).is_none()) return Args(in.size(), Arg());
      return first_grad(in, adaptive_max_pool2d_backward(item(grad, 0), in["self"], item(out, 1)));
    },
};
constinit const Symbol adaptive_max_pool2d_backward{
    .schema =
        "adaptive_max_pool2d_backward(Tensor grad_output, Tensor self, Tensor indices) -> Tensor",
    .torch = "torch.ops.aten.adaptive_max_pool2d_backward",
    .tags = kPure,
    .meta = gradient_meta<true>,
    .vjp = max_pool_backward_vjp<2>,
};

}  // namespace fulmen::ops
