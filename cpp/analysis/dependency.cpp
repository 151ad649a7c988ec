#include "analysis/dependency.h"

#include <algorithm>
#include <unordered_map>

#include "ir/control.h"
#include "support/error.h"

namespace fulmen {
namespace {

// A storage's last write and the reads since then.
struct StorageState {
  int64_t write = -1;
  std::vector<uint32_t> reads;
};

class DagBuilder {
 public:
  Dag build(std::span<const BoundSymbol* const> bsyms) {
    dag_.nodes.resize(bsyms.size());
    for (uint32_t i = 0; i < bsyms.size(); ++i) {
      dag_.nodes[i].bsym = bsyms[i];
      node(i, *bsyms[i]);
    }
    return std::move(dag_);
  }

 private:
  void edge(int64_t from, uint32_t to) {
    if (from < 0 || from == to) return;
    dag_.nodes[to].parents.push_back(static_cast<uint32_t>(from));
  }

  void node(uint32_t i, const BoundSymbol& b) {
    const Symbol& s = *b.symbol;
    const Schema& schema = s.info->schema;
    const bool frees = b.symbol == &del_last_used;
    for (size_t k = 0; k < b.args.size(); ++k) {
      // Which argument an opaque in-place symbol writes is not known.
      const bool writes =
          frees || (s.has(kInplace) && (schema.variadic || schema.params[k].mutated));
      for_each_proxy(b.args[k], [&](const Proxy* p) {
        if (const auto it = producer_.find(p); it != producer_.end()) edge(it->second, i);
        // A deletion ends one value, not its storage.
        access(frees ? uses_[p] : storages_[storage_of(p)], i, writes);
        if (!frees) uses_[p].reads.push_back(i);
      });
    }
    for_each_proxy(b.output, [&](const Proxy* p) { producer_.emplace(p, i); });
    if (s.has(kRandom)) {
      edge(last_random_, i);
      last_random_ = i;
    }
    edge(last_effect_, i);
    if (s.has(kEffect)) {
      for (int64_t j = last_effect_ + 1; j < i; ++j) edge(j, i);
      last_effect_ = i;
    }
    auto& parents = dag_.nodes[i].parents;
    std::sort(parents.begin(), parents.end());
    parents.erase(std::unique(parents.begin(), parents.end()), parents.end());
    for (const uint32_t parent : parents) dag_.nodes[parent].children.push_back(i);
  }

  void access(StorageState& state, uint32_t i, bool writes) {
    edge(state.write, i);
    if (!writes) {
      state.reads.push_back(i);
      return;
    }
    for (const uint32_t r : state.reads) edge(r, i);
    state.reads.clear();
    state.write = i;
  }

  Dag dag_;
  std::unordered_map<const Proxy*, uint32_t> producer_;
  std::unordered_map<const Proxy*, StorageState> storages_;
  std::unordered_map<const Proxy*, StorageState> uses_;
  int64_t last_random_ = -1;
  int64_t last_effect_ = -1;
};

}  // namespace

Dag bsym_list_to_dag(std::span<const BoundSymbol* const> bsyms) {
  return DagBuilder().build(bsyms);
}

std::vector<const BoundSymbol*> toposort(const Dag& dag, TopoOrder order,
                                         const Selector& selector) {
  const bool down = order == TopoOrder::kTopDown;
  const size_t n = dag.nodes.size();
  std::vector<uint32_t> waiting(n);
  std::vector<uint32_t> ready;  // ascending with a selector, else a heap with the next one in front
  const auto later = [down](uint32_t a, uint32_t b) { return down ? a > b : a < b; };
  const auto add = [&](uint32_t i) {
    if (selector) {
      ready.insert(std::lower_bound(ready.begin(), ready.end(), i), i);
    } else {
      ready.push_back(i);
      std::push_heap(ready.begin(), ready.end(), later);
    }
  };
  for (uint32_t i = 0; i < n; ++i) {
    const Dag::Node& node = dag.nodes[i];
    waiting[i] = static_cast<uint32_t>((down ? node.parents : node.children).size());
    if (waiting[i] == 0) add(i);
  }
  std::vector<const BoundSymbol*> out;
  out.reserve(n);
  while (!ready.empty()) {
    uint32_t next;
    if (selector) {
      const size_t at = selector(dag, ready);
      if (at >= ready.size()) internal_error("a selector chose none of the ready nodes");
      next = ready[at];
      ready.erase(ready.begin() + at);
    } else {
      std::pop_heap(ready.begin(), ready.end(), later);
      next = ready.back();
      ready.pop_back();
    }
    out.push_back(dag.nodes[next].bsym);
    for (const uint32_t i : down ? dag.nodes[next].children : dag.nodes[next].parents) {
      if (--waiting[i] == 0) add(i);
    }
  }
  if (!down) std::reverse(out.begin(), out.end());
  return out;
}

}  // namespace fulmen
