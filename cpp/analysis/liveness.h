#pragma once

#include <cstddef>
#include <unordered_map>

#include "ir/trace.h"

namespace fulmen {

// For every value: the index of the last bound symbol that takes it or makes it; the length of the
// body for what the trace returns, and for inputs that nothing uses no entry. Deletions do not
// count.
std::unordered_map<const Proxy*, size_t> last_uses(const Trace& trace);

}  // namespace fulmen
