#pragma once

#include "ir/builder.h"

namespace fulmen::ops {

// check_tensor(input, size, stride, dtype, device): raises at run time unless the metadata fit.
extern const Symbol check_tensor;

// Records the check that an input of the program has the metadata that it was compiled for.
void record_check(Builder& builder, const TensorProxy& input);

}  // namespace fulmen::ops
