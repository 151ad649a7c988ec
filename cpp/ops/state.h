#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

extern const Symbol set_grad_enabled;
extern const Symbol set_inference_mode;

}  // namespace fulmen::ops
