#pragma once

#include <span>
#include <string_view>

#include "ir/proxy.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// `tensor.item()`, and arithmetic with what it gives, as operations of a program.
extern const Symbol item;
// The row for a function of `operator` or `math` by its name ("add", "sqrt"); null if there is
// none.
const Symbol* number_row(std::string_view function);
// Whether the row takes numbers of these types without looking at their values.
bool takes_types(const Symbol& row, std::span<const NumberType> types);

}  // namespace fulmen::ops
