#pragma once

#include <span>
#include <string_view>

#include "ir/proxy.h"
#include "ir/schema.h"

namespace fulmen::passes {

// The functional form of an in-place symbol, where that is not the row it was derived from.
struct InplaceLowering {
  std::string_view symbol;
  // Records it on current values; appends to `values` what each written parameter holds afterwards,
  // in order. Returns the results that are fresh, in the structure of the symbol's output, or None.
  Arg (*run)(std::span<const Arg> args, Args& values);
  // What is written has no gradient, and no gradient reads what was there before.
  bool outside_autograd = false;
};

const InplaceLowering* find_inplace_lowering(std::string_view symbol);

// `value` converted, in a way that autograd follows.
const TensorProxy* cast_to(const TensorProxy* value, DType dtype);

}  // namespace fulmen::passes
