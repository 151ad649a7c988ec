#pragma once

#include <span>
#include <unordered_set>
#include <vector>

#include "ir/trace.h"
#include "passes/pass.h"

namespace fulmen::passes {

// A forward, and what a backward after it reads.
struct SaveProblem {
  std::span<const Proxy* const> inputs;
  std::span<const BoundSymbol* const> forward;
  std::vector<const Proxy*> results;  // which others use, or may use, after the forward
  std::vector<const Proxy*> needed;   // which the backward reads
  // Storages that the program writes to afterwards.
  std::unordered_set<const Proxy*> written;
  // Forward and backward are parts of one program: nobody writes to anything between them, and the
  // results live as long as the program.
  bool closed = false;
};

// What is saved, and what runs again; see Note [Rematerialization].
struct SavePlan {
  std::unordered_set<const Proxy*> saved;
  std::vector<bool> again;  // of the forward's bound symbols
  double bytes = 0;         // of what is saved and there for nothing else
  double seconds = 0;       // of what runs again
};

SavePlan plan_saving(const SaveProblem& problem, const PassOptions& options);

// Whether the random numbers of a bound symbol can be drawn again.
bool redraws(const BoundSymbol& b);

}  // namespace fulmen::passes
