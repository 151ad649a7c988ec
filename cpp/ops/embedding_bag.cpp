#include "ops/embedding_bag.h"

#include "ops/check.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/shape.h"

#define FULMEN_BAG_PARAMS                                                                \
  "Tensor weight, Tensor indices, Tensor offsets, bool scale_grad_by_freq=False, "       \
  "int mode=0, bool sparse=False, Tensor? per_sample_weights=None, "                     \
  "bool include_last_offset=False, int"

namespace fulmen::ops {
namespace {

constexpr int64_t kSum = 0, kMax = 2;

// Whether the CPU adds rows up without asking for the bag of each index, which then is empty.
bool adds_rows(Call& in) {
  const TensorType& weight = in.type("weight");
  const TensorProxy* samples = in.opt_tensor("per_sample_weights");
  const bool pads = in.has("padding_idx") && in.integer("padding_idx") >= 0;
  return in.integer("mode") == kSum && !pads && weight.dtype != DType::kFloat64 &&
         weight.strides[1] == Dim(1) && (!samples || samples->type.strides[0] == Dim(1));
}

// (bags, the bag of each index, the bags' sizes, the indices of maxima), as on the CPU. Where the
// weight has no gradient (`forward_only`) some are longer by the last offset.
Arg bag_meta(Call& in, bool forward_only) {
  const TensorType &weight = in.type("weight"), &indices = in.type("indices");
  const TensorType& offsets = in.type("offsets");
  meta::require(in, weight.dtype, meta::kFloats);
  const bool ints = indices.dtype == DType::kInt64 || indices.dtype == DType::kInt32;
  const bool ranks = weight.ndim() == 2 && indices.ndim() == 1 && offsets.ndim() == 1;
  if (!ints || indices.dtype != offsets.dtype || !ranks) in.unsupported("these tensors");
  if (in.flag("sparse")) in.unsupported("sparse gradients");
  const int64_t mode = in.integer("mode");
  if (mode < kSum || mode > kMax) in.unsupported("mode ", mode);
  if (const TensorProxy* w = in.opt_tensor("per_sample_weights")) {
    if (mode != kSum || w->type.dtype != weight.dtype || !(w->type.shape == indices.shape))
      in.unsupported("these weights of samples");
  }
  const Device device =
      check::device(in, {&in.tensor("weight"), &in.tensor("indices"), &in.tensor("offsets"),
                         in.opt_tensor("per_sample_weights")});
  if (device.type != DeviceType::kCPU) in.unsupported("another device than the CPU");
  const Dim last = in.flag("include_last_offset") ? 1 : 0;
  const Dim bags = offsets.shape[0] - last;
  const Dim sizes = forward_only && mode == kSum ? offsets.shape[0] : bags;
  const Dims table{bags, weight.shape[1]};
  const auto numbers = [&](const Dims& shape) {
    return meta::fresh(in, offsets, shape, offsets.dtype);
  };
  return in.tuple({meta::fresh(in, weight, table, weight.dtype),
                   numbers(adds_rows(in) ? Dims{0} : indices.shape), numbers(Dims{sizes}),
                   numbers(mode == kMax ? table : Dims{sizes})});
}

Args bag_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg g = item(grad, 0);
  const Arg& bag_of = item(out, 1);
  Arg of_weight, of_samples;
  if (wants_grad(in, "weight")) {
    of_weight = record(embedding_bag_backward,
                       {g, in["indices"], in["offsets"], bag_of, item(out, 2), item(out, 3),
                        Arg(in.type("weight").shape[0]), in["scale_grad_by_freq"], in["mode"],
                        in["sparse"], in["per_sample_weights"], in["padding_idx"]});
  }
  if (in.has("per_sample_weights") && wants_grad(in, "per_sample_weights")) {
    of_samples = record(
        embedding_bag_weights_backward,
        {g, in["weight"], in["indices"], in["offsets"], bag_of, in["mode"], in["padding_idx"]});
  }
  return grads_of(in, {{"weight", of_weight}, {"per_sample_weights", of_samples}});
}

}  // namespace

constinit const Symbol embedding_bag{
    .schema = "embedding_bag.padding_idx(" FULMEN_BAG_PARAMS
              "? padding_idx=None) -> (Tensor, Tensor, Tensor, Tensor)",
    .torch = "torch.embedding_bag",
    .tags = kPure,
    .meta = [](Call& in) -> Arg {
      const int64_t padding = in.has("padding_idx") ? in.integer("padding_idx") : 0;
      if (padding < 0 || padding >= in.type("weight").shape[0].value())
        in.unsupported("this padding_idx");
      return bag_meta(in, !in.type("weight").requires_grad);
    },
    // What eager runs for a weight with a gradient.
    .augmented = [](Call& in) -> Arg {
      if (!in.type("weight").requires_grad) in.unsupported("a weight without gradient");
      Args args{in.args()};
      for (Arg& a : args) {
        if (a.is_tensor() && !is_contiguous(a.tensor()->type)) a = contiguous_clone(a);
      }
      if (!in.has("padding_idx")) args.back() = Arg(-1);
      return in.builder().call(embedding_bag_with_indices, args);
    },
};
constinit const Symbol embedding_bag_with_indices{
    .schema =
        "_embedding_bag(" FULMEN_BAG_PARAMS " padding_idx=-1) -> (Tensor, Tensor, Tensor, Tensor)",
    .torch = "torch.ops.aten._embedding_bag",
    .tags = kPure,
    .meta = [](Call& in) -> Arg { return bag_meta(in, false); },
    .vjp = bag_vjp,
};
constinit const Symbol embedding_bag_backward{
    .schema =
        "_embedding_bag_backward(Tensor grad, Tensor indices, Tensor offsets, Tensor offset2bag, "
        "Tensor bag_size, Tensor maximum_indices, int num_weights, bool scale_grad_by_freq, "
        "int mode, bool sparse, Tensor? per_sample_weights, int padding_idx=-1) -> Tensor",
    .torch = "torch.ops.aten._embedding_bag_backward",
    .tags = kPure | kReduction,
    .meta = [](Call& in) -> Arg {
      const TensorType& grad = in.type("grad");
      if (in.flag("sparse") || grad.ndim() != 2) in.unsupported("these arguments");
      const Dim shape[] = {in.dims("num_weights")[0], grad.shape[1]};
      return meta::fresh(in, grad, shape, grad.dtype);
    },
};
constinit const Symbol embedding_bag_weights_backward{
    .schema =
        "_embedding_bag_per_sample_weights_backward(Tensor grad, Tensor weight, Tensor indices, "
        "Tensor offsets, Tensor offset2bag, int mode, int padding_idx=-1) -> Tensor",
    .torch = "torch.ops.aten._embedding_bag_per_sample_weights_backward",
    .tags = kPure | kReduction,
    .meta = [](Call& in) -> Arg {
      const TensorType& grad = in.type("grad");
      return meta::fresh(in, grad, in.type("indices").shape, grad.dtype);
    },
};

std::span<const Symbol* const> embedding_bag_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_EMBEDDING_BAG_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
