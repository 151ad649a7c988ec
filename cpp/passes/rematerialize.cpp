#include "passes/rematerialize.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "analysis/cost.h"
#include "analysis/liveness.h"
#include "analysis/min_cut.h"
#include "ir/rewrite.h"
#include "ops/control.h"
#include "ops/conversion.h"
#include "ops/replay.h"
#include "ops/shape.h"
#include "support/cat.h"
#include "support/error.h"

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
  // Memory that nobody wrote has other contents.
  return s.name().find("empty") == std::string::npos;
}

// Whether its random numbers can be drawn again.
bool redraws(const BoundSymbol& b) {
  return b.symbol->has(kRandom) && !b.symbol->has(kOpaque | kInplace) &&
         b.symbol != &ops::random_state && b.symbol != &ops::exchange_random_state;
}

bool is_cheap(const BoundSymbol& b) {
  return b.symbol->has(kPointwise | kView | kCreation) || copies().contains(b.symbol);
}

Device device_of(const BoundSymbol& b) {
  Device device;
  for_each_proxy(b.output, [&](const Proxy* p) {
    if (const TensorProxy* t = as_tensor(p)) device = t->type.device;
  });
  return device;
}

// What is saved, and what runs again.
struct Plan {
  std::unordered_set<const Proxy*> saved;
  std::vector<bool> again;  // of the forward's bound symbols
  double bytes = 0;         // of what is saved and no input
  double seconds = 0;       // of what runs again
};

// One region: what can be said of its values, and the plans for it.
class Planner {
 public:
  // `written`: storages that the program writes to afterwards.
  Planner(const Subprogram& forward, const PassOptions& options,
          const std::unordered_set<const Proxy*>& written)
      : forward_(forward), options_(options), written_(written) {
    const auto results = forward.output.items()[0].items();
    const auto saved = forward.output.items()[1].items();
    for (const Proxy* p : forward.inputs) inputs_.insert(p);
    for (const Arg& r : results) results_.insert(r.proxy());
    for (const Arg& s : saved) needed_.push_back(s.proxy());
    needed_set_.insert(needed_.begin(), needed_.end());
    for (size_t i = 0; i < forward.body.size(); ++i) {
      const BoundSymbol& b = *forward.body[i];
      for_each_proxy(b.output, [&](const Proxy* p) { producer_.emplace(p, i); });
      seconds_.push_back(estimated_seconds(b, options.fused));
      total_seconds_ += seconds_.back();
    }
    find_segments();
    find_leaving();
  }

  Plan plan() const {
    Plan least = cut(kHighestRate);
    if (options_.memory_budget >= 1) return least;
    const bool free = options_.memory_budget < 0;
    const double limit =
        free ? kFreeTime * kStepTime * total_seconds_ : options_.memory_budget * bytes_unplanned();
    const double forced = least.seconds;
    // Without a budget: the lowest rate whose plan is quick. With one: the highest whose plan fits.
    const auto good = [&](const Plan& p) {
      return free ? p.seconds - forced <= limit : p.bytes <= limit;
    };
    if (!free && good(least)) return least;
    Plan most = cut(kLowestRate);
    if (free ? good(most) : !good(most)) return most;
    double low = std::log(kLowestRate), high = std::log(kHighestRate);
    for (int step = 0; step < 12; ++step) {
      const double middle = (low + high) / 2;
      Plan p = cut(std::exp(middle));
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
    return it != producer_.end() && forward_.body[it->second]->checkpoint() != 0;
  }

  // Chains of values that are computed again from each other would all be alive at once. With a
  // budget, the program is cut into segments where the least is alive, and what goes from one to
  // another is not computed again; so a backward has one segment's values at a time.
  void find_segments() {
    segment_.assign(forward_.body.size() + 1, 0);
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
    for (size_t i = 0; i < forward_.body.size(); ++i) {
      filled += static_cast<double>(bytes_needed_of(*forward_.body[i]));
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
    for (size_t i = 0; i < forward_.body.size(); ++i) {
      for (const Arg& a : forward_.body[i]->args)
        for_each_proxy(a, [&](const Proxy* p) { last[storage_of(p)] = i; });
    }
    std::vector<double> change(forward_.body.size() + 1, 0);
    for (size_t i = 0; i < forward_.body.size(); ++i) {
      for_each_proxy(forward_.body[i]->output, [&](const Proxy* p) {
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
    if (i < forward_.body.size() && forward_.body[i]->checkpoint())
      return {forward_.body[i]->checkpoint(), 0};
    return {0, segment_[i]};
  }

  // What is made in a checkpoint or segment and used outside of it.
  void find_leaving() {
    const auto use = [&](const Proxy* p, size_t by) {
      const auto it = producer_.find(p);
      if (it == producer_.end()) return;
      const auto made = part(it->second), used = part(by);
      const bool returned = by == forward_.body.size();
      if (returned ? made.first != 0 : made != used && (made.first || num_segments_ > 1))
        leaves_.insert(p);
    };
    for (size_t i = 0; i < forward_.body.size(); ++i) {
      for (const Arg& a : forward_.body[i]->args)
        for_each_proxy(a, [&](const Proxy* p) { use(p, i); });
    }
    for (const Proxy* p : results_) use(p, forward_.body.size());
  }

  // Inside of a checkpoint: never saved.
  bool inside(const Proxy* p) const {
    if (!in_checkpoint(p) || leaves_.contains(p)) return false;
    const BoundSymbol& b = *forward_.body[producer_.at(p)];
    return runs_again(b) || redraws(b);
  }

  bool may_run_again(size_t i) const {
    const BoundSymbol& b = *forward_.body[i];
    if (b.checkpoint()) return runs_again(b) || redraws(b);
    return runs_again(b) && (options_.memory_budget >= 0 || is_cheap(b));
  }

  double saving_cost(const Proxy* p) const {
    if (inside(p)) return MinCut::kInfinite;
    // What others may write to is saved where eager saves it, and would see the same write.
    const bool exposed = inputs_.contains(p) || results_.contains(p);
    const bool changes = options_.memory_budget < 0 ? exposed : written_.contains(storage_of(p));
    if (changes && !needed_set_.contains(p)) return kLastResort;
    if (inputs_.contains(p)) return 0;
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
      if (inputs_.contains(p) || inputs_.contains(storage)) continue;
      if (storages.insert(storage).second) sum += static_cast<double>(bytes_of(storage));
    }
    return sum;
  }

  // Equal layers would all change at the same rate: the later cost a little more.
  double price(size_t i) const {
    return seconds_[i] * (1 + static_cast<double>(segment_[i]) / num_segments_);
  }

  Plan cut(double rate) const {
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
    for (size_t i = 0; i < forward_.body.size(); ++i) {
      const BoundSymbol& b = *forward_.body[i];
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
    Plan plan;
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

  const Subprogram& forward_;
  const PassOptions& options_;
  std::unordered_set<const Proxy*> inputs_, results_, needed_set_, leaves_;
  std::vector<const Proxy*> needed_;
  std::unordered_map<const Proxy*, size_t> producer_;
  std::vector<double> seconds_;
  double total_seconds_ = 0;
  const std::unordered_set<const Proxy*>& written_;
  std::vector<int> segment_;
  int num_segments_ = 1;
};

// Puts bound symbols of the forward before the first use of what they make.
class Recomputation {
 public:
  Recomputation(TraceContext& ctx, std::span<const BoundSymbol* const> forward,
                std::span<const Proxy* const> available, std::span<const Proxy* const> seeds)
      : ctx_(ctx), forward_(forward), there_(available.begin(), available.end()) {
    there_.insert(seeds.begin(), seeds.end());
    for (size_t i = 0; i < forward.size(); ++i)
      for_each_proxy(forward[i]->output, [&](const Proxy* p) { producer_.emplace(p, i); });
  }

  std::vector<const BoundSymbol*> run(const Trace& backward) {
    for (const BoundSymbol* b : backward.body) {
      for (const Arg& a : b->args) for_each_proxy(a, [&](const Proxy* p) { need(p); });
      append(b);
    }
    for_each_proxy(backward.output, [&](const Proxy* p) { need(p); });
    return std::move(body_);
  }

 private:
  void append(const BoundSymbol* b) {
    for_each_proxy(b->output, [&](const Proxy* p) { there_.insert(p); });
    body_.push_back(b);
  }

  void need(const Proxy* p) {
    if (there_.contains(p)) return;
    const auto it = producer_.find(p);
    // An input, or made by the backward itself.
    if (it == producer_.end()) return;
    const BoundSymbol& b = *forward_[it->second];
    for (const Arg& a : b.args) for_each_proxy(a, [&](const Proxy* q) { need(q); });
    const Proxy* restore = nullptr;
    if (b.symbol->has(kRandom)) restore = exchange(b, state_before(it->second));
    append(with_new_names(b));
    if (restore) exchange(b, restore);
  }

  const Proxy* state_before(size_t i) {
    if (i == 0 || forward_[i - 1]->symbol != &ops::random_state)
      internal_error("a backward draws random numbers again, whose state was not noted");
    return forward_[i - 1]->output.proxy();
  }

  const Proxy* exchange(const BoundSymbol& b, const Proxy* state) {
    Builder builder(ctx_.shared_from_this());
    builder.source = b.source;
    const Arg args[] = {Arg(device_of(b)), Arg(state)};
    const Arg before = builder.call(ops::exchange_random_state, args);
    append(builder.body()[0]);
    return before.proxy();
  }

  // A result that is there already is made a second time, and not used.
  const BoundSymbol* with_new_names(const BoundSymbol& b) {
    bool clash = false;
    const Arg output = map_proxies(ctx_, b.output, [&](const Proxy* p) -> Arg {
      const TensorProxy* t = as_tensor(p);
      if (!t || !there_.contains(p)) return Arg(p);
      clash = true;
      return ctx_.make_tensor(t->type);
    });
    return clash ? ctx_.make_bound_symbol(*b.symbol, b.args, output, b.source) : &b;
  }

  TraceContext& ctx_;
  std::span<const BoundSymbol* const> forward_;
  std::unordered_set<const Proxy*> there_;
  std::unordered_map<const Proxy*, size_t> producer_;
  std::vector<const BoundSymbol*> body_;
};

const BoundSymbol* state_of(TraceContext& ctx, const BoundSymbol& drawing) {
  Builder builder(ctx.shared_from_this());
  builder.source = drawing.source;
  const Arg args[] = {Arg(device_of(drawing))};
  builder.call(ops::random_state, args);
  return builder.body()[0];
}

const BoundSymbol* planned(const BoundSymbol& region,
                           const std::unordered_set<const Proxy*>& written, PassContext& ctx) {
  const Subprogram& forward = *region.arg("forward").program();
  const Subprogram& backward = *region.arg("backward").program();
  const auto old_saved = forward.output.items()[1].items();
  const Planner planner(forward, ctx.options, written);
  const Plan plan = planner.plan();
  if (std::find(plan.again.begin(), plan.again.end(), true) == plan.again.end()) return &region;
  if (!ctx.take_fuel()) return &region;

  TraceContext& context = *forward.ctx;
  Trace fw = to_trace(forward);
  fw.name = "forward";
  fw.body.clear();
  std::vector<const Proxy*> available(plan.saved.begin(), plan.saved.end());
  for (size_t i = 0; i < forward.body.size(); ++i) {
    const BoundSymbol* b = forward.body[i];
    if (plan.again[i] && redraws(*b)) {
      fw.body.push_back(state_of(context, *b));
      available.push_back(fw.body.back()->output.proxy());
    }
    fw.body.push_back(b);
  }
  const std::vector<const Proxy*> seeds(backward.inputs.begin() + old_saved.size(),
                                        backward.inputs.end());
  Trace bw = to_trace(backward);
  bw.name = "backward";
  bw = with_recomputation(bw, fw.body, available, seeds);
  Args saved;
  for (size_t i = 0; i + seeds.size() < bw.inputs.size(); ++i) saved.push_back(Arg(bw.inputs[i]));
  const Arg outputs[] = {forward.output.items()[0],
                         context.make_collection(Arg::Kind::kTuple, saved)};
  fw.output = context.make_collection(Arg::Kind::kTuple, outputs);
  const Arg program = context.make_program(fw);
  const Arg args[] = {program, context.make_program(bw), program, region.arg("inputs")};
  return context.make_bound_symbol(*region.symbol, args, region.output, region.source);
}

}  // namespace

Trace with_recomputation(const Trace& backward, std::span<const BoundSymbol* const> forward,
                         std::span<const Proxy* const> available,
                         std::span<const Proxy* const> seeds) {
  Trace out = backward;
  out.body = Recomputation(*backward.ctx, forward, available, seeds).run(backward);
  out.inputs = free_values(out.body, seeds, out.output);
  out.inputs.insert(out.inputs.end(), seeds.begin(), seeds.end());
  return out;
}

std::optional<RegionBackward> region_backward(const Subprogram& primal, const GradRequest& request,
                                              std::span<const Proxy* const> saved) {
  Trace trace = to_trace(primal);
  trace.output = trace.output.items()[0];
  std::vector<NoRule> missing;
  const Differentiated d = differentiate(trace, request, missing);
  if (!missing.empty()) return std::nullopt;
  const std::span<const Proxy* const> seeds(d.backward.inputs.begin() + d.saved.size(),
                                            d.backward.inputs.end());
  Trace backward = with_recomputation(d.backward, primal.body, saved, seeds);
  const size_t num_saved = backward.inputs.size() - seeds.size();
  for (size_t i = 0; i < num_saved; ++i) {
    if (std::find(saved.begin(), saved.end(), backward.inputs[i]) == saved.end())
      return std::nullopt;
  }
  return RegionBackward{std::move(backward), num_saved};
}

Trace rematerialize(const Trace& trace, PassContext& ctx) {
  std::unordered_set<const Proxy*> written;
  for (const BoundSymbol* b : trace.body) {
    if (!b->symbol->has(kInplace)) continue;
    for (const Arg& a : b->args)
      for_each_proxy(a, [&](const Proxy* p) { written.insert(storage_of(p)); });
  }
  Trace out = trace;
  bool changed = false;
  for (const BoundSymbol*& b : out.body) {
    if (b->symbol != &ops::differentiable) continue;
    const BoundSymbol* now = planned(*b, written, ctx);
    changed = changed || now != b;
    b = now;
  }
  return changed ? out : trace;
}

}  // namespace fulmen::passes
