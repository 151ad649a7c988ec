#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> comparison_family() { return {}; }

}  // namespace fulmen::ops
