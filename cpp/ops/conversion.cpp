#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> conversion_family() { return {}; }

}  // namespace fulmen::ops
