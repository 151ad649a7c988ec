#pragma once

#include <string_view>

#include "ir/symbol.h"
#include "ops/registry.h"
#include "support/error.h"

namespace fulmen::ops {

// The row with this name ("mean.dim"), for decompositions across families. Unsupported when no
// family has it: the composite then runs as it is.
inline const Symbol& row(std::string_view name) {
  const Symbol* symbol = Registry::get().find(name);
  if (!symbol) throw Unsupported(cat("no row is named ", name));
  return *symbol;
}

}  // namespace fulmen::ops
