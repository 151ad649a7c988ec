#include "ops/creation.h"
#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/reduction.h"
#include "ops/shape.h"
#include "ops/shape_gradient.h"

namespace fulmen::ops {
namespace {

Args constant_pad_grad(Call& in, const Arg& grad) {
  auto pad = in.integers("pad");
  for (int64_t& p : pad) p = -p;
  return grads(in, {constant_pad_nd(grad, int_list(pad))});
}

// Each padded part is a copy of the part at the other end. Eager pads the last dimension first, and
// its beginning first: the sums go the other way.
Arg circular_pad_grad(Call& in, Arg grad) {
  const TensorType& t = in.type("input");
  const auto pad = in.integers("pad");
  for (size_t i = pad.size() / 2; i-- > 0;) {
    const size_t d = t.ndim() - 1 - i;
    const int64_t before = pad[2 * i], after = pad[2 * i + 1], size = t.shape[d].value();
    const int64_t dim = static_cast<int64_t>(d);
    const auto placed = [&](int64_t start, int64_t length, int64_t left) {
      SmallVec<int64_t, 6> room(2 * i + 2, 0);
      room[2 * i] = left;
      room[2 * i + 1] = size - left - length;
      return constant_pad_nd(narrow(grad, dim, start, length), int_list(room));
    };
    Arg total = narrow(grad, dim, before, size);
    if (after) total = total + placed(before + size, after, 0);
    if (before) total = total + placed(0, before, size - before);
    grad = total;
  }
  return grad;
}

}  // namespace

Args cat_vjp(Call& in, const Arg& out, const Arg& grad) {
  const auto tensors = in.tensors("tensors");
  const int64_t d = meta::wrap_dim(in, in.integer("dim"), out.tensor()->type.ndim());
  Args pieces;
  int64_t start = 0;
  for (const TensorProxy* t : tensors) {
    // An empty vector joins tensors of any rank.
    const bool skipped = t->type.ndim() == 1 && is_zero(t->type.shape[0]);
    const int64_t size = skipped ? 0 : t->type.shape[d].value();
    Arg piece;
    if (t->type.requires_grad) {
      piece = skipped ? zeros_as(grad, t->type) : narrow(grad, d, start, size);
      piece = converted(real_if(t->type, piece), t->type.dtype);
    }
    pieces.push_back(piece);
    start += size;
  }
  return grads(in, {in.list(pieces)});
}

Args stack_vjp(Call& in, const Arg&, const Arg& grad) {
  Args pieces;
  int64_t i = 0;
  for (const TensorProxy* t : in.tensors("tensors")) {
    Arg piece;
    if (t->type.requires_grad) {
      piece = converted(real_if(t->type, select(grad, in["dim"], i)), t->type.dtype);
    }
    pieces.push_back(piece);
    ++i;
  }
  return grads(in, {in.list(pieces)});
}

Args repeat_vjp(Call& in, const Arg&, const Arg& grad) {
  const TensorType& t = in.type("input");
  const Dims counts = in.dims("repeats");
  for (const Dim n : counts) {
    if (is_zero(n)) return grads(in, {zeros_as(grad, t)});
  }
  const size_t extra = counts.size() - t.ndim();
  Arg g = grad;
  for (size_t i = 0; i < extra; ++i) g = sum_dim(g, int_list({{0}}), false);
  Dims shape;
  SmallVec<int64_t, 6> dims;
  for (size_t i = 0; i < t.ndim(); ++i) {
    if (!is_one(counts[i + extra])) {
      dims.push_back(static_cast<int64_t>(shape.size()));
      shape.push_back(counts[i + extra]);
    }
    shape.push_back(t.shape[i]);
  }
  if (!dims.empty()) g = sum_dim(reshape(g, dims_list(shape)), int_list(dims), false);
  return grads(in, {g});
}

Args roll_vjp(Call& in, const Arg&, const Arg& grad) {
  const auto shifts = in.integers("shifts"), dims = in.integers("dims");
  SmallVec<int64_t, 6> back, order;
  for (size_t i = shifts.size(); i-- > 0;) back.push_back(-shifts[i]);
  for (size_t i = dims.size(); i-- > 0;) order.push_back(dims[i]);
  return grads(in, {roll(grad, int_list(back), int_list(order))});
}

Args diag_vjp(Call& in, const Arg&, const Arg& grad) {
  const TensorType& t = in.type("input");
  if (t.ndim() == 1) return grads(in, {diagonal(grad, in["diagonal"])});
  return grads(in, {diagonal_backward(grad, dims_list(t.shape), in["diagonal"], 0, 1)});
}

Args constant_pad_vjp(Call& in, const Arg&, const Arg& grad) { return constant_pad_grad(in, grad); }

Args pad_vjp(Call& in, const Arg&, const Arg& grad) {
  const std::string_view mode = in.text("mode");
  if (mode == "constant") return constant_pad_grad(in, grad);
  if (mode == "circular") return grads(in, {circular_pad_grad(in, grad)});
  const Symbol* const rows[2][3] = {
      {&reflection_pad1d_backward, &reflection_pad2d_backward, &reflection_pad3d_backward},
      {&replication_pad1d_backward, &replication_pad2d_backward, &replication_pad3d_backward}};
  const size_t spatial = in.integers("pad").size() / 2;
  const Symbol& backward = *rows[mode == "reflect" ? 0 : 1][spatial - 1];
  // Only the shape of the padded tensor counts; the tensor itself need not be kept.
  const Arg shape = dims_list(in.type("input").shape);
  return grads(in, {backward(grad, expand(new_zeros(grad, int_list({})), shape), in["pad"])});
}

}  // namespace fulmen::ops
