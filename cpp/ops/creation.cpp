#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> creation_family() { return {}; }

}  // namespace fulmen::ops
