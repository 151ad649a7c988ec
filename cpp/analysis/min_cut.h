#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fulmen {

// A minimum cut between node 0, the source, and node 1, the sink, of a directed graph.
class MinCut {
 public:
  static constexpr double kInfinite = 1e300;
  static constexpr uint32_t kSource = 0, kSink = 1;

  explicit MinCut(size_t nodes = 2) : first_(nodes, kNone) {}

  uint32_t add_node();
  void add_edge(uint32_t from, uint32_t to, double capacity);

  // For each node whether it is on the sink's side: of all minimum cuts the one nearest the sink.
  // Capacities must not let an infinite flow through.
  std::vector<bool> sink_side();

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};

  // Edges are stored in pairs: e ^ 1 is the reverse of e.
  struct Edge {
    uint32_t to;
    uint32_t next;
    double capacity;  // what is left of it
  };

  bool find_levels();
  double push(double limit);

  std::vector<uint32_t> first_;
  std::vector<Edge> edges_;
  std::vector<uint32_t> level_;
  std::vector<uint32_t> current_;
};

}  // namespace fulmen
