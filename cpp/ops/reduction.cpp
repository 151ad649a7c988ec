#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> reduction_family() { return {}; }

}  // namespace fulmen::ops
