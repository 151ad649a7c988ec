#pragma once

#include <span>

#include "ir/builder.h"
#include "ops/arith.h"

// What gradient rules share. As in eager, an elementwise rule may return its gradient in the shape
// and dtype of the result: the sum over the dimensions that were broadcast, and the conversion, are
// done for all rules alike by who calls them.
namespace fulmen::ops {

// Whether a gradient of the parameter is wanted.
bool wants_grad(const Call& in, size_t param);
bool wants_grad(const Call& in, std::string_view param);

// One gradient, of the parameter with this name.
Args grad_of(const Call& in, std::string_view param, const Arg& grad);

// `grad` summed over the dimensions in which `shape` was broadcast.
Arg sum_to(const Arg& grad, std::span<const Dim> shape);
// Zeros in the shape of `like`, in the dtype and on the device of `grad`.
Arg zeros_as(const Arg& grad, const TensorType& like);
// `grad` with zeros where `mask` holds.
Arg zero_where(const Arg& mask, const Arg& grad);
// Of real tensors and numbers the argument itself.
Arg conjugate(const Arg& a);
// The gradient of a parameter of type `t`: its real part where a real parameter met complex ones.
Arg real_if(const TensorType& t, const Arg& grad);
// The element of a tuple of gradients; None where `grad` is None.
Arg part(const Arg& grad, size_t i);
Arg dims_list(std::span<const Dim> dims);
Arg int_list(std::span<const int64_t> values);

// The gradients of two operands, each computed where it is wanted.
template <class First, class Second>
Args operand_grads(const Call& in, First first, Second second) {
  Args out;
  out.resize(in.size());
  if (wants_grad(in, 0)) out[0] = real_if(in[size_t{0}].tensor()->type, first());
  if (wants_grad(in, 1)) out[1] = real_if(in[1].tensor()->type, second());
  return out;
}

// Rules that many rows share.
Args pass_vjp(Call& in, const Arg& out, const Arg& grad);  // the gradient as it is, of parameter 0
Args zero_vjp(Call& in, const Arg& out,
              const Arg& grad);  // zeros for every tensor, as eager has it
Args reshape_vjp(Call& in, const Arg& out, const Arg& grad);  // in the shape of parameter 0

}  // namespace fulmen::ops
