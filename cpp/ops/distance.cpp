#include "ops/arith.h"
#include "ops/check.h"
#include "ops/comparison.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/norm.h"
#include "ops/reduction.h"
#include "ops/select.h"
#include "ops/shape.h"

// Vectors of unit length, and distances of vectors.
namespace fulmen::ops {
namespace {

Arg normalize_decompose(Call& in) {
  if (in.has("out")) in.unsupported("out=");
  const Arg x = in["input"];
  const Arg length = record(linalg_vector_norm, {x, in["p"], in["dim"], Arg(true), Arg()});
  return x / expand_as(clamp_min(length, in["eps"]), x);
}

Arg cosine_similarity_meta(Call& in) {
  const TensorProxy& a = in.tensor("x1");
  const TensorProxy& b = in.tensor("x2");
  const DType dtype = promote(a.type.dtype, b.type.dtype);
  meta::require(in, dtype, meta::kFloats);
  const TensorProxy* both[] = {&a, &b};
  Dims shape = meta::broadcast(in, both);
  if (shape.empty()) in.unsupported("0-d tensors");
  shape.erase(static_cast<size_t>(meta::wrap_dim(in, in.integer("dim"), shape.size())));
  return meta::fresh(in, a.type, shape, dtype);
}

// Eager bounds the lengths from below without autograd seeing it.
Args cosine_similarity_vjp(Call& in, const Arg&, const Arg& grad) {
  const DType dtype = grad.tensor()->type.dtype;
  struct Vector {
    Arg x, length, bounded, unit;
  };
  const auto vector = [&](std::string_view param, const Dims& shape) {
    Vector v;
    v.x = converted(in[param], dtype);
    if (!(v.x.tensor()->type.shape == shape)) v.x = expand(v.x, in.dims_arg(shape));
    v.length = record(linalg_vector_norm, {v.x, Arg(2), in["dim"], Arg(true), Arg()});
    v.bounded = clamp_min(v.length, in["eps"]);
    v.unit = v.x / v.bounded;
    return v;
  };
  const TensorProxy* both[] = {&in.tensor("x1"), &in.tensor("x2")};
  const Dims shape = meta::broadcast(in, both);
  const Vector a = vector("x1", shape), b = vector("x2", shape);
  const Arg g = expand(record(unsqueeze, {grad, in["dim"]}), in.dims_arg(shape));
  const auto gradient = [&](const Vector& own, const Vector& other) {
    const Arg to_unit = g * other.unit;
    const Arg to_bounded = sum_dim(-to_unit * (own.unit / own.bounded), in["dim"], true);
    const Arg direction = where(eq(own.length, 0), 0.0, own.x / own.length);
    return to_unit / own.bounded + to_bounded * direction;
  };
  return grads_of(in, {{"x1", wants_grad(in, "x1") ? gradient(a, b) : Arg()},
                       {"x2", wants_grad(in, "x2") ? gradient(b, a) : Arg()}});
}

Args cdist_vjp(Call& in, const Arg& out, const Arg& grad) {
  const auto swapped = [](const Arg& a) {
    return contiguous(record(transpose, {a, Arg(-2), Arg(-1)}));
  };
  Arg first, second;
  if (wants_grad(in, "x1")) first = cdist_backward(grad, in["x1"], in["x2"], in["p"], out);
  if (wants_grad(in, "x2")) {
    second = cdist_backward(swapped(grad), in["x2"], in["x1"], in["p"], swapped(out));
  }
  return grads_of(in, {{"x1", first}, {"x2", second}});
}

// The gradient of x1, broadcast over the batch.
Arg cdist_backward_meta(Call& in) {
  const TensorType &a = in.type("x1"), &b = in.type("x2");
  if (a.dtype != b.dtype || a.ndim() < 2 || b.ndim() < 2) in.unsupported("several dtypes");
  Dims shape = meta::broadcast(in, std::span(a.shape.data(), a.ndim() - 2),
                               std::span(b.shape.data(), b.ndim() - 2));
  shape.push_back(a.shape[a.ndim() - 2]);
  shape.push_back(a.shape[a.ndim() - 1]);
  return meta::fresh(in, a, shape, a.dtype);
}

}  // namespace

constinit const Symbol normalize{
    .schema =
        "normalize(Tensor input, float p=2.0, int[1] dim=1, float eps=1e-12, "
        "Tensor? out=None) -> Tensor",
    .torch = "torch.nn.functional.normalize",
    .tags = kPure | kReduction,
    .decompose = normalize_decompose,
    .aten = "-",
};
constinit const Symbol cosine_similarity{
    .schema = "cosine_similarity(Tensor x1, Tensor x2, int dim=1, float eps=1e-08) -> Tensor",
    .torch = "torch.nn.functional.cosine_similarity torch.cosine_similarity",
    .tags = kPure | kReduction,
    .meta = cosine_similarity_meta,
    .vjp = cosine_similarity_vjp,
};

constinit const Symbol pairwise_distance{
    .schema =
        "pairwise_distance(Tensor x1, Tensor x2, float p=2.0, float eps=1e-06, bool keepdim=False)"
        " -> Tensor",
    .torch = "torch.pairwise_distance torch.nn.functional.pairwise_distance",
    .tags = kPure | kReduction,
    .decompose = [](Call& in) -> Arg {
      const Arg difference = in["x1"] - in["x2"];
      if (!is_floating(difference.tensor()->type.dtype)) in.unsupported("other than floats");
      return record(linalg_vector_norm,
                    {difference + in["eps"], in["p"], -1, in["keepdim"], Arg()});
    },
};
constinit const Symbol cdist{
    .schema =
        "cdist(Tensor x1, Tensor x2, float p=2.0, str "
        "compute_mode='use_mm_for_euclid_dist_if_necessary') -> Tensor",
    .torch = "torch.cdist torch.functional.cdist",
    .tags = kPure,
    .meta = [](Call& in) -> Arg {
      const TensorType &a = in.type("x1"), &b = in.type("x2");
      if (in.text("compute_mode") != "use_mm_for_euclid_dist_if_necessary") {
        in.unsupported("a compute_mode");
      }
      const size_t n = a.ndim();
      if (n < 2 || n != b.ndim() || a.dtype != b.dtype || !is_floating(a.dtype) ||
          !check::equal(in, a.shape[n - 1], b.shape[n - 1]) || in.real("p") < 0) {
        in.unsupported("operands of several dtypes, ranks or sizes");
      }
      check::device(in, {&in.tensor("x1"), &in.tensor("x2")});
      Dims shape =
          meta::broadcast(in, std::span(a.shape.data(), n - 2), std::span(b.shape.data(), n - 2));
      shape.push_back(a.shape[n - 2]);
      shape.push_back(b.shape[n - 2]);
      return meta::fresh(in, a, shape, a.dtype);
    },
    .vjp = cdist_vjp,
    .aten = "cdist(x1, x2, p, None)",
};

constinit const Symbol cdist_backward{
    .schema = "_cdist_backward(Tensor grad, Tensor x1, Tensor x2, float p, Tensor cdist) -> Tensor",
    .torch = "torch.ops.aten._cdist_backward",
    .tags = kPure | kReduction,
    .meta = cdist_backward_meta,
};

}  // namespace fulmen::ops
