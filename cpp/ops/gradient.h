#pragma once

#include <initializer_list>
#include <span>
#include <string_view>

#include "ir/builder.h"
#include "ops/arith.h"

// What the gradient rules of the families share. A rule may return its gradient in the shape and
// dtype of the result: as in eager's engine, who calls it sums over the dimensions that were
// broadcast, and converts.
namespace fulmen::ops {

// Whether autodiff needs the gradient of this parameter.
bool wants_grad(const Call& in, size_t param);
bool wants_grad(const Call& in, std::string_view param);
// A vjp's result: a gradient for each parameter named, None for the others.
struct NamedGrad {
  std::string_view param;
  Arg grad;
};
Args grads_of(const Call& in, std::initializer_list<NamedGrad> named);
// `output_mask` of ATen's backward functions: which of the named parameters need a gradient.
Arg output_mask(Call& in, std::initializer_list<std::string_view> params);
// Results of a backward function: None where the mask says that no one needs it.
Arg masked_results(Call& in, std::initializer_list<Arg> results);
// The i-th of several results or gradients.
const Arg& item(const Arg& tuple, size_t i);
// The same; None where `grad` is None.
Arg part(const Arg& grad, size_t i);

// Sums a gradient over the dimensions that broadcasting or expanding added to `shape`.
Arg sum_to(const Arg& grad, std::span<const Dim> shape);
// As sum_to, and in the dtype of `type`.
Arg reduced_to(const Arg& grad, const TensorType& type);
// Zeros in the shape of `like`, in the dtype and on the device of `grad`.
Arg zeros_as(const Arg& grad, const TensorType& like);
// `grad` with zeros where `mask` holds.
Arg zero_where(const Arg& mask, const Arg& grad);
// Of real tensors and numbers the argument itself.
Arg conjugate(const Arg& a);
// The real part of a complex gradient where `t` is real.
Arg real_if(const TensorType& t, const Arg& grad);
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

// Of a backward function that is linear in `grad_output` and reads no value of its other tensors:
// `of_grad` is the gradient of the former, computed where it is wanted; as in eager the others have
// zeros.
template <class F>
Args linear_backward_grads(const Call& in, const Arg& grad, F of_grad) {
  Args out;
  out.resize(in.size());
  for (size_t i = 0; i < in.size(); ++i) {
    if (!wants_grad(in, i)) continue;
    out[i] = i == 0 ? of_grad() : zeros_as(grad, in[i].tensor()->type);
  }
  return out;
}

// Rules that many rows share.
Args pass_vjp(Call& in, const Arg& out, const Arg& grad);  // the gradient as it is, of parameter 0
Args zero_vjp(Call& in, const Arg& out,
              const Arg& grad);  // zeros for every tensor, as eager has it
Args reshape_vjp(Call& in, const Arg& out, const Arg& grad);  // in the shape of parameter 0

}  // namespace fulmen::ops
