#pragma once

#include "exec/kernel.h"

namespace fulmen::bridge {

// Reads and sets the states of generators, see ops/replay.h.
const exec::Executor& random_state_executor();

}  // namespace fulmen::bridge
