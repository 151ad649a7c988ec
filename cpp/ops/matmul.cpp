#include "ops/matmul.h"

#include "ops/arith.h"
#include "ops/check.h"
#include "ops/einsum.h"
#include "ops/families.h"
#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/row.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

constexpr uint32_t kProduct = kPure | kMatmul;

[[noreturn]] void shape_error(const Call& in, const TensorType& a, const TensorType& b) {
  in.fail(ErrorKind::kRuntime, "matmul-shape", "shapes ", meta::shape_text(a.shape), " and ",
          meta::shape_text(b.shape), " cannot be multiplied; expected the inner sizes to be equal");
}

// Results of products are always fresh and contiguous. bool is refused by eager's kernels.
Arg product(Call& in, std::span<const Dim> shape,
            std::initializer_list<const TensorProxy*> operands) {
  check::same_dtype(in, operands);
  TensorType out;
  for (const TensorProxy* t : operands) {
    if (t) out.dtype = t->type.dtype;
  }
  if (out.dtype == DType::kBool) in.unsupported("a product of bool tensors");
  out.device = check::device(in, operands);
  out.shape = Dims(shape);
  out.strides = contiguous_strides(shape);
  return in.make(std::move(out));
}

Arg matmul_of(Call& in, const TensorProxy& a, const TensorProxy& b) {
  const TensorType& x = a.type;
  const TensorType& y = b.type;
  const size_t n = x.ndim(), m = y.ndim();
  if (n == 0 || m == 0) {
    in.fail(ErrorKind::kRuntime, "matmul-shape",
            "both arguments need to be at least 1D; got shapes ", meta::shape_text(x.shape),
            " and ", meta::shape_text(y.shape));
  }
  if (!check::equal(in, x.shape[n - 1], y.shape[m == 1 ? 0 : m - 2])) shape_error(in, x, y);
  const std::span<const Dim> batch_x(x.shape.data(), n >= 2 ? n - 2 : 0);
  const std::span<const Dim> batch_y(y.shape.data(), m >= 2 ? m - 2 : 0);
  Dims shape = meta::broadcast(in, batch_x, batch_y);
  if (n >= 2) shape.push_back(x.shape[n - 2]);
  if (m >= 2) shape.push_back(y.shape[m - 1]);
  const Arg out = product(in, shape, {&a, &b});
  // Eager folds the batch for the matrix's gradient, transposes the product and makes that
  // contiguous: a transposed product that is so already keeps its strides.
  if (n == 2 && m >= 3 && x.requires_grad) {
    Dims rows = shape;
    std::swap(rows[m - 2], rows[m - 1]);
    TensorType type = out.tensor()->type;
    type.strides = contiguous_strides(rows);
    std::swap(type.strides[m - 2], type.strides[m - 1]);
    if (is_contiguous(type)) return in.make(std::move(type));
  }
  return out;
}

Arg matmul_meta(Call& in) { return matmul_of(in, in.tensor("input"), in.tensor("other")); }
Arg matmul_reversed_meta(Call& in) { return matmul_of(in, in.tensor("other"), in.tensor("input")); }

Arg mm_meta(Call& in) {
  check::rank(in, "input", 2);
  check::rank(in, "mat2", 2);
  return matmul_of(in, in.tensor("input"), in.tensor("mat2"));
}

// (b, n, k) × (b, k, m): no broadcast of b.
Dims bmm_shape(const Call& in, std::string_view first, std::string_view second) {
  check::rank(in, first, 3);
  check::rank(in, second, 3);
  const TensorType& a = in.type(first);
  const TensorType& b = in.type(second);
  if (!check::equal(in, a.shape[0], b.shape[0]) || !check::equal(in, a.shape[2], b.shape[1])) {
    shape_error(in, a, b);
  }
  return {a.shape[0], a.shape[1], b.shape[2]};
}

Arg bmm_meta(Call& in) {
  return product(in, bmm_shape(in, "input", "mat2"), {&in.tensor("input"), &in.tensor("mat2")});
}

Arg mv_meta(Call& in) {
  if (in.type("input").ndim() == 0) in.unsupported("a 0-d matrix");
  check::rank(in, "input", 2);
  check::rank(in, "vec", 1);
  return matmul_of(in, in.tensor("input"), in.tensor("vec"));
}

Arg dot_meta(Call& in) {
  const std::string& second = in.symbol().info->schema.params[1].name;
  check::rank(in, "input", 1);
  check::rank(in, second, 1);
  return matmul_of(in, in.tensor("input"), in.tensor(second));
}

Arg inner_meta(Call& in) {
  const TensorType& a = in.type("input");
  const TensorType& b = in.type("other");
  if (a.ndim() == 0 || b.ndim() == 0) in.unsupported("inner of a 0-d tensor");
  if (!check::equal(in, a.shape.back(), b.shape.back())) shape_error(in, a, b);
  Dims shape(std::span<const Dim>(a.shape.data(), a.ndim() - 1));
  for (size_t i = 0; i + 1 < b.ndim(); ++i) shape.push_back(b.shape[i]);
  return product(in, shape, {&in.tensor("input"), &in.tensor("other")});
}

// vec1 as a column, as reshape({n, 1}) gives it.
TensorType column(TensorType t) {
  t.shape = {t.shape[0], Dim(1)};
  t.strides = {t.strides[0], Dim(1)};
  return t;
}

Arg outer_meta(Call& in) {
  check::rank(in, "input", 1);
  check::rank(in, "vec2", 1);
  const TensorType a = column(in.type("input"));
  const TensorType& b = in.type("vec2");
  const TensorType* operands[] = {&a, &b};
  TensorType out;
  out.dtype = promote(a.dtype, b.dtype);
  out.device = check::device(in, {&in.tensor("input"), &in.tensor("vec2")});
  out.shape = {a.shape[0], b.shape[0]};
  out.strides = meta::pointwise_strides(operands, out.shape);
  return in.make(std::move(out));
}

// The first argument of addmm and its like is expanded to the product's shape.
void require_expandable(const Call& in, const TensorType& from, std::span<const Dim> to) {
  bool fits = from.ndim() <= to.size();
  for (size_t i = 0; fits && i < from.ndim(); ++i) {
    const Dim size = from.shape[from.ndim() - 1 - i];
    fits = is_one(size) || check::equal(in, size, to[to.size() - 1 - i]);
  }
  if (fits) return;
  in.fail(ErrorKind::kRuntime, "expand", "a tensor of shape ", meta::shape_text(from.shape),
          " cannot be expanded to the product's shape ", meta::shape_text(to));
}

Arg add_product(Call& in, std::span<const Dim> shape, std::string_view a, std::string_view b) {
  require_expandable(in, in.type("input"), shape);
  return product(in, shape, {&in.tensor("input"), &in.tensor(a), &in.tensor(b)});
}

Arg addmm_meta(Call& in) {
  check::rank(in, "mat1", 2);
  check::rank(in, "mat2", 2);
  const TensorType& a = in.type("mat1");
  const TensorType& b = in.type("mat2");
  if (!check::equal(in, a.shape[1], b.shape[0])) shape_error(in, a, b);
  return add_product(in, Dims{a.shape[0], b.shape[1]}, "mat1", "mat2");
}

Arg addmv_meta(Call& in) {
  check::rank(in, "mat", 2);
  check::rank(in, "vec", 1);
  const TensorType& a = in.type("mat");
  const TensorType& b = in.type("vec");
  if (!check::equal(in, a.shape[1], b.shape[0])) shape_error(in, a, b);
  return add_product(in, Dims{a.shape[0]}, "mat", "vec");
}

Arg baddbmm_meta(Call& in) {
  return add_product(in, bmm_shape(in, "batch1", "batch2"), "batch1", "batch2");
}

Arg addbmm_meta(Call& in) {
  const Dims shape = bmm_shape(in, "batch1", "batch2");
  return add_product(in, Dims{shape[1], shape[2]}, "batch1", "batch2");
}

Arg addr_meta(Call& in) {
  check::rank(in, "vec1", 1);
  check::rank(in, "vec2", 1);
  const TensorType a = column(in.type("vec1"));
  const TensorType& b = in.type("vec2");
  const Dims shape{a.shape[0], b.shape[0]};
  const TensorType& self = in.type("input");
  require_expandable(in, self, shape);
  // beta and alpha do not promote, but must be of a category that the result can hold.
  const Arg tensors[] = {in["input"], in["vec1"], in["vec2"]};
  TensorType out;
  out.dtype = meta::result_type(in, tensors);
  if (out.dtype == DType::kBool) in.unsupported("addr of bool tensors");
  out.device = check::device(in, {&in.tensor("input"), &in.tensor("vec1"), &in.tensor("vec2")});
  const TensorType* operands[] = {&self, &a, &b};
  out.shape = shape;
  out.strides = meta::pointwise_strides(operands, shape);
  return in.make(std::move(out));
}

Arg linear_meta(Call& in) {
  const TensorProxy& x = in.tensor("input");
  const TensorProxy& w = in.tensor("weight");
  const TensorProxy* bias = in.opt_tensor("bias");
  if (x.type.ndim() == 0) in.unsupported("a 0-d input");
  if (w.type.ndim() != 1 && w.type.ndim() != 2) in.unsupported("a weight that is no matrix");
  if (w.type.ndim() == 1 && bias) in.unsupported("a vector as weight with a bias");
  // ATen adds some of these to the flattened product.
  if (bias && bias->type.ndim() > 1) in.unsupported("a bias that is no vector");
  if (!check::equal(in, x.type.shape.back(), w.type.shape.back())) {
    in.fail(ErrorKind::kRuntime, "matmul-shape", "input of shape ", meta::shape_text(x.type.shape),
            " and weight of shape ", meta::shape_text(w.type.shape),
            " cannot be multiplied; expected equal last sizes");
  }
  Dims shape = x.type.shape;
  shape.pop_back();
  if (w.type.ndim() == 2) shape.push_back(w.type.shape[0]);
  if (bias) require_expandable(in, bias->type, shape);
  return product(in, shape, {&x, &w, bias});
}

Arg linear_decompose(Call& in) {
  const Arg weight = in["weight"];
  const Arg transposed = in.type("weight").ndim() == 2 ? t(weight) : weight;
  const Arg out = matmul(in["input"], transposed);
  return in.has("bias") ? add(out, in["bias"]) : out;
}

// As at::inner: a product of matrices, and the outer sizes again.
Arg inner_steps(Call& in) {
  const TensorType &a = in.type("input"), &b = in.type("other");
  if (a.ndim() == 1 && b.ndim() == 1) return dot(in["input"], in["other"]);
  const auto rows = [&](std::string_view param) {
    const TensorType& t = in.type(param);
    const Dim sizes[] = {Dim(-1), t.shape.back()};
    if (is_zero(numel(t))) in.unsupported("an empty operand");
    return t.ndim() == 2 ? in[param] : record(reshape, {in[param], in.dims_arg(sizes)});
  };
  Dims shape(std::span<const Dim>(a.shape.data(), a.ndim() - 1));
  for (size_t i = 0; i + 1 < b.ndim(); ++i) shape.push_back(b.shape[i]);
  const Arg left = rows("input"), right = rows("other");
  const Arg product = mm(left, t(right));
  return record(view, {product, in.dims_arg(shape)});
}

Args outer_vjp(Call& in, const Arg&, const Arg& grad) {
  real_grad(in, grad);
  Args out(2, Arg());
  const TensorType &a = in.type("input"), &b = in.type("vec2");
  const Dim sizes[] = {a.shape[0], Dim(1)};
  if (a.requires_grad) {
    TensorType wide = a;
    wide.shape = Dims(std::span<const Dim>(sizes));
    wide.strides = contiguous_strides(wide.shape);
    const Arg column_grad = reduced_to(grad * in["vec2"], wide);
    out[0] = record(reshape, {column_grad, in.dims_arg(a.shape)});
  }
  if (b.requires_grad) {
    const Arg first = record(reshape, {in["input"], in.dims_arg(sizes)});
    out[1] = reduced_to(grad * first, b);
  }
  return out;
}

Arg bilinear_meta(Call& in) {
  const TensorType& a = in.type("input1");
  const TensorType& b = in.type("input2");
  check::rank(in, "weight", 3);
  const TensorType& w = in.type("weight");
  bool fits = a.ndim() == b.ndim() && a.ndim() > 0;
  for (size_t i = 0; fits && i + 1 < a.ndim(); ++i) fits = check::equal(in, a.shape[i], b.shape[i]);
  if (!fits || !check::equal(in, a.shape.back(), w.shape[1]) ||
      !check::equal(in, b.shape.back(), w.shape[2])) {
    in.fail(ErrorKind::kRuntime, "matmul-shape", "input1 ", meta::shape_text(a.shape), ", input2 ",
            meta::shape_text(b.shape), " and weight ", meta::shape_text(w.shape),
            " do not fit; expected (…, i), (…, j) and (o, i, j)");
  }
  Dims shape = a.shape;
  shape.back() = w.shape[0];
  const TensorProxy* bias = in.opt_tensor("bias");
  if (bias && (bias->type.ndim() != 1 || !check::equal(in, bias->type.shape[0], w.shape[0]))) {
    in.unsupported("a bias of another size");
  }
  return product(in, shape,
                 {&in.tensor("input1"), &in.tensor("input2"), &in.tensor("weight"), bias});
}

}  // namespace

constinit const Symbol matmul{
    .schema = "matmul(Tensor input, Tensor other) -> Tensor",
    .torch =
        "torch.matmul torch.Tensor.matmul torch.Tensor.__matmul__ operator.matmul "
        "operator.imatmul torch.linalg.matmul",
    .tags = kProduct,
    .meta = matmul_meta,
    .vjp = matmul_vjp,
    .augmented = matmul_steps,
};
constinit const Symbol matmul_reversed{
    .schema = "matmul.reversed(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.Tensor.__rmatmul__",
    .tags = kProduct,
    .meta = matmul_reversed_meta,
    .decompose = [](Call& in) { return matmul(in["other"], in["input"]); },
    .aten = "matmul(other, input)",
};
constinit const Symbol mm{
    .schema = "mm(Tensor input, Tensor mat2) -> Tensor",
    .torch = "torch.mm torch.Tensor.mm",
    .tags = kProduct,
    .meta = mm_meta,
    .vjp = mm_vjp,
};
constinit const Symbol bmm{
    .schema = "bmm(Tensor input, Tensor mat2) -> Tensor",
    .torch = "torch.bmm torch.Tensor.bmm",
    .tags = kProduct,
    .meta = bmm_meta,
    .vjp = bmm_vjp,
};
constinit const Symbol mv{
    .schema = "mv(Tensor input, Tensor vec) -> Tensor",
    .torch = "torch.mv torch.Tensor.mv",
    .tags = kProduct,
    .meta = mv_meta,
    .vjp = mv_vjp,
};
constinit const Symbol dot{
    .schema = "dot(Tensor input, Tensor tensor) -> Tensor",
    .torch = "torch.dot torch.Tensor.dot",
    .tags = kProduct,
    .meta = dot_meta,
    .vjp = dot_vjp,
};
constinit const Symbol vdot{
    .schema = "vdot(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.vdot torch.Tensor.vdot",
    .tags = kProduct,
    .meta = dot_meta,
    .vjp = dot_vjp,
};
constinit const Symbol inner{
    .schema = "inner(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.inner torch.Tensor.inner",
    .tags = kProduct,
    .meta = inner_meta,
    .augmented = inner_steps,
};
constinit const Symbol outer{
    .schema = "outer(Tensor input, Tensor vec2) -> Tensor",
    .torch = "torch.outer torch.Tensor.outer torch.ger torch.Tensor.ger",
    .tags = kProduct,
    .meta = outer_meta,
    .vjp = outer_vjp,
};
constinit const Symbol addmm{
    .schema =
        "addmm(Tensor input, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1)"
        " -> Tensor",
    .torch = "torch.addmm torch.Tensor.addmm torch.Tensor.addmm_",
    .tags = kProduct,
    .meta = addmm_meta,
    .vjp = addmm_vjp,
};
constinit const Symbol addmv{
    .schema =
        "addmv(Tensor input, Tensor mat, Tensor vec, *, Scalar beta=1, Scalar alpha=1)"
        " -> Tensor",
    .torch = "torch.addmv torch.Tensor.addmv torch.addmv_ torch.Tensor.addmv_",
    .tags = kProduct,
    .meta = addmv_meta,
    .vjp = addmv_vjp,
};
constinit const Symbol addr{
    .schema =
        "addr(Tensor input, Tensor vec1, Tensor vec2, *, Scalar beta=1, Scalar alpha=1)"
        " -> Tensor",
    .torch = "torch.addr torch.Tensor.addr torch.Tensor.addr_",
    .tags = kProduct,
    .meta = addr_meta,
    .vjp = addr_vjp,
};
constinit const Symbol baddbmm{
    .schema =
        "baddbmm(Tensor input, Tensor batch1, Tensor batch2, *, Scalar beta=1, "
        "Scalar alpha=1) -> Tensor",
    .torch = "torch.baddbmm torch.Tensor.baddbmm torch.Tensor.baddbmm_",
    .tags = kProduct,
    .meta = baddbmm_meta,
    .vjp = baddbmm_vjp,
};
constinit const Symbol addbmm{
    .schema =
        "addbmm(Tensor input, Tensor batch1, Tensor batch2, *, Scalar beta=1, "
        "Scalar alpha=1) -> Tensor",
    .torch = "torch.addbmm torch.Tensor.addbmm torch.Tensor.addbmm_",
    .tags = kProduct,
    .meta = addbmm_meta,
    .vjp = baddbmm_vjp,
};
constinit const Symbol linear{
    .schema = "linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor",
    .torch = "torch.nn.functional.linear torch._C._nn.linear",
    .tags = kProduct,
    .meta = linear_meta,
    .decompose = linear_decompose,
    .vjp = linear_vjp,
    .augmented = linear_steps,
};
constinit const Symbol bilinear{
    .schema = "bilinear(Tensor input1, Tensor input2, Tensor weight, Tensor? bias=None) -> Tensor",
    .torch = "torch.nn.functional.bilinear torch.bilinear",
    .tags = kProduct,
    .meta = bilinear_meta,
    .vjp = bilinear_vjp,
};
constinit const Symbol einsum{
    .schema = "einsum(str equation, Tensor[]* operands) -> Tensor",
    .torch = "torch.einsum torch.functional.einsum",
    .tags = kProduct,
    .meta = einsum_meta,
    .augmented = einsum_steps,
};

std::span<const Symbol* const> matmul_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_MATMUL_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
