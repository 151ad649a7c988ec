#include <algorithm>

#include "ops/arith.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/matmul.h"
#include "ops/meta.h"
#include "ops/shape.h"

// Gradients of products, as PyTorch's own formulas: the same products on operands of the same
// strides, so that the results are the same bits.
namespace fulmen::ops {
namespace {

const TensorType& type_of(const Arg& a) { return a.tensor()->type; }

// Eager gives a column-major operand a column-major gradient.
bool is_column_major(const TensorType& t) {
  return t.strides[0] == Dim(1) && t.strides[1] == t.shape[0];
}

bool is_number_one(const Arg& a) {
  return (a.kind() == Arg::Kind::kFloat && a.real() == 1) ||
         (a.kind() == Arg::Kind::kInt && a.integer() == 1);
}

Arg times(const Arg& grad, const Arg& factor) {
  return is_number_one(factor) ? grad : mul(grad, factor);
}

Arg swapped(const Arg& a) { return record(transpose, {a, Arg(1), Arg(2)}); }

// Of mm(a, b), `own` being the operand whose gradient it is.
Arg left_gradient(const Arg& grad, const TensorType& own, const Arg& b) {
  return is_column_major(own) ? t(mm(b, t(grad))) : mm(grad, t(b));
}
Arg right_gradient(const Arg& grad, const Arg& a, const TensorType& own) {
  return is_column_major(own) ? t(mm(t(grad), a)) : mm(t(a), grad);
}

Arg reshaped(Call& in, const Arg& a, std::span<const Dim> shape) {
  return record(reshape, {a, in.dims_arg(shape)});
}

Dim product_of(std::span<const Dim> sizes) {
  Dim n = 1;
  for (const Dim d : sizes) n = n * d;
  return n;
}

// (…, k) as a matrix of k columns.
Arg as_matrix(Call& in, const Arg& a) {
  const Dims& shape = type_of(a).shape;
  if (shape.size() == 2) return a;
  const Dim sizes[] = {product_of({shape.data(), shape.size() - 1}), shape.back()};
  return reshaped(in, a, sizes);
}

// Whether eager multiplies matrices here instead of batches: see should_fold in ATen.
bool folds(const TensorType& a, const TensorType& b, bool with_grad = true) {
  const bool left_larger = a.ndim() >= b.ndim();
  const TensorType& large = left_larger ? a : b;
  const TensorType& small = left_larger ? b : a;
  if (large.ndim() < 3 || small.ndim() > 2) return false;
  if (with_grad && small.requires_grad) return true;
  if (a.ndim() == 2) return false;
  if (is_zero(numel(large))) return true;
  TensorType seen = large;
  if (!left_larger) {
    std::swap(seen.shape[seen.ndim() - 1], seen.shape[seen.ndim() - 2]);
    std::swap(seen.strides[seen.ndim() - 1], seen.strides[seen.ndim() - 2]);
  }
  for (size_t i = 0; i + 2 < seen.ndim(); ++i) {
    if (!(seen.strides[i] == seen.strides[i + 1] * seen.shape[i + 1])) return false;
  }
  return true;
}

struct Batched {
  Dims batch;  // broadcast
  Dim rows, inner, columns;
};

Batched batched(Call& in, const TensorType& a, const TensorType& b) {
  Batched s;
  s.batch = meta::broadcast(in, std::span(a.shape.data(), a.ndim() - 2),
                            std::span(b.shape.data(), b.ndim() - 2));
  s.rows = a.shape[a.ndim() - 2];
  s.inner = a.shape[a.ndim() - 1];
  s.columns = b.shape[b.ndim() - 1];
  return s;
}

// The operand expanded to the batch and flattened to three dimensions.
Arg flattened(Call& in, const Arg& a, const Dims& batch, Dim rows, Dim columns) {
  Dims full = batch;
  full.push_back(rows);
  full.push_back(columns);
  Arg out = a;
  if (!(type_of(a).shape == full)) out = expand(a, in.dims_arg(full));
  const Dim sizes[] = {product_of(batch), rows, columns};
  return full.size() == 3 ? out : reshaped(in, out, sizes);
}

// The gradient of `flattened`.
Arg unflattened(Call& in, const Arg& grad, const Dims& batch, const TensorType& own) {
  Dims full = batch;
  full.push_back(own.shape[own.ndim() - 2]);
  full.push_back(own.shape[own.ndim() - 1]);
  return reduced_to(full.size() == 3 ? grad : reshaped(in, grad, full), own);
}

// The operands get dimensions of size 1 at `expand…`, are multiplied, and summed over `sumdim`.
Arg trilinear_meta(Call& in) {
  Dims shape;
  for (const auto& [param, expanded] :
       {std::pair("i1", "expand1"), std::pair("i2", "expand2"), std::pair("i3", "expand3")}) {
    const TensorType& t = in.type(param);
    meta::require(in, t.dtype, meta::kFloats);
    if (t.dtype != in.type("i1").dtype) in.unsupported("several dtypes");
    Dims own = t.shape;
    for (const int64_t d : in.integers(expanded)) own.insert(static_cast<size_t>(d), Dim(1));
    shape = shape.empty() ? own : meta::broadcast(in, shape, own);
  }
  Dims kept;
  const auto summed = in.integers("sumdim");
  for (size_t d = 0; d < shape.size(); ++d) {
    const bool gone = std::find(summed.begin(), summed.end(), d) != summed.end();
    if (!gone) kept.push_back(shape[d]);
  }
  return meta::fresh(in, in.type("i1"), kept, in.type("i1").dtype);
}

bool squeezes(const TensorType& a, const TensorType& b) {
  return a.ndim() == 3 && b.ndim() == 3 && !(a.shape[0] == b.shape[0]) &&
         ((is_one(a.shape[0]) && a.requires_grad) || (is_one(b.shape[0]) && b.requires_grad));
}

bool linear_folds_for_gradient(const TensorType& x, const TensorType& w) {
  return x.ndim() > 2 && w.ndim() == 2 && w.requires_grad && !folds(x, w, false);
}

}  // namespace

Args mm_vjp(Call& in, const Arg&, const Arg& grad) {
  real_grad(in, grad);
  Args out(2, Arg());
  if (wants_grad(in, "input")) out[0] = left_gradient(grad, in.type("input"), in["mat2"]);
  if (wants_grad(in, "mat2")) out[1] = right_gradient(grad, in["input"], in.type("mat2"));
  return out;
}

Args bmm_vjp(Call& in, const Arg&, const Arg& grad) {
  real_grad(in, grad);
  Args out(2, Arg());
  if (wants_grad(in, "input")) out[0] = bmm(grad, swapped(in["mat2"]));
  if (wants_grad(in, "mat2")) out[1] = bmm(swapped(in["input"]), grad);
  return out;
}

Args mv_vjp(Call& in, const Arg&, const Arg& grad) {
  real_grad(in, grad);
  Args out(2, Arg());
  if (wants_grad(in, "input")) out[0] = outer(grad, in["vec"]);
  if (wants_grad(in, "vec")) out[1] = mv(t(in["input"]), grad);
  return out;
}

Args dot_vjp(Call& in, const Arg&, const Arg& grad) {
  real_grad(in, grad);
  Args out(2, Arg());
  if (in[0].tensor()->type.requires_grad) out[0] = grad * in[1];
  if (in[1].tensor()->type.requires_grad) out[1] = grad * in[0];
  return out;
}

Args matmul_vjp(Call& in, const Arg&, const Arg& grad) {
  real_grad(in, grad);
  const Arg a = in["input"], b = in["other"];
  const TensorType &x = type_of(a), &y = type_of(b);
  Args out(2, Arg());
  const bool left = x.requires_grad, right = y.requires_grad;
  if (x.ndim() == 1 && y.ndim() == 1) {
    if (left) out[0] = grad * b;
    if (right) out[1] = grad * a;
    return out;
  }
  if (x.ndim() == 2 && y.ndim() == 1) {
    if (left) out[0] = outer(grad, b);
    if (right) out[1] = mv(t(a), grad);
    return out;
  }
  if (x.ndim() < 2 || y.ndim() < 2 || squeezes(x, y)) in.unsupported("a vector");
  if (x.ndim() == 2 && y.ndim() == 2) {
    if (left) out[0] = left_gradient(grad, x, b);
    if (right) out[1] = right_gradient(grad, a, y);
    return out;
  }
  if (folds(x, y)) {
    // The program runs below autograd, where the kernel would not fold, and round otherwise.
    if (!folds(x, y, false)) in.unsupported("a product that only folds for its gradient");
    if (y.ndim() != 2) in.unsupported("a matrix times a batch");
    const Arg rows = as_matrix(in, a), g = as_matrix(in, grad);
    if (left) out[0] = reshaped(in, left_gradient(g, type_of(rows), b), x.shape);
    if (right) out[1] = right_gradient(g, rows, y);
    return out;
  }
  const Batched s = batched(in, x, y);
  const Dim count = product_of(s.batch);
  const Dim sizes[] = {count, s.rows, s.columns};
  const Arg g = s.batch.size() == 1 ? grad : reshaped(in, grad, sizes);
  if (left) {
    const Arg other = flattened(in, b, s.batch, s.inner, s.columns);
    out[0] = unflattened(in, bmm(g, swapped(other)), s.batch, x);
  }
  if (right) {
    const Arg other = flattened(in, a, s.batch, s.rows, s.inner);
    out[1] = unflattened(in, bmm(swapped(other), g), s.batch, y);
  }
  return out;
}

// What at::matmul does with operands that matmul_vjp leaves out.
Arg matmul_steps(Call& in) {
  Arg a = in["input"], b = in["other"];
  const TensorType &x = type_of(a), &y = type_of(b);
  if (x.ndim() == 1 && y.ndim() == 2) {
    const Arg rows = record(unsqueeze, {a, Arg(0)});
    return record(squeeze_dim, {mm(rows, b), Arg(0)});
  }
  if (squeezes(x, y)) {
    const bool first = is_one(x.shape[0]) && x.requires_grad;
    if (first) return matmul(record(squeeze_dim, {a, Arg(0)}), b);
    return matmul(a, record(squeeze_dim, {b, Arg(0)}));
  }
  if (x.ndim() < 3 && y.ndim() < 3) in.unsupported("what matmul's own gradient covers");
  if (folds(x, y)) {
    const bool transposed = y.ndim() > x.ndim();
    const Arg large = transposed ? record(transpose, {b, Arg(-2), Arg(-1)}) : a;
    const Arg small = !transposed ? b : x.ndim() == 2 ? t(a) : a;
    Dims shape = type_of(large).shape;
    shape.pop_back();
    const Arg rows = as_matrix(in, large);
    if (type_of(small).ndim() == 1) return reshaped(in, mv(rows, small), shape);
    shape.push_back(type_of(small).shape[1]);
    const Arg out = reshaped(in, mm(rows, small), shape);
    return transposed ? contiguous(record(transpose, {out, Arg(-2), Arg(-1)})) : out;
  }
  const bool left_vector = x.ndim() == 1, right_vector = y.ndim() == 1;
  if (left_vector) a = record(unsqueeze, {a, Arg(0)});
  if (right_vector) b = record(unsqueeze, {b, Arg(1)});
  const Batched s = batched(in, type_of(a), type_of(b));
  const Arg left = flattened(in, a, s.batch, s.rows, s.inner);
  const Arg right = flattened(in, b, s.batch, s.inner, s.columns);
  const Arg out = bmm(left, right);
  Dims shape = s.batch;
  if (!left_vector) shape.push_back(s.rows);
  if (!right_vector) shape.push_back(s.columns);
  return reshaped(in, out, shape);
}

Args addmm_vjp(Call& in, const Arg&, const Arg& grad) {
  real_grad(in, grad);
  Args out(in.size(), Arg());
  if (wants_grad(in, "input")) out[0] = reduced_to(times(grad, in["beta"]), in.type("input"));
  if (wants_grad(in, "mat1")) {
    out[1] = times(left_gradient(grad, in.type("mat1"), in["mat2"]), in["alpha"]);
  }
  if (wants_grad(in, "mat2")) {
    out[2] = times(right_gradient(grad, in["mat1"], in.type("mat2")), in["alpha"]);
  }
  return out;
}

Args addmv_vjp(Call& in, const Arg&, const Arg& grad) {
  real_grad(in, grad);
  Args out(in.size(), Arg());
  if (wants_grad(in, "input")) out[0] = reduced_to(times(grad, in["beta"]), in.type("input"));
  if (wants_grad(in, "mat")) out[1] = times(outer(grad, in["vec"]), in["alpha"]);
  if (wants_grad(in, "vec")) out[2] = times(mv(t(in["mat"]), grad), in["alpha"]);
  return out;
}

Args addr_vjp(Call& in, const Arg&, const Arg& grad) {
  real_grad(in, grad);
  Args out(in.size(), Arg());
  if (wants_grad(in, "input")) out[0] = reduced_to(times(grad, in["beta"]), in.type("input"));
  if (wants_grad(in, "vec1")) out[1] = times(mv(grad, in["vec2"]), in["alpha"]);
  if (wants_grad(in, "vec2")) out[2] = times(mv(t(grad), in["vec1"]), in["alpha"]);
  return out;
}

Args baddbmm_vjp(Call& in, const Arg&, const Arg& grad) {
  real_grad(in, grad);
  Args out(in.size(), Arg());
  if (wants_grad(in, "input")) out[0] = reduced_to(times(grad, in["beta"]), in.type("input"));
  Arg g = grad;
  if (type_of(grad).ndim() == 2) {  // addbmm: the sum over the batch
    Dims full{in.type("batch1").shape[0]};
    for (const Dim d : type_of(grad).shape) full.push_back(d);
    g = expand(record(unsqueeze, {grad, Arg(0)}), in.dims_arg(full));
  }
  if (wants_grad(in, "batch1")) out[1] = times(bmm(g, swapped(in["batch2"])), in["alpha"]);
  if (wants_grad(in, "batch2")) out[2] = times(bmm(swapped(in["batch1"]), g), in["alpha"]);
  return out;
}

// ATen's sum over i and j of x[n, i] w[o, i, j] y[n, j], and its like for each operand.
Args bilinear_vjp(Call& in, const Arg&, const Arg& grad) {
  real_grad(in, grad);
  const auto rows = [&](const Arg& a) {
    if (type_of(a).ndim() == 1) return record(unsqueeze, {a, Arg(0)});
    return as_matrix(in, a);
  };
  const auto dims = [&](std::initializer_list<int64_t> values) {
    return in.ints({values.begin(), values.size()});
  };
  const Arg first = dims({1, 3}), second = dims({0}), third = dims({1, 2}), summed = dims({2, 3});
  const Arg g = rows(grad), x = rows(in["input1"]), y = rows(in["input2"]), w = in["weight"];
  Args out(4, Arg());
  if (wants_grad(in, "input1")) {
    const Arg own = trilinear(g, w, y, summed, second, third, first);
    out[0] = reshaped(in, own, in.type("input1").shape);
  }
  if (wants_grad(in, "input2")) {
    const Arg own = trilinear(x, w, g, first, second, summed, third);
    out[1] = reshaped(in, own, in.type("input2").shape);
  }
  if (wants_grad(in, "weight")) out[2] = trilinear(x, g, y, first, summed, third, second);
  if (wants_grad(in, "bias")) out[3] = reduced_to(grad, in.type("bias"));
  return out;
}

// What at::linear does where the fold depends on the gradient; see matmul_vjp.
Arg linear_steps(Call& in) {
  const TensorType& x = in.type("input");
  if (!linear_folds_for_gradient(x, in.type("weight")))
    in.unsupported("what linear's own gradient covers");
  Dims shape = x.shape;
  shape.back() = in.type("weight").shape[0];
  const Arg rows = as_matrix(in, in["input"]);
  const Arg out = reshaped(in, mm(rows, t(in["weight"])), shape);
  return in.has("bias") ? out + in["bias"] : out;
}

Args linear_vjp(Call& in, const Arg&, const Arg& grad) {
  real_grad(in, grad);
  const TensorType &x = in.type("input"), &w = in.type("weight");
  if (w.ndim() != 2) in.unsupported("a vector as weight");
  if (linear_folds_for_gradient(x, w)) in.unsupported("a product that only folds for its gradient");
  Args out(3, Arg());
  const bool matrix = x.ndim() == 2;
  const Arg g = matrix          ? grad
                : x.ndim() == 1 ? record(unsqueeze, {grad, Arg(0)})
                                : as_matrix(in, grad);
  const Arg rows = matrix          ? in["input"]
                   : x.ndim() == 1 ? record(unsqueeze, {in["input"], Arg(0)})
                                   : as_matrix(in, in["input"]);
  if (x.requires_grad) {
    const Arg own =
        is_column_major(type_of(rows)) ? t(mm(t(in["weight"]), t(g))) : mm(g, in["weight"]);
    out[0] = matrix ? own : reshaped(in, own, x.shape);
  }
  if (w.requires_grad) {
    // The product's operand is the transposed weight.
    const bool row_major = w.strides[1] == Dim(1) && w.strides[0] == w.shape[1];
    out[1] = row_major ? mm(t(g), rows) : t(mm(t(rows), g));
  }
  if (wants_grad(in, "bias")) {
    const bool added = x.ndim() > 2 && !is_contiguous(x);
    out[2] = reduced_to(added ? grad : g, in.type("bias"));
  }
  return out;
}

constinit const Symbol trilinear{
    .schema =
        "_trilinear(Tensor i1, Tensor i2, Tensor i3, int[] expand1, int[] expand2, "
        "int[] expand3, int[] sumdim, int unroll_dim=1) -> Tensor",
    .torch = "torch._trilinear",
    .tags = kPure | kMatmul,
    .meta = trilinear_meta,
};

}  // namespace fulmen::ops
