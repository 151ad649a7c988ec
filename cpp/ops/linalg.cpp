#include "ops/linalg.h"

#include "ops/arith.h"
#include "ops/check.h"
#include "ops/families.h"
#include "ops/linalg_gradient.h"
#include "ops/matmul.h"
#include "ops/meta.h"
#include "ops/row.h"
#include "ops/shape.h"
#include "ops/shape_gradient.h"

namespace fulmen::ops {
namespace {

// Eager's many checks are left to it: what is not plainly right is Unsupported.
const TensorType& matrices(const Call& in, std::string_view param) {
  const TensorType& a = in.type(param);
  if (a.ndim() < 2) in.unsupported(param, " has fewer than 2 dimensions");
  if (a.dtype != DType::kFloat32 && a.dtype != DType::kFloat64 && a.dtype != DType::kComplex64 &&
      a.dtype != DType::kComplex128) {
    in.unsupported("dtype ", name(a.dtype));
  }
  return a;
}

const TensorType& square_matrices(const Call& in, std::string_view param) {
  const TensorType& a = matrices(in, param);
  const size_t n = a.ndim();
  if (!(a.shape[n - 2] == a.shape[n - 1])) in.unsupported(param, " is not square");
  return a;
}

Dims batch_of(const TensorType& a) { return Dims(std::span(a.shape.data(), a.ndim() - 2)); }

DType real_of(DType t) {
  if (t == DType::kComplex64) return DType::kFloat32;
  return t == DType::kComplex128 ? DType::kFloat64 : t;
}
DType complex_of(DType t) {
  if (t == DType::kFloat32) return DType::kComplex64;
  return t == DType::kFloat64 ? DType::kComplex128 : t;
}

Arg batch_result(Call& in, const TensorType& a, DType dtype) {
  return meta::fresh(in, a, batch_of(a), dtype);
}

Arg vectors(Call& in, const TensorType& a, Dim n, DType dtype) {
  Dims shape = batch_of(a);
  shape.push_back(n);
  return meta::fresh(in, a, shape, dtype);
}

// LAPACK's results: the matrices of a batch column by column.
Arg columns(Call& in, const TensorType& a, std::span<const Dim> batch, Dim rows, Dim cols,
            DType dtype) {
  TensorType out;
  out.dtype = dtype;
  out.device = a.device;
  out.shape = Dims(batch);
  out.shape.push_back(cols);
  out.shape.push_back(rows);
  out.strides = contiguous_strides(out.shape);
  const size_t n = out.shape.size();
  std::swap(out.shape[n - 2], out.shape[n - 1]);
  std::swap(out.strides[n - 2], out.strides[n - 1]);
  return in.make(std::move(out));
}

Arg columns(Call& in, const TensorType& a, Dim rows, Dim cols, DType dtype) {
  return columns(in, a, batch_of(a), rows, cols, dtype);
}

Arg columns_like(Call& in, const TensorType& a) {
  return columns(in, a, a.shape[a.ndim() - 2], a.shape[a.ndim() - 1], a.dtype);
}

Arg factor_meta(Call& in) { return columns_like(in, square_matrices(in, "A")); }

Arg factor_and_info_meta(Call& in) {
  const TensorType& a = square_matrices(in, "A");
  return in.tuple({columns_like(in, a), batch_result(in, a, DType::kInt32)});
}

Arg det_meta(Call& in) {
  const TensorType& a = square_matrices(in, "A");
  return batch_result(in, a, a.dtype);
}

Arg slogdet_meta(Call& in) {
  const TensorType& a = square_matrices(in, "A");
  return in.tuple({batch_result(in, a, a.dtype), batch_result(in, a, real_of(a.dtype))});
}

Arg eigh_meta(Call& in) {
  const TensorType& a = square_matrices(in, "A");
  return in.tuple({vectors(in, a, a.shape.back(), real_of(a.dtype)), columns_like(in, a)});
}

Arg eigvalsh_meta(Call& in) {
  const TensorType& a = square_matrices(in, "A");
  return vectors(in, a, a.shape.back(), real_of(a.dtype));
}

Arg eig_meta(Call& in) {
  const TensorType& a = square_matrices(in, "A");
  const DType dtype = complex_of(a.dtype);
  const Dim n = a.shape.back();
  return in.tuple({vectors(in, a, n, dtype), columns(in, a, n, n, dtype)});
}

Arg eigvals_meta(Call& in) {
  const TensorType& a = square_matrices(in, "A");
  return vectors(in, a, a.shape.back(), complex_of(a.dtype));
}

Arg svd_meta(Call& in) {
  const TensorType& a = matrices(in, "A");
  if (a.device.type != DeviceType::kCPU) in.unsupported("another device than the CPU");
  if (in.has("driver")) in.unsupported("a driver");
  const Dim m = a.shape[a.ndim() - 2], n = a.shape[a.ndim() - 1], k = min(m, n);
  const bool full = in.flag("full_matrices");
  return in.tuple({columns(in, a, m, full ? m : k, a.dtype), vectors(in, a, k, real_of(a.dtype)),
                   columns(in, a, full ? n : k, n, a.dtype)});
}

Arg svdvals_meta(Call& in) {
  const TensorType& a = matrices(in, "A");
  if (in.has("driver")) in.unsupported("a driver");
  return vectors(in, a, min(a.shape[a.ndim() - 2], a.shape[a.ndim() - 1]), real_of(a.dtype));
}

Arg qr_meta(Call& in) {
  const TensorType& a = matrices(in, "A");
  const std::string_view mode = in.text("mode");
  if (mode != "reduced" && mode != "complete") in.unsupported("mode ", mode);
  const Dim m = a.shape[a.ndim() - 2], n = a.shape[a.ndim() - 1];
  const Dim k = mode == "complete" ? m : min(m, n);
  return in.tuple({columns(in, a, m, k, a.dtype), columns(in, a, k, n, a.dtype)});
}

Arg lu_factor_meta(Call& in) {
  const TensorType& a = matrices(in, "A");
  if (!in.flag("pivot")) in.unsupported("without pivots");
  return in.tuple(
      {columns_like(in, a),
       vectors(in, a, min(a.shape[a.ndim() - 2], a.shape[a.ndim() - 1]), DType::kInt32)});
}

// Systems with the solution of B's shape, batches broadcast.
Arg system_meta(Call& in, std::string_view a_name, std::string_view b_name) {
  const TensorType &a = square_matrices(in, a_name), &b = matrices(in, b_name);
  check::same_dtype(in, {&in.tensor(a_name), &in.tensor(b_name)});
  check::device(in, {&in.tensor(a_name), &in.tensor(b_name)});
  const Dim rows = b.shape[b.ndim() - 2], cols = b.shape[b.ndim() - 1];
  const bool left = in.symbol().info->schema.index("left") < 0 || in.flag("left");
  if (!((left ? rows : cols) == a.shape.back())) in.unsupported("shapes that do not fit");
  const Dims batch = meta::broadcast(in, batch_of(a), batch_of(b));
  return columns(in, b, batch, rows, cols, b.dtype);
}

Arg solve_meta(Call& in) {
  const TensorType &a = in.type("A"), &b = in.type("B");
  // Eager takes B for a batch of vectors where its shape is A's but for the last dimension.
  if (b.ndim() + 1 == a.ndim()) in.unsupported("a batch of vectors");
  if (!in.flag("left")) in.unsupported("left=False");
  return system_meta(in, "A", "B");
}

Arg solve_triangular_meta(Call& in) { return system_meta(in, "A", "B"); }
Arg cholesky_solve_meta(Call& in) { return system_meta(in, "input2", "input"); }

// The dims in the form that linalg.vector_norm takes, or nothing where eager wants a matrix norm.
Arg norm_by_vector_norm(Call& in) {
  const TensorType& a = in.type("A");
  const Arg &ord = in["ord"], &dim = in["dim"];
  const size_t given = dim.is_none() ? 0 : in.integers("dim").size();
  const bool vector = given == 1 || (given == 0 && a.ndim() == 1);
  const bool number = ord.kind() == Arg::Kind::kInt || ord.kind() == Arg::Kind::kFloat;
  if (!ord.is_none() && !(vector && number)) in.unsupported("a norm of matrices");
  if (given > 2) in.unsupported("more than two dims");
  const Arg order = ord.is_none() ? Arg(2.0) : ord;
  return record(row("linalg_vector_norm"), {in["A"], order, dim, in["keepdim"], in["dtype"]});
}

Arg matrix_norm_by_vector_norm(Call& in) {
  const Arg& ord = in["ord"];
  if (ord.kind() != Arg::Kind::kString || ord.text() != "fro") in.unsupported("this order");
  matrices(in, "A");
  if (in.integers("dim").size() != 2) in.unsupported("other than two dims");
  return record(row("linalg_vector_norm"), {in["A"], 2.0, in["dim"], in["keepdim"], in["dtype"]});
}

Arg cross_meta(Call& in) {
  const TensorType &a = in.type("input"), &b = in.type("other");
  if (a.dtype != b.dtype || a.ndim() != b.ndim() || a.dtype == DType::kBool) {
    in.unsupported("operands of several dtypes or ranks, or of bool");
  }
  const size_t d = meta::wrap_dim(in, in.integer("dim"), a.ndim());
  if (a.ndim() == 0 || a.shape[d].value() != 3 || b.shape[d].value() != 3) {
    in.unsupported("other than 3 elements");
  }
  if (!meta::same_shape(a.shape, b.shape)) in.unsupported("operands that broadcast");
  return meta::pointwise(in);
}

}  // namespace

constinit const Symbol linalg_inv{
    .schema = "linalg_inv(Tensor A) -> Tensor",
    .torch = "torch.linalg.inv torch.inverse torch.Tensor.inverse",
    .tags = kPure,
    .meta = factor_meta,
    .vjp = inverse_vjp,
};
constinit const Symbol linalg_inv_ex{
    .schema = "linalg_inv_ex(Tensor A, *, bool check_errors=False) -> (Tensor, Tensor)",
    .torch = "torch.linalg.inv_ex",
    .tags = kPure,
    .meta = factor_and_info_meta,
    .vjp = inverse_vjp,
};
constinit const Symbol linalg_det{
    .schema = "linalg_det(Tensor A) -> Tensor",
    .torch = "torch.linalg.det torch.det torch.Tensor.det",
    .tags = kPure,
    .meta = det_meta,
    .augmented = [](Call& in) -> Arg { return linalg_det_and_lu(in["A"]).items()[0]; },
};
// (determinant, LU, pivots): of a contiguous real matrix ATen factors the transposed one.
constinit const Symbol linalg_det_and_lu{
    .schema = "_linalg_det(Tensor A) -> (Tensor, Tensor, Tensor)",
    .torch = "torch.ops.aten._linalg_det",
    .tags = kPure | kFirstDifferentiable,
    .meta = [](Call& in) -> Arg {
      const TensorType& a = square_matrices(in, "A");
      return in.tuple({batch_result(in, a, a.dtype), columns_like(in, a),
                       vectors(in, a, a.shape.back(), DType::kInt32)});
    },
    .vjp = determinant_vjp,
};
constinit const Symbol linalg_slogdet{
    .schema = "linalg_slogdet(Tensor A) -> (Tensor, Tensor)",
    .torch = "torch.linalg.slogdet torch.slogdet torch.Tensor.slogdet",
    .tags = kPure,
    .meta = slogdet_meta,
    .vjp = log_determinant_vjp,
};
constinit const Symbol logdet{
    .schema = "logdet(Tensor A) -> Tensor",
    .torch = "torch.logdet torch.Tensor.logdet",
    .tags = kPure,
    .meta = det_meta,
    .vjp = log_determinant_vjp,
};
constinit const Symbol linalg_cholesky{
    .schema = "linalg_cholesky(Tensor A, *, bool upper=False) -> Tensor",
    .torch = "torch.linalg.cholesky",
    .tags = kPure,
    .meta = factor_meta,
    .vjp = cholesky_vjp,
};
constinit const Symbol linalg_cholesky_ex{
    .schema =
        "linalg_cholesky_ex(Tensor A, *, bool upper=False, bool check_errors=False) -> (Tensor, "
        "Tensor)",
    .torch = "torch.linalg.cholesky_ex",
    .tags = kPure,
    .meta = factor_and_info_meta,
    .vjp = cholesky_vjp,
};
constinit const Symbol cholesky{
    .schema = "cholesky(Tensor A, bool upper=False) -> Tensor",
    .torch = "torch.cholesky torch.Tensor.cholesky",
    .tags = kPure,
    .meta = [](Call& in) -> Arg {
      const TensorType& a = square_matrices(in, "A");
      return is_zero(numel(a)) ? meta::fresh(in, a, a.shape, a.dtype) : columns_like(in, a);
    },
    .vjp = cholesky_vjp,
};
constinit const Symbol cholesky_solve{
    .schema = "cholesky_solve(Tensor input, Tensor input2, bool upper=False) -> Tensor",
    .torch = "torch.cholesky_solve torch.Tensor.cholesky_solve",
    .tags = kPure,
    .meta = cholesky_solve_meta,
    .vjp = cholesky_solve_vjp,
};
constinit const Symbol cholesky_inverse{
    .schema = "cholesky_inverse(Tensor A, bool upper=False) -> Tensor",
    .torch = "torch.cholesky_inverse torch.Tensor.cholesky_inverse",
    .tags = kPure,
    .meta = factor_meta,
    .vjp = cholesky_inverse_vjp,
};
constinit const Symbol linalg_eigh{
    .schema = "linalg_eigh(Tensor A, str UPLO='L') -> (Tensor, Tensor)",
    .torch = "torch.linalg.eigh",
    .tags = kPure,
    .meta = eigh_meta,
    .vjp = eigh_vjp,
};
constinit const Symbol linalg_eigvalsh{
    .schema = "linalg_eigvalsh(Tensor A, str UPLO='L') -> Tensor",
    .torch = "torch.linalg.eigvalsh",
    .tags = kPure,
    .meta = eigvalsh_meta,
    .augmented = [](Call& in) -> Arg { return linalg_eigh(in["A"], in["UPLO"]).items()[0]; },
};
constinit const Symbol linalg_eig{
    .schema = "linalg_eig(Tensor A) -> (Tensor, Tensor)",
    .torch = "torch.linalg.eig",
    .tags = kPure,
    .meta = eig_meta,
    .vjp = eig_vjp,
};
constinit const Symbol linalg_eigvals{
    .schema = "linalg_eigvals(Tensor A) -> Tensor",
    .torch = "torch.linalg.eigvals",
    .tags = kPure,
    .meta = eigvals_meta,
    .augmented = [](Call& in) -> Arg { return linalg_eig(in["A"]).items()[0]; },
};
constinit const Symbol linalg_svd{
    .schema =
        "linalg_svd(Tensor A, bool full_matrices=True, *, str? driver=None) -> (Tensor, Tensor, "
        "Tensor)",
    .torch = "torch.linalg.svd",
    .tags = kPure,
    .meta = svd_meta,
    .vjp = svd_vjp,
};
constinit const Symbol linalg_svdvals{
    .schema = "linalg_svdvals(Tensor A, *, str? driver=None) -> Tensor",
    .torch = "torch.linalg.svdvals",
    .tags = kPure,
    .meta = svdvals_meta,
    .augmented = [](Call& in) -> Arg { return linalg_svd(in["A"], false).items()[1]; },
};
constinit const Symbol linalg_qr{
    .schema = "linalg_qr(Tensor A, str mode='reduced') -> (Tensor, Tensor)",
    .torch = "torch.linalg.qr",
    .tags = kPure,
    .meta = qr_meta,
    .vjp = qr_vjp,
};
constinit const Symbol linalg_lu_factor{
    .schema = "linalg_lu_factor(Tensor A, *, bool pivot=True) -> (Tensor, Tensor)",
    .torch = "torch.linalg.lu_factor",
    .tags = kPure,
    .meta = lu_factor_meta,
    .vjp = lu_factor_vjp,
};
constinit const Symbol linalg_lu_factor_ex{
    .schema =
        "linalg_lu_factor_ex(Tensor A, *, bool pivot=True, bool check_errors=False) -> (Tensor, "
        "Tensor, Tensor)",
    .torch = "torch.linalg.lu_factor_ex",
    .tags = kPure,
    .meta = [](Call& in) -> Arg {
      const Arg factor = lu_factor_meta(in);
      const TensorType& a = in.type("A");
      return in.tuple({factor.items()[0], factor.items()[1], batch_result(in, a, DType::kInt32)});
    },
    .vjp = lu_factor_vjp,
};
constinit const Symbol linalg_lu_solve{
    .schema =
        "linalg_lu_solve(Tensor LU, Tensor pivots, Tensor B, *, bool left=True, "
        "bool adjoint=False) -> Tensor",
    .torch = "torch.linalg.lu_solve",
    .tags = kPure,
    .meta = [](Call& in) -> Arg {
      const TensorType &lu = square_matrices(in, "LU"), &b = matrices(in, "B");
      check::same_dtype(in, {&in.tensor("LU"), &in.tensor("B")});
      if (!in.flag("left") || !(batch_of(lu) == batch_of(b)) ||
          !(b.shape[b.ndim() - 2] == lu.shape.back())) {
        in.unsupported("systems from the right, or batches that broadcast");
      }
      if (in.type("pivots").dtype != DType::kInt32) in.unsupported("pivots of another dtype");
      return columns_like(in, b);
    },
    .vjp = lu_solve_vjp,
};
constinit const Symbol lu_unpack{
    .schema =
        "lu_unpack(Tensor LU_data, Tensor LU_pivots, bool unpack_data=True, "
        "bool unpack_pivots=True) -> (Tensor, Tensor, Tensor)",
    .torch = "torch.lu_unpack",
    .tags = kPure,
    .meta = [](Call& in) -> Arg {
      const TensorType& lu = matrices(in, "LU_data");
      // Of the results P has no gradient, which no tag says.
      if (lu.requires_grad && in.builder().grad_enabled) in.unsupported("factors with a history");
      if (in.type("LU_pivots").dtype != DType::kInt32) in.unsupported("pivots of another dtype");
      const Dim m = lu.shape[lu.ndim() - 2], n = lu.shape.back(), k = min(m, n);
      const auto result = [&](bool asked, Dim rows, Dim cols) {
        Dims shape = asked ? batch_of(lu) : Dims{Dim(0)};
        if (asked) shape.push_back(rows), shape.push_back(cols);
        TensorType type = lu;
        type.strides = contiguous_strides(shape);
        type.shape = std::move(shape);
        return in.make(std::move(type));
      };
      const bool data = in.flag("unpack_data");
      return in.tuple(
          {result(in.flag("unpack_pivots"), m, m), result(data, m, k), result(data, k, n)});
    },
};
constinit const Symbol linalg_matrix_power{
    .schema = "linalg_matrix_power(Tensor A, int n) -> Tensor",
    .torch = "torch.linalg.matrix_power torch.matrix_power torch.Tensor.matrix_power",
    .tags = kPure | kMatmul,
    .meta = [](Call& in) -> Arg {
      const TensorType& a = square_matrices(in, "A");
      const int64_t n = in.integer("n");
      if (n < 2) in.unsupported("a power below 2");
      return meta::fresh(in, a, a.shape, a.dtype);
    },
    .decompose = [](Call& in) -> Arg {
      Arg square, result;
      for (int64_t n = in.integer("n"); n > 0; n /= 2) {
        square = square.is_none() ? in["A"] : matmul(square, square);
        if (n % 2) result = result.is_none() ? square : matmul(result, square);
      }
      return result;
    },
};
constinit const Symbol linalg_solve{
    .schema = "linalg_solve(Tensor A, Tensor B, *, bool left=True) -> Tensor",
    .torch = "torch.linalg.solve",
    .tags = kPure,
    .meta = solve_meta,
    .vjp = solve_vjp,
};
constinit const Symbol linalg_solve_triangular{
    .schema =
        "linalg_solve_triangular(Tensor A, Tensor B, *, bool upper, bool left=True, bool "
        "unitriangular=False) -> Tensor",
    .torch = "torch.linalg.solve_triangular",
    .tags = kPure,
    .meta = solve_triangular_meta,
    .vjp = solve_triangular_vjp,
};
constinit const Symbol matrix_exp{
    .schema = "matrix_exp(Tensor A) -> Tensor",
    .torch = "torch.matrix_exp torch.linalg.matrix_exp torch.Tensor.matrix_exp",
    .tags = kPure | kMatmul,
    .meta = [](Call& in) -> Arg {
      const TensorType& a = square_matrices(in, "A");
      return meta::fresh(in, a, a.shape, a.dtype);
    },
    .vjp = matrix_exp_vjp,
};
constinit const Symbol linalg_norm{
    .schema =
        "linalg_norm(Tensor A, any ord=None, int[1]? dim=None, bool keepdim=False, *, dtype? "
        "dtype=None) -> Tensor",
    .torch = "torch.linalg.norm",
    .tags = kPure | kReduction,
    .decompose = norm_by_vector_norm,
};
constinit const Symbol linalg_matrix_norm{
    .schema =
        "linalg_matrix_norm(Tensor A, any ord='fro', int[] dim=(-2, -1), bool keepdim=False, *, "
        "dtype? dtype=None) -> Tensor",
    .torch = "torch.linalg.matrix_norm",
    .tags = kPure | kReduction,
    .decompose = matrix_norm_by_vector_norm,
};
constinit const Symbol linalg_diagonal{
    .schema = "linalg_diagonal(Tensor A, *, int offset=0, int dim1=-2, int dim2=-1) -> Tensor",
    .torch = "torch.linalg.diagonal",
    .tags = kPure | kView,
    .meta = [](Call& in) -> Arg {
      const TensorProxy& a = in.tensor("A");
      return in.make_view(meta::diagonal_type(in, a.type, in.integer("offset"), in.integer("dim1"),
                                              in.integer("dim2")),
                          a);
    },
    .vjp = diagonal_vjp,
};
constinit const Symbol trace{
    .schema = "trace(Tensor input) -> Tensor",
    .torch = "torch.trace torch.Tensor.trace",
    .tags = kPure | kReduction,
    .meta = [](Call& in) -> Arg {
      const TensorType& a = in.type("input");
      if (a.ndim() != 2) in.unsupported("other than a matrix");
      return meta::fresh(in, a, {}, meta::sum_dtype(a.dtype));
    },
    .vjp = trace_vjp,
};
constinit const Symbol linalg_cross{
    .schema = "linalg_cross(Tensor input, Tensor other, *, int dim=-1) -> Tensor",
    .torch = "torch.linalg.cross",
    .tags = kPure,
    .meta = cross_meta,
    .vjp = cross_vjp,
};
constinit const Symbol linalg_vecdot{
    .schema = "linalg_vecdot(Tensor x, Tensor y, *, int dim=-1) -> Tensor",
    .torch = "torch.linalg.vecdot",
    .tags = kPure | kReduction,
    .meta = [](Call& in) -> Arg {
      const TensorProxy *x = &in.tensor("x"), *y = &in.tensor("y");
      if (x->type.dtype != y->type.dtype || is_integral(x->type.dtype)) {
        in.unsupported("operands of several dtypes, or of integers");
      }
      if (!meta::same_shape(x->type.shape, y->type.shape)) in.unsupported("shapes that broadcast");
      const size_t d = meta::wrap_dim(in, in.integer("dim"), x->type.ndim());
      if (!is_contiguous(x->type) || !is_contiguous(y->type) || d + 1 != x->type.ndim()) {
        in.unsupported("operands that are not contiguous, or not along the last dimension");
      }
      check::device(in, {x, y});
      return meta::fresh(in, x->type, std::span(x->type.shape.data(), d), x->type.dtype);
    },
    .vjp = vecdot_vjp,
};

std::span<const Symbol* const> linalg_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_LINALG_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
