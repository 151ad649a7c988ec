#pragma once

#include <initializer_list>
#include <string_view>

#include "ir/builder.h"
#include "ir/result_tags.h"

namespace fulmen::ops {

// What the gradient rules of the families share.

// Whether autodiff needs the gradient of this parameter.
bool wants_grad(const Call& in, std::string_view param);
// A vjp's result: a gradient for each parameter named, None for the others.
struct NamedGrad {
  std::string_view param;
  Arg grad;
};
Args grads_of(const Call& in, std::initializer_list<NamedGrad> named);
// `output_mask` of ATen's backward functions: which of the named parameters need a gradient.
Arg output_mask(Call& in, std::initializer_list<std::string_view> params);
// Sums a gradient over the dimensions that broadcasting or expanding added to `type`, and gives it
// its dtype.
Arg reduced_to(const Arg& grad, const TensorType& type);
// Results of a backward function: None where the mask says that no one needs it.
Arg masked_results(Call& in, std::initializer_list<Arg> results);
// The i-th of several results or gradients.
const Arg& item(const Arg& tuple, size_t i);

}  // namespace fulmen::ops
