#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> random_family() { return {}; }

}  // namespace fulmen::ops
