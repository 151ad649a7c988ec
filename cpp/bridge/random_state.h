#pragma once

#include "exec/compilation.h"

namespace fulmen::bridge {

// Reads and sets the states of generators, see ops/replay.h.
exec::ExecutorPtr random_state_executor();

}  // namespace fulmen::bridge
