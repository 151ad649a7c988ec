#pragma once

#include <cstddef>
#include <span>
#include <unordered_map>
#include <vector>

#include "ir/trace.h"

namespace fulmen {

// For every value: the index of the last bound symbol that takes it or makes it; the length of the
// body for what the trace returns, and for inputs that nothing uses no entry. Deletions do not
// count.
std::unordered_map<const Proxy*, size_t> last_uses(const Trace& trace);

// What `body` and then `output` read, and neither `body` makes nor `known` has, in order of first
// use.
std::vector<const Proxy*> free_values(std::span<const BoundSymbol* const> body,
                                      std::span<const Proxy* const> known = {},
                                      const Arg& output = {});

}  // namespace fulmen
