#include "ops/linalg_gradient.h"

#include "ops/creation.h"
#include "ops/gradient.h"
#include "ops/indexing.h"
#include "ops/linalg.h"
#include "ops/matmul.h"
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
  const Arg g = part(grad, 1);
  if (g.is_none() || !part(grad, 0).is_none() || !part(grad, 2).is_none()) {
    in.unsupported("the gradient of singular vectors");
  }
  const TensorType& a = in.type("A");
  const size_t n = a.ndim();
  if (in.flag("full_matrices") && !(a.shape[n - 1] == a.shape[n - 2])) {
    in.unsupported("the gradient with full matrices");
  }
  return grads(in, {matmul(out.items()[0] * unsqueeze(g, -2), out.items()[2])});
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
