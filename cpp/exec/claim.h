#pragma once

#include <map>
#include <span>
#include <string>

#include "exec/kernel.h"

namespace fulmen::exec {

// What became of each bound symbol on the way to executors.
struct ClaimReport {
  std::map<std::string, int> claimed;           // executor → bound symbols
  std::map<std::string, std::string> refusals;  // symbol → reasons of the executors that refused it
};

// Hands every bound symbol to the first executor that runs it: as called, or else its
// decomposition, top-down. Throws UserError "no-executor" for one that nobody runs.
Trace transform_for_execution(const Trace& trace, std::span<const Executor* const> executors,
                              ClaimReport& report);

}  // namespace fulmen::exec
