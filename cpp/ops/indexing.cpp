#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> indexing_family() { return {}; }

}  // namespace fulmen::ops
