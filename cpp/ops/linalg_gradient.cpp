#include "ops/linalg_gradient.h"

#include <algorithm>
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
  Arg of_q = part(grad, 0), of_r = part(grad, 1);
  const TensorType& a = in.type("A");
  const int64_t m = a.shape[a.ndim() - 2].value(), n = a.shape[a.ndim() - 1].value();
  if (is_complex(a.dtype)) in.unsupported("the gradient of a complex matrix");
  if (m > n && in.text("mode") == "complete")
    in.unsupported("the gradient of a complete basis");  // which eager refuses
  // Of a wide matrix [X Y] with R = [U V]: X = Q U, and V = Q' Y depends on Q.
  Arg of_right;
  Arg triangle = r;
  if (m < n) {
    triangle = narrow(r, -1, 0, m);
    if (!of_r.is_none()) {
      const Arg of_v = narrow(of_r, -1, m, n - m);
      const Arg through = matmul(narrow(in["A"], -1, m, n - m), adjoint_of(of_v));
      of_q = of_q.is_none() ? through : of_q + through;
      of_right = matmul(q, of_v);
      of_r = narrow(of_r, -1, 0, m);
    } else {
      Dims rest = a.shape;
      rest.back() = n - m;
      of_right = new_zeros(of_q, dims_list(rest));
    }
  }
  Arg inner;
  if (!of_r.is_none()) inner = matmul(of_r, adjoint_of(triangle));
  if (!of_q.is_none()) {
    const Arg turned = matmul(adjoint_of(q), of_q);
    inner = inner.is_none() ? -turned : inner - turned;
  }
  inner = triu(inner);
  Arg whole = matmul(q, inner + adjoint_of(triu(inner, 1)));
  if (!of_q.is_none()) whole = of_q + whole;
  const Arg left = solve_triangular(adjoint_of(triangle), whole, false, false);
  return grads(in, {of_right.is_none() ? left : cat(in.list(Args{left, of_right}), -1)});
}

Args eig_vjp(Call& in, const Arg& out, const Arg& grad) {
  // Eager looks at the vectors' gradients: a loss that depends on the vectors' phase is refused.
  if (!part(grad, 1).is_none()) in.unsupported("the gradient of eigenvectors");
  const Arg back = adjoint_of(item(out, 1));
  const Arg whole = linalg_solve(back, unsqueeze(part(grad, 0), -1) * back);
  return grads(in, {real_if(in.type("A"), whole)});
}

namespace {

// P of A = P L U.
Arg permutation_of(const Arg& lu, const Arg& pivots) {
  return item(record(lu_unpack, {lu, pivots, Arg(false), Arg(true)}), 0);
}

}  // namespace

Args lu_factor_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg lu = item(out, 0), g = item(grad, 0);
  if (g.is_none()) return grads(in, {});
  const TensorType& a = in.type("A");
  const int64_t m = a.shape[a.ndim() - 2].value(), n = a.shape[a.ndim() - 1].value();
  const int64_t k = std::min(m, n);
  // The square part of the factors, and the rows or columns that are left.
  const auto corner = [&](const Arg& x) { return narrow(narrow(x, -2, 0, k), -1, 0, k); };
  const auto rest = [&](const Arg& x) {
    return m > n ? narrow(x, -2, k, m - k) : narrow(x, -1, k, n - k);
  };
  const Arg square = m == n ? lu : corner(lu), of_square = m == n ? g : corner(g);
  const Arg upper = triu(square), lower = tril(square, -1);
  const Arg of_lower = tril(of_square, -1);
  Arg below = of_lower + matmul(adjoint_of(lower), of_lower);
  Arg above = matmul(triu(of_square), adjoint_of(upper));
  if (m < n) below = below - matmul(rest(g), adjoint_of(rest(lu)));
  if (m > n) above = above - matmul(adjoint_of(rest(lu)), rest(g));
  Arg whole = tril(below, -1) + triu(above);
  whole = solve_triangular(adjoint_of(upper), whole, false, false);
  whole = solve_triangular(adjoint_of(square), whole, true, true, true);
  if (m < n) {
    const Arg right = solve_triangular(adjoint_of(square), rest(g), true, true, true);
    whole = cat(in.list(Args{whole, right}), -1);
  } else if (m > n) {
    const Arg bottom = solve_triangular(adjoint_of(upper), rest(g), false, false);
    whole = cat(in.list(Args{whole, bottom}), -2);
  }
  return grads(in, {matmul(permutation_of(lu, item(out, 1)), whole)});
}

Args lu_solve_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg lu = in["LU"], pivots = in["pivots"];
  const bool adjoint = in.flag("adjoint");
  const auto solve = [&](bool of_adjoint) {
    return record(linalg_lu_solve, {lu, pivots, grad, Arg(true), Arg(of_adjoint)});
  };
  Arg of_lu, of_b;
  if (wants_grad(in, "B")) of_b = solve(!adjoint);
  if (wants_grad(in, "LU")) {
    const Arg upper = triu(lu), lower = tril(lu, -1);
    Arg of_lower, of_upper;
    if (adjoint) {
      const Arg w = solve(false);
      const Arg p = permutation_of(lu, pivots);
      const Arg inner = -matmul(matmul(transpose(p, -2, -1), out), adjoint_of(w));
      of_lower = matmul(inner, adjoint_of(upper));
      of_upper = inner + matmul(adjoint_of(lower), inner);
    } else {
      of_upper = -matmul(solve_triangular(adjoint_of(upper), grad, false, true), adjoint_of(out));
      of_lower =
          matmul(solve_triangular(adjoint_of(lu), of_upper, true, true, true), adjoint_of(upper));
    }
    of_lu = tril(of_lower, -1) + triu(of_upper);
  }
  return grads_of(in, {{"LU", of_lu}, {"B", of_b}});
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
