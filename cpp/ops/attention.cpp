#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> attention_family() { return {}; }

}  // namespace fulmen::ops
