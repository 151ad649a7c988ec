#include "ir/control.h"

#include "ops/families.h"

namespace fulmen::ops {

std::span<const Symbol* const> control_family() {
  static constexpr const Symbol* kRows[] = {&del_last_used};
  return kRows;
}

}  // namespace fulmen::ops
