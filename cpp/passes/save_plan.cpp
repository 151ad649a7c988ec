#include "passes/save_plan.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "analysis/cost.h"
#include "analysis/min_cut.h"
#include "ops/conversion.h"
#include "ops/linear_loss.h"
#include "ops/replay.h"
#include "ops/shape.h"

// Note [Rematerialization]
// The cut separates what is there when the backward begins (the source's side) from what the
// backward has to compute (the sink's side). A value is two nodes: made, and at hand for the
// backward; an edge between them that is cut is a value that is saved, and its capacity the bytes.
// A bound symbol is a node too: on the sink's side it runs again, which cuts an edge from the
// source whose capacity is its time, in bytes by an exchange rate. What may not be saved or not run
// again has an edge that can't be cut. The rate is searched for: the lower, the more is computed
// again.
namespace fulmen::passes {
namespace {

// Of the time of forward and backward, what recomputation may take without a memory budget.
constexpr double kFreeTime = 0.02;
// A backward takes about twice the time of its forward.
constexpr double kStepTime = 3;
// More than any program saves: only for a checkpoint, which has to be computed from something.
constexpr double kLastResort = 1e15;
// The part of what is needed that a segment has at least.
constexpr double kSmallestSegment = 1.0 / 16;
constexpr double kLowestRate = 1;      // bytes for a second
constexpr double kHighestRate = 1e14;  // recomputes nothing but what costs nothing

const std::unordered_set<const Symbol*>& copies() {
#define X(row) &ops::row,
#define Y(row, method, dtype) &ops::row,
  static const std::unordered_set<const Symbol*> all{
      FULMEN_TO_OPS(X) FULMEN_CAST_OPS(Y) & ops::clone, &ops::contiguous, &ops::detach, &ops::data};
#undef X
#undef Y
  return all;
}

bool runs_again(const BoundSymbol& b) {
  const Symbol& s = *b.symbol;
  if (!s.has(kPure) || s.has(kRandom | kOpaque | kInplace | kEffect)) return false;
  // Has the gradients already, which a backward needs for as long as these would be kept.
  if (&s == &ops::linear_cross_entropy_forward) return false;
  bool tensors = true;
  for_each_proxy(b.output, [&](const Proxy* p) { tensors = tensors && as_tensor(p); });
  if (!tensors) return false;
  // Memory that nobody wrote has other contents.
  return s.name().find("empty") == std::string::npos;
}

bool is_cheap(const BoundSymbol& b) {
  return b.symbol->has(kPointwise | kView | kCreation) || copies().contains(b.symbol);
}

// What can be said of the values of one forward, and the plans for it.
class Planner {
 public:
  Planner(const SaveProblem& problem, const PassOptions& options)
      : problem_(problem),
        forward_(problem.forward),
        options_(options),
        inputs_(problem.inputs.begin(), problem.inputs.end()),
        results_(problem.results.begin(), problem.results.end()),
        needed_set_(problem.needed.begin(), problem.needed.end()),
        needed_(problem.needed) {
    for (size_t i = 0; i < forward_.size(); ++i) {
      const BoundSymbol& b = *forward_[i];
      for_each_proxy(b.output, [&](const Proxy* p) { producer_.emplace(p, i); });
      seconds_.push_back(estimated_seconds(b, options.fused));
      total_seconds_ += seconds_.back();
    }
    find_segments();
    find_leaving();
  }

  SavePlan plan() const {
    SavePlan least = cut(kHighestRate);
    if (options_.memory_budget >= 1) return least;
    const bool free = options_.memory_budget < 0;
    const double limit =
        free ? kFreeTime * kStepTime * total_seconds_ : options_.memory_budget * bytes_unplanned();
    const double forced = least.seconds;
    // Without a budget: the lowest rate whose plan is quick. With one: the highest whose plan fits.
    const auto good = [&](const SavePlan& p) {
      return free ? p.seconds - forced <= limit : p.bytes <= limit;
    };
    if (!free && good(least)) return least;
    SavePlan most = cut(kLowestRate);
    if (free ? good(most) : !good(most)) return most;
    double low = std::log(kLowestRate), high = std::log(kHighestRate);
    for (int step = 0; step < 12; ++step) {
      const double middle = (low + high) / 2;
      SavePlan p = cut(std::exp(middle));
      if (good(p) == free) {
        high = middle;
        least = std::move(p);
      } else {
        low = middle;
        most = std::move(p);
      }
    }
    return free ? least : most;
  }

 private:
  bool in_checkpoint(const Proxy* p) const {
    const auto it = producer_.find(p);
    return it != producer_.end() && forward_[it->second]->checkpoint() != 0;
  }

  // Chains of values that are computed again from each other would all be alive at once. With a
  // budget, the program is cut into segments where the least is alive, and what goes from one to
  // another is not computed again; so a backward has one segment's values at a time.
  void find_segments() {
    segment_.assign(forward_.size() + 1, 0);
    if (options_.memory_budget < 0 || options_.memory_budget >= 1) return;
    const std::vector<double> alive = alive_after();
    const double share = std::max(options_.memory_budget / 2, kSmallestSegment);
    const double size = share * bytes_unplanned();
    double filled = 0, least = 0;
    size_t best = 0, from = 0;
    int segment = 0;
    const auto end_at = [&](size_t at) {
      for (size_t i = from; i <= at; ++i) segment_[i] = segment;
      ++segment;
      from = at + 1;
      filled = 0;
      best = 0;
    };
    for (size_t i = 0; i < forward_.size(); ++i) {
      filled += static_cast<double>(bytes_needed_of(*forward_[i]));
      if (filled > size / 2 && (!best || alive[i] <= least)) {
        best = i + 1;
        least = alive[i];
      }
      if (filled <= size || !best) continue;
      i = best - 1;
      end_at(i);
    }
    for (size_t i = from; i < segment_.size(); ++i) segment_[i] = segment;
    num_segments_ = segment + 1;
  }

  int64_t bytes_needed_of(const BoundSymbol& b) const {
    int64_t sum = 0;
    for_each_proxy(b.output, [&](const Proxy* p) {
      if (needed_set_.contains(p)) sum += bytes_of(p);
    });
    return sum;
  }

  // After each bound symbol: bytes that were made so far, and are used by later ones.
  std::vector<double> alive_after() const {
    std::unordered_map<const Proxy*, size_t> last;  // by storage
    for (size_t i = 0; i < forward_.size(); ++i) {
      for (const Arg& a : forward_[i]->args)
        for_each_proxy(a, [&](const Proxy* p) { last[storage_of(p)] = i; });
    }
    std::vector<double> change(forward_.size() + 1, 0);
    for (size_t i = 0; i < forward_.size(); ++i) {
      for_each_proxy(forward_[i]->output, [&](const Proxy* p) {
        const auto it = last.find(p);
        if (it == last.end()) return;  // a view, or used by nobody
        change[i] += static_cast<double>(bytes_of(p));
        change[it->second] -= static_cast<double>(bytes_of(p));
      });
    }
    for (size_t i = 1; i < change.size(); ++i) change[i] += change[i - 1];
    return change;
  }

  // Where a bound symbol belongs to: its checkpoint, or its segment.
  std::pair<int, int> part(size_t i) const {
    if (i < forward_.size() && forward_[i]->checkpoint()) return {forward_[i]->checkpoint(), 0};
    return {0, segment_[i]};
  }

  // What is made in a checkpoint or segment and used outside of it.
  void find_leaving() {
    const auto use = [&](const Proxy* p, size_t by) {
      const auto it = producer_.find(p);
      if (it == producer_.end()) return;
      const auto made = part(it->second), used = part(by);
      const bool returned = by == forward_.size();
      if (returned ? made.first != 0 : made != used && (made.first || num_segments_ > 1))
        leaves_.insert(p);
    };
    for (size_t i = 0; i < forward_.size(); ++i) {
      for (const Arg& a : forward_[i]->args) for_each_proxy(a, [&](const Proxy* p) { use(p, i); });
    }
    for (const Proxy* p : results_) use(p, forward_.size());
  }

  // Inside of a checkpoint: never saved.
  bool inside(const Proxy* p) const {
    if (!in_checkpoint(p) || leaves_.contains(p)) return false;
    const BoundSymbol& b = *forward_[producer_.at(p)];
    return runs_again(b) || redraws(b);
  }

  bool may_run_again(size_t i) const {
    const BoundSymbol& b = *forward_[i];
    if (b.checkpoint()) return runs_again(b) || redraws(b);
    return runs_again(b) && (options_.memory_budget >= 0 || is_cheap(b));
  }

  bool is_there_anyway(const Proxy* p) const {
    if (inputs_.contains(p) || (problem_.closed && results_.contains(p))) return true;
    const auto it = producer_.find(p);
    return it != producer_.end() &&
           forward_[it->second]->symbol == &ops::linear_cross_entropy_forward;
  }

  double saving_cost(const Proxy* p) const {
    if (inside(p)) return MinCut::kInfinite;
    // What others may write to is saved where eager saves it, and would see the same write.
    const bool exposed = inputs_.contains(p) || results_.contains(p);
    const bool changes =
        options_.memory_budget < 0 ? exposed : problem_.written.contains(storage_of(p));
    if (!problem_.closed && changes && !needed_set_.contains(p)) return kLastResort;
    if (is_there_anyway(p)) return 0;
    if (!as_tensor(p)) return 1;
    return std::max<double>(1, static_cast<double>(bytes_of(storage_of(p))));
  }

  // What autodiff would have the forward save.
  double bytes_unplanned() const { return bytes(needed_); }

  template <class Proxies>
  double bytes(const Proxies& saved) const {
    std::unordered_set<const Proxy*> storages;
    double sum = 0;
    for (const Proxy* p : saved) {
      const Proxy* storage = storage_of(p);
      if (is_there_anyway(p) || is_there_anyway(storage)) continue;
      if (storages.insert(storage).second) sum += static_cast<double>(bytes_of(storage));
    }
    return sum;
  }

  // Equal layers would all change at the same rate: the later cost a little more.
  double price(size_t i) const {
    return seconds_[i] * (1 + static_cast<double>(segment_[i]) / num_segments_);
  }

  SavePlan cut(double rate) const {
    MinCut graph;
    std::unordered_map<const Proxy*, uint32_t> made;  // the other node is the next one
    const auto node = [&](const Proxy* p) {
      const auto it = made.find(p);
      if (it != made.end()) return it->second;
      const uint32_t n = graph.add_node();
      graph.add_node();
      made.emplace(p, n);
      graph.add_edge(n, n + 1, saving_cost(p));
      if (inputs_.contains(p) || leaves_.contains(p))
        graph.add_edge(MinCut::kSource, n, MinCut::kInfinite);
      return n;
    };
    std::vector<uint32_t> symbols;
    for (size_t i = 0; i < forward_.size(); ++i) {
      const BoundSymbol& b = *forward_[i];
      const uint32_t symbol = graph.add_node();
      symbols.push_back(symbol);
      const bool forced = b.checkpoint() != 0;
      const double cost = !may_run_again(i) ? MinCut::kInfinite : forced ? 0 : price(i) * rate;
      if (cost > 0) graph.add_edge(MinCut::kSource, symbol, cost);
      for (const Arg& a : b.args) {
        for_each_proxy(
            a, [&](const Proxy* p) { graph.add_edge(node(p) + 1, symbol, MinCut::kInfinite); });
      }
      for_each_proxy(b.output,
                     [&](const Proxy* p) { graph.add_edge(symbol, node(p), MinCut::kInfinite); });
    }
    for (const Proxy* p : needed_) graph.add_edge(node(p) + 1, MinCut::kSink, MinCut::kInfinite);
    const std::vector<bool> sink = graph.sink_side();
    SavePlan plan;
    for (const auto& [p, n] : made) {
      if (!sink[n] && sink[n + 1]) plan.saved.insert(p);
    }
    for (size_t i = 0; i < symbols.size(); ++i) {
      plan.again.push_back(sink[symbols[i]]);
      if (plan.again.back()) plan.seconds += seconds_[i];
    }
    plan.bytes = bytes(plan.saved);
    return plan;
  }

  const SaveProblem& problem_;
  const std::span<const BoundSymbol* const> forward_;
  const PassOptions& options_;
  const std::unordered_set<const Proxy*> inputs_, results_, needed_set_;
  const std::vector<const Proxy*>& needed_;
  std::unordered_set<const Proxy*> leaves_;
  std::unordered_map<const Proxy*, size_t> producer_;
  std::vector<double> seconds_;
  double total_seconds_ = 0;
  std::vector<int> segment_;
  int num_segments_ = 1;
};

}  // namespace

bool redraws(const BoundSymbol& b) {
  return b.symbol->has(kRandom) && !b.symbol->has(kOpaque | kInplace) &&
         b.symbol != &ops::random_state && b.symbol != &ops::exchange_random_state;
}

SavePlan plan_saving(const SaveProblem& problem, const PassOptions& options) {
  return Planner(problem, options).plan();
}

}  // namespace fulmen::passes
