#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> shape_family() { return {}; }

}  // namespace fulmen::ops
