#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> embedding_family() { return {}; }

}  // namespace fulmen::ops
