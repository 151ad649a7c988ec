#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

extern const Symbol set_grad_enabled;

}  // namespace fulmen::ops
