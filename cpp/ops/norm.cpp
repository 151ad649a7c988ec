#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> norm_family() { return {}; }

}  // namespace fulmen::ops
