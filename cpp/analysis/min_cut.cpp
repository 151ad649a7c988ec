#include "analysis/min_cut.h"

#include <algorithm>

namespace fulmen {
namespace {

// What floating point leaves of an edge that is used up.
constexpr double kNothing = 1e-9;

}  // namespace

uint32_t MinCut::add_node() {
  first_.push_back(kNone);
  return static_cast<uint32_t>(first_.size() - 1);
}

void MinCut::add_edge(uint32_t from, uint32_t to, double capacity) {
  edges_.push_back({to, first_[from], capacity});
  first_[from] = static_cast<uint32_t>(edges_.size() - 1);
  edges_.push_back({from, first_[to], 0});
  first_[to] = static_cast<uint32_t>(edges_.size() - 1);
}

// Dinic's algorithm: rounds of augmenting paths, each round on shortest paths only.
std::vector<bool> MinCut::sink_side() {
  while (find_levels()) {
    current_ = first_;
    while (push(kInfinite) > kNothing) {
    }
  }
  std::vector<bool> side(first_.size());
  std::vector<uint32_t> stack{kSink};
  side[kSink] = true;
  while (!stack.empty()) {
    const uint32_t node = stack.back();
    stack.pop_back();
    for (uint32_t e = first_[node]; e != kNone; e = edges_[e].next) {
      const uint32_t from = edges_[e].to;
      if (side[from] || edges_[e ^ 1].capacity <= kNothing) continue;
      side[from] = true;
      stack.push_back(from);
    }
  }
  return side;
}

bool MinCut::find_levels() {
  level_.assign(first_.size(), kNone);
  level_[kSource] = 0;
  std::vector<uint32_t> queue{kSource};
  for (size_t i = 0; i < queue.size(); ++i) {
    for (uint32_t e = first_[queue[i]]; e != kNone; e = edges_[e].next) {
      if (edges_[e].capacity <= kNothing || level_[edges_[e].to] != kNone) continue;
      level_[edges_[e].to] = level_[queue[i]] + 1;
      queue.push_back(edges_[e].to);
    }
  }
  return level_[kSink] != kNone;
}

// One augmenting path; without recursion, for programs are long chains.
double MinCut::push(double limit) {
  std::vector<uint32_t> path;  // edges
  uint32_t node = kSource;
  while (node != kSink) {
    uint32_t& e = current_[node];
    while (e != kNone &&
           (edges_[e].capacity <= kNothing || level_[edges_[e].to] != level_[node] + 1)) {
      e = edges_[e].next;
    }
    if (e != kNone) {
      path.push_back(e);
      node = edges_[e].to;
      continue;
    }
    if (path.empty()) return 0;
    level_[node] = kNone;  // a dead end
    node = edges_[path.back() ^ 1].to;
    path.pop_back();
  }
  for (const uint32_t e : path) limit = std::min(limit, edges_[e].capacity);
  for (const uint32_t e : path) {
    if (edges_[e].capacity < kInfinite) edges_[e].capacity -= limit;
    edges_[e ^ 1].capacity += limit;
  }
  return limit;
}

}  // namespace fulmen
