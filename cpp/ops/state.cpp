#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> state_family() { return {}; }

}  // namespace fulmen::ops
