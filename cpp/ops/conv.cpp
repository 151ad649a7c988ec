#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> conv_family() { return {}; }

}  // namespace fulmen::ops
