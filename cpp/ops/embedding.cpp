#include "ops/embedding.h"

#include "ops/check.h"
#include "ops/comparison.h"
#include "ops/families.h"
#include "ops/gradient.h"
#include "ops/indexing.h"
#include "ops/meta.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

Arg lookup(Call& in, const TensorProxy& indices, const TensorProxy& weight) {
  if (weight.type.ndim() != 2) {
    in.fail(ErrorKind::kRuntime, "rank", "'weight' must be 2-D; got shape ",
            meta::shape_text(weight.type.shape));
  }
  const DType t = indices.type.dtype;
  if (t != DType::kInt64 && t != DType::kInt32) {
    in.fail(ErrorKind::kRuntime, "index-dtype", "indices must be int64 or int32; got ", name(t));
  }
  Dims shape = indices.type.shape;
  shape.push_back(weight.type.shape[1]);
  TensorType out;
  out.dtype = weight.type.dtype;
  out.device = check::device(in, {&weight, &indices});
  out.shape = shape;
  out.strides = contiguous_strides(shape);
  return in.make(std::move(out));
}

Arg embedding_meta(Call& in) {
  if (in.has("max_norm")) in.unsupported("max_norm, which changes the weight");
  if (in.flag("sparse")) in.unsupported("sparse gradients");
  // ATen's padding_idx does not count from the end; -1 means none.
  if (in.has("padding_idx") && in.integer("padding_idx") < 0) {
    in.unsupported("a negative padding_idx");
  }
  return lookup(in, in.tensor("input"), in.tensor("weight"));
}

Arg embedding_weight_first_meta(Call& in) {
  if (in.flag("sparse")) in.unsupported("sparse gradients");
  return lookup(in, in.tensor("indices"), in.tensor("weight"));
}

Args weight_grad(Call& in, const Arg& indices, const Arg& grad) {
  const Arg padding = in.has("padding_idx") ? in["padding_idx"] : Arg(-1);
  return grads_of(
      in, {{"weight", embedding_dense_backward(grad, indices, Arg(in.type("weight").shape[0]),
                                               padding, in["scale_grad_by_freq"])}});
}

}  // namespace

constinit const Symbol embedding{
    .schema =
        "embedding(Tensor input, Tensor weight, int? padding_idx=None, "
        "float? max_norm=None, float norm_type=2.0, bool scale_grad_by_freq=False, "
        "bool sparse=False) -> Tensor",
    .torch = "torch.nn.functional.embedding",
    .tags = kPure,
    .meta = embedding_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return weight_grad(in, in["input"], grad);
    },
    .aten = "embedding(weight, input, padding_idx ?? -1, scale_grad_by_freq, sparse)",
};
constinit const Symbol embedding_weight_first{
    .schema =
        "embedding.weight_first(Tensor weight, Tensor indices, int padding_idx=-1, "
        "bool scale_grad_by_freq=False, bool sparse=False) -> Tensor",
    .torch = "torch.embedding",
    .tags = kPure,
    .meta = embedding_weight_first_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return weight_grad(in, in["indices"], grad);
    },
};

constinit const Symbol embedding_dense_backward{
    .schema =
        "embedding_dense_backward(Tensor grad_output, Tensor indices, int num_weights, "
        "int padding_idx, bool scale_grad_by_freq) -> Tensor",
    .torch = "torch.ops.aten.embedding_dense_backward",
    .tags = kPure | kReduction,
    .meta =
        [](Call& in) {
          const TensorType& grad = in.type("grad_output");
          if (grad.ndim() == 0) in.unsupported("a 0-d gradient");
          const Dim shape[] = {in.dims("num_weights")[0], grad.shape.back()};
          return meta::fresh(in, grad, shape, grad.dtype);
        },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      if (in.flag("scale_grad_by_freq")) in.unsupported("gradients scaled by frequency");
      Arg rows = embedding_weight_first(grad, in["indices"]);
      if (in.integer("padding_idx") >= 0) {
        const Arg padded = record(unsqueeze, {eq(in["indices"], in["padding_idx"]), Arg(-1)});
        rows = masked_fill(rows, padded, 0);
      }
      return first_grad(in, rows);
    },
};

std::span<const Symbol* const> embedding_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_EMBEDDING_OPS(X) X(embedding_dense_backward)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
