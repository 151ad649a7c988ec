#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> loss_family() { return {}; }

}  // namespace fulmen::ops
