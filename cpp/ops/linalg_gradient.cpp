#include "ops/linalg_gradient.h"

#include <limits>

#include "ops/comparison.h"
#include "ops/creation.h"
#include "ops/gradient.h"
#include "ops/indexing.h"
#include "ops/linalg.h"
#include "ops/matmul.h"
#include "ops/select.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

Arg adjoint_of(const Arg& a) { return transpose(conjugate(a), -2, -1); }

Arg solve_triangular(const Arg& a, const Arg& b, bool upper, bool left, bool unit = false) {
  return record(linalg_solve_triangular, {a, b, upper, left, unit});
}

// The first of several results or gradients, or the only one.
Arg first(const Arg& a) { return a.is_sequence() ? a.items()[0] : a; }

// g on the diagonals of a's shape.
Arg diagonals(const Arg& g, const Arg& a) {
  Dims shape = a.tensor()->type.shape;
  shape.pop_back();
  return diag_embed(expand(unsqueeze(g, -1), dims_list(shape)));
}

}  // namespace

Args inverse_vjp(Call& in, const Arg& out, const Arg& grad) {
  if (first(grad).is_none()) return grads(in, {});
  const Arg adjoint = adjoint_of(first(out));
  return grads(in, {-matmul(adjoint, matmul(first(grad), adjoint))});
}

Args cholesky_vjp(Call& in, const Arg& out, const Arg& grad) {
  Arg l = first(out), g = first(grad);
  if (g.is_none()) return grads(in, {});
  if (in.flag("upper")) {
    l = adjoint_of(l);
    g = adjoint_of(g);
  }
  const Arg lower = tril(matmul(adjoint_of(l), g));
  const Arg symmetric = (lower + adjoint_of(tril(lower, -1))) * 0.5;
  const Arg half = solve_triangular(adjoint_of(l), symmetric, true, true);
  return grads(in, {solve_triangular(l, half, false, false)});
}

Args solve_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg of_b = linalg_solve(adjoint_of(in["A"]), grad);
  return operand_grads(in, [&] { return -matmul(of_b, adjoint_of(out)); }, [&] { return of_b; });
}

Args solve_triangular_vjp(Call& in, const Arg& out, const Arg& grad) {
  const bool upper = in.flag("upper"), left = in.flag("left"), unit = in.flag("unitriangular");
  const Arg of_b = solve_triangular(adjoint_of(in["A"]), grad, !upper, left, unit);
  return operand_grads(
      in,
      [&] {
        const Arg x = adjoint_of(out);
        const Arg whole = -(left ? matmul(of_b, x) : matmul(x, of_b));
        return upper ? triu(whole, unit ? 1 : 0) : tril(whole, unit ? -1 : 0);
      },
      [&] { return of_b; });
}

Args log_determinant_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg a = in["A"], g = grad.is_sequence() ? grad.items()[1] : grad;
  real_grad(in, g);
  if (g.is_none()) return grads(in, {});  // the sign is constant
  return grads(in, {linalg_solve(adjoint_of(a), diagonals(g, a))});
}

Args determinant_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg g = item(grad, 0);
  if (g.is_none()) return grads(in, {});
  const TensorType& a = in.type("A");
  const Arg &det = item(out, 0), &lu = item(out, 1);
  // A singular matrix has a gradient too: that of one close to it.
  const double eps = a.dtype == DType::kFloat32 || a.dtype == DType::kComplex64
                         ? std::numeric_limits<float>::epsilon()
                         : std::numeric_limits<double>::epsilon();
  const Arg pivots = diagonal(lu, 0, -2, -1);
  const Arg regular = lu + diag_embed(where(eq(pivots, 0.0), eps, 0.0));
  const Arg d = transpose(diagonals(g * conjugate(det), in["A"]), -2, -1);
  const bool transposed = is_contiguous(a) && !is_complex(a.dtype);
  return grads(in,
               {record(linalg_lu_solve, {regular, item(out, 2), d, Arg(true), Arg(!transposed)})});
}

Args cholesky_solve_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg of_b = record(cholesky_solve, {grad, in["input2"], in["upper"]});
  return operand_grads(
      in, [&] { return of_b; },
      [&] {
        const Arg half = matmul(of_b, adjoint_of(out)), whole = half + adjoint_of(half);
        return -(in.flag("upper") ? matmul(in["input2"], whole) : matmul(whole, in["input2"]));
      });
}

Args cholesky_inverse_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg whole = matmul(matmul(out, grad + adjoint_of(grad)), out);
  return grads(in, {-(in.flag("upper") ? matmul(in["A"], whole) : matmul(whole, in["A"]))});
}

Args qr_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg &q = item(out, 0), &r = item(out, 1);
  const Arg of_q = part(grad, 0), of_r = part(grad, 1);
  const TensorType& a = in.type("A");
  const Dim m = a.shape[a.ndim() - 2], n = a.shape[a.ndim() - 1];
  if (is_complex(a.dtype)) in.unsupported("the gradient of a complex matrix");
  if (m.value() < n.value() || (in.text("mode") == "complete" && !(m == n)))
    in.unsupported("the gradient of a wide matrix, or of a complete basis");
  Arg inner;
  if (!of_r.is_none()) inner = matmul(of_r, adjoint_of(r));
  if (!of_q.is_none()) {
    const Arg turned = matmul(adjoint_of(q), of_q);
    inner = inner.is_none() ? -turned : inner - turned;
  }
  inner = triu(inner);
  Arg whole = matmul(q, inner + adjoint_of(triu(inner, 1)));
  if (!of_q.is_none()) whole = of_q + whole;
  return grads(in, {solve_triangular(adjoint_of(r), whole, false, false)});
}

Args eigh_vjp(Call& in, const Arg& out, const Arg& grad) {
  real_grad(in, grad);
  const Arg values = out.items()[0], vectors = out.items()[1];
  const Arg of_values = part(grad, 0), of_vectors = part(grad, 1);
  const Arg back = transpose(vectors, -2, -1);
  if (of_vectors.is_none()) {
    return grads(in, {matmul(vectors * unsqueeze(of_values, -2), back)});
  }
  const Arg gaps = unsqueeze(values, -2) - unsqueeze(values, -1);
  const Arg diagonal =
      of_values.is_none() ? zeros_as(of_vectors, values.tensor()->type) : of_values;
  // Vectors stay orthogonal: their change is skew.
  const Arg change = matmul(back, of_vectors);
  const Arg skew = (change - transpose(change, -2, -1)) * 0.5;
  const Arg inner = diagonal_scatter(skew / gaps, diagonal, 0, -2, -1);
  return grads(in, {matmul(vectors, matmul(inner, back))});
}

Args svd_vjp(Call& in, const Arg& out, const Arg& grad) {
  real_grad(in, grad);
  const TensorType& a = in.type("A");
  if (is_complex(a.dtype)) in.unsupported("the gradient of a complex matrix");
  const int64_t m = a.shape[a.ndim() - 2].value(), n = a.shape[a.ndim() - 1].value();
  if (in.flag("full_matrices") && m != n) in.unsupported("the gradient with full matrices");
  const Arg &u = item(out, 0), &s = item(out, 1), &vh = item(out, 2);
  const Arg of_u = part(grad, 0), of_s = part(grad, 1), of_vh = part(grad, 2);
  if (of_u.is_none() && of_vh.is_none()) return grads(in, {matmul(u * unsqueeze(of_s, -2), vh)});
  const auto skew = [](const Arg& x) { return x - adjoint_of(x); };
  const Arg rows = unsqueeze(s, -1), columns = unsqueeze(s, -2), squares = s * s;
  const Arg gaps = unsqueeze(squares, -2) - unsqueeze(squares, -1);
  const Arg apart = diagonal_scatter(gaps, ones_like(s), 0, -2, -1);
  Arg inner;
  if (!of_u.is_none()) {
    const Arg turned = skew(matmul(adjoint_of(u), of_u));
    inner = of_vh.is_none()
                ? turned / apart * columns
                : (turned * columns + rows * skew(matmul(vh, adjoint_of(of_vh)))) / apart;
  } else {
    inner = rows * (skew(matmul(vh, adjoint_of(of_vh))) / apart);
  }
  if (!of_s.is_none()) inner = inner + diag_embed(of_s);
  // What leaves the spaces that the vectors span.
  if (m > n && !of_u.is_none()) {
    const Arg out_of = of_u / columns;
    const Arg left = matmul(u, inner) + out_of - matmul(u, matmul(adjoint_of(u), out_of));
    return grads(in, {matmul(left, vh)});
  }
  if (m < n && !of_vh.is_none()) {
    const Arg out_of = of_vh / rows;
    const Arg right = matmul(inner, vh) + out_of - matmul(matmul(out_of, adjoint_of(vh)), vh);
    return grads(in, {matmul(u, right)});
  }
  return grads(in, {m >= n ? matmul(u, matmul(inner, vh)) : matmul(matmul(u, inner), vh)});
}

Args matrix_exp_vjp(Call& in, const Arg&, const Arg& grad) {
  // The exponential of [[A', G], [0, A']] has the gradient as its corner.
  const Arg a = adjoint_of(in["A"]);
  const int64_t n = a.tensor()->type.shape.back().value();
  const Arg top = cat(in.list(Args{a, grad}), -1);
  const Arg bottom = cat(in.list(Args{zeros_as(grad, a.tensor()->type), a}), -1);
  const Arg whole = matrix_exp(cat(in.list(Args{top, bottom}), -2));
  return grads(in, {narrow(narrow(whole, -2, 0, n), -1, n, n)});
}

Args cross_vjp(Call& in, const Arg&, const Arg& grad) {
  const auto cross = [&](const Arg& a, const Arg& b) {
    return record(linalg_cross, {a, b, in["dim"]});
  };
  return operand_grads(
      in, [&] { return cross(conjugate(in[1]), grad); },
      [&] { return cross(grad, conjugate(in[0])); });
}

Args vecdot_vjp(Call& in, const Arg&, const Arg& grad) {
  real_grad(in, grad);
  const Arg g = unsqueeze(grad, in["dim"]);
  return operand_grads(in, [&] { return g * in[1]; }, [&] { return g * in[0]; });
}

Args trace_vjp(Call& in, const Arg&, const Arg& grad) {
  const Dims& shape = in.type("input").shape;
  const Dims size{min(shape[0], shape[1])};
  const Arg diagonal = expand(grad, dims_list(size));
  return grads(in, {diagonal_backward(diagonal, dims_list(shape), 0, 0, 1)});
}

}  // namespace fulmen::ops
