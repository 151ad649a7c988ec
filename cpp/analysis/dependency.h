#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "ir/trace.h"

namespace fulmen {

// The order that a list of bound symbols needs: values before their uses; per storage, writes
// in order with the reads around them; random draws among themselves; effects against everything.
struct Dag {
  struct Node {
    const BoundSymbol* bsym;
    std::vector<uint32_t> parents;   // must come before
    std::vector<uint32_t> children;  // must come after
  };
  std::vector<Node> nodes;  // in the original order
};

Dag bsym_list_to_dag(std::span<const BoundSymbol* const> bsyms);

enum class TopoOrder : uint8_t {
  kTopDown,   // picks from what has no parents left
  kBottomUp,  // picks from what has no children left, and fills the result from its end
};
// Chooses among the ready nodes, given in original order: returns a position in the span.
using Selector = std::function<size_t(const Dag&, std::span<const uint32_t> ready)>;

// Stable: without a selector the original order comes back.
std::vector<const BoundSymbol*> toposort(const Dag& dag, TopoOrder order = TopoOrder::kTopDown,
                                         const Selector& selector = nullptr);

}  // namespace fulmen
