#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> matmul_family() { return {}; }

}  // namespace fulmen::ops
