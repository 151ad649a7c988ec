#pragma once

#include "ir/symbol.h"

namespace fulmen {

// `del a, b`: the program needs these values no longer. Its one argument is the tuple of them.
extern const Symbol del_last_used;

}  // namespace fulmen
