#pragma once

#include <initializer_list>
#include <string_view>

#include "ir/symbol.h"

namespace fulmen::passes {

// Records a call of the row `name` in the current builder. Throws Unsupported when there is no such
// row or the arguments do not fit it: the pass then leaves the program as it is.
Arg emit(std::string_view name, std::initializer_list<Arg> args, const Kwargs& kwargs = {});

// The row of that name, or null.
const Symbol* find_row(std::string_view name);

}  // namespace fulmen::passes
