#include "passes/partition.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include "analysis/dependency.h"
#include "analysis/liveness.h"
#include "ir/region.h"
#include "ir/rewrite.h"
#include "ir/write_back.h"
#include "ops/control.h"
#include "support/cat.h"
#include "support/error.h"

namespace fulmen::passes {
namespace {

const TensorProxy* first_tensor(const Arg& a) {
  const TensorProxy* found = nullptr;
  for_each_proxy(a, [&](const Proxy* p) {
    if (!found) found = as_tensor(p);
  });
  return found;
}

class Partitioner {
 public:
  Partitioner(const Trace& trace, const FusionRules& rules, PassContext& ctx)
      : trace_(opened(trace, rules)),
        rules_(rules),
        ctx_(ctx),
        dag_(bsym_list_to_dag(trace_.body)) {}

  Trace run() {
    find_dependencies();
    find_domains();
    find_stages();
    join_consumers();
    form_groups();
    Trace out = trace_;
    if (!regions_.empty()) out.body = ordered();
    bool changed = !regions_.empty();
    for (const BoundSymbol*& b : out.body) {
      if (b->symbol != &ops::differentiable || !b->executor.empty()) continue;
      // The program that runs under autograd has regions of its own.
      const Trace inner = partition(to_trace(*b->args[0].program()), ctx_);
      Args args(b->args);
      args[0] = Arg(trace_.ctx->make_program(inner));
      b = trace_.ctx->make_bound_symbol(*b->symbol, args, b->output, b->source);
      changed = true;
    }
    return changed ? out : trace_;
  }

 private:
  size_t size() const { return dag_.nodes.size(); }
  const BoundSymbol& bsym(size_t i) const { return *dag_.nodes[i].bsym; }
  // What a backward computes again stays behind its forward, or it would not be worth it.
  bool joins(size_t parent, size_t child) const {
    return domain_[parent] >= 0 && domain_[parent] == domain_[child] &&
           num_backwards_[parent] == num_backwards_[child];
  }

  // What must come before each bound symbol, and after. Symbols that may be fused read through
  // views: their region gets its own copies of those, see try_region.
  void find_dependencies() {
    is_view_.resize(size());
    fusable_.resize(size());
    parents_.resize(size());
    children_.resize(size());
    std::unordered_set<const Proxy*> written;
    for (uint32_t i = 0; i < size(); ++i) {
      if (is_write_back(bsym(i))) written.insert(bsym(i).args[0].proxy());
    }
    num_backwards_.resize(size());
    int begun = 0;
    for (uint32_t i = 0; i < size(); ++i) {
      if (bsym(i).symbol == &ops::backward_begins) ++begun;
      num_backwards_[i] = begun;
      is_view_[i] = rules_.is_view && rules_.is_view(bsym(i)) && !is_made_like(bsym(i), written);
      fusable_[i] = !is_view_[i] && first_tensor(bsym(i).output) && !writes_shared(bsym(i)) &&
                    rules_.refusal(bsym(i)).empty();
      for (const uint32_t p : dag_.nodes[i].parents) {
        // A view's parents are found already, and are no views where it is fusable itself.
        if (is_view_[p] && (fusable_[i] || is_view_[i])) {
          parents_[i].insert(parents_[i].end(), parents_[p].begin(), parents_[p].end());
        } else {
          parents_[i].push_back(p);
        }
      }
      std::sort(parents_[i].begin(), parents_[i].end());
      parents_[i].erase(std::unique(parents_[i].begin(), parents_[i].end()), parents_[i].end());
      for (const uint32_t p : parents_[i]) children_[p].push_back(i);
    }
  }

  // Whether it is a tensor of its own that takes its shape from one of these: where it is read,
  // that one may be written already.
  static bool is_made_like(const BoundSymbol& b, const std::unordered_set<const Proxy*>& written) {
    const TensorProxy* t = first_tensor(b.output);
    if (written.empty() || !t || t->alias_of) return false;
    bool found = false;
    for (const Arg& a : b.args) {
      for_each_proxy(a, [&](const Proxy* p) { found = found || written.contains(storage_of(p)); });
    }
    return found;
  }

  // Whether it writes to an input that has its storage in common with others.
  bool writes_shared(const BoundSymbol& b) const {
    if (!is_write_back(b)) return false;
    for (const auto& group : trace_.alias_groups) {
      if (std::find(group.begin(), group.end(), b.args[0].proxy()) != group.end()) return true;
    }
    return false;
  }

  // The shape whose elements a bound symbol goes over, as a number; -1 if it is not fused.
  void find_domains() {
    std::unordered_map<std::string, int> known;
    const auto number = [&](const TensorType& t) {
      std::string key;
      for (const Dim d : t.shape) append(key, cat(d.value_or(-1), ","));
      return known.emplace(std::move(key), static_cast<int>(known.size())).first->second;
    };
    domain_.assign(size(), -1);
    for (size_t i = 0; i < size(); ++i) {
      const BoundSymbol& b = bsym(i);
      const TensorProxy* result = first_tensor(b.output);
      if (!fusable_[i]) continue;
      const TensorProxy* whole = result;
      if (b.symbol->has(kReduction)) {
        for (const Arg& a : b.args) {
          if (!whole || whole == result) whole = first_tensor(a) ? first_tensor(a) : result;
        }
      }
      if (rules_.any_shape) {
        domain_[i] = 0;
        continue;
      }
      domain_[i] = number(whole->type);
      const int own = domain_[i];
      // What is computed from a reduction's results alone goes with the reduction.
      for (const uint32_t p : parents_[i]) {
        const TensorProxy* from = domain_[p] < 0 ? nullptr : first_tensor(bsym(p).output);
        if (from && whole == result && from->type.shape == result->type.shape &&
            domain_[p] != own) {
          domain_[i] = domain_[p];
        }
      }
    }
    // What only leads to symbols over other elements goes with them, if they don't repeat its own.
    for (size_t i = size(); i-- > 0;) {
      if (domain_[i] < 0 || bsym(i).symbol->has(kReduction)) continue;
      const int64_t own = elements(i);
      int common = -1;
      bool joins_all = true;
      for (const uint32_t c : children_[i]) {
        if (bsym(c).symbol->has(kEffect)) continue;  // it only comes after
        if (common < 0) common = domain_[c];
        joins_all = joins_all && domain_[c] >= 0 && domain_[c] == common &&
                    !bsym(c).symbol->has(kReduction) &&
                    (elements(c) <= own || (rules_.joins_pieces && rules_.joins_pieces(bsym(c))));
      }
      if (joins_all && common >= 0) domain_[i] = common;
    }
  }

  int64_t elements(size_t i) const {
    int64_t n = 1;
    for (const Dim d : first_tensor(bsym(i).output)->type.shape) n *= d.value_or(1);
    return n;
  }

  int step(size_t parent, size_t child) const {
    return domain_[parent] >= 0 && !joins(parent, child) ? 1 : 0;
  }

  void find_stages() {
    stage_.assign(size(), 0);
    for (size_t i = 0; i < size(); ++i) {
      for (const uint32_t p : parents_[i]) {
        stage_[i] = std::max(stage_[i], stage_[p] + step(p, i));
      }
    }
  }

  // A symbol whose only consumers come in later stages waits for them, if it can. Its write-back,
  // whose result nobody waits for, goes with it.
  void join_consumers() {
    const auto follows = [&](size_t i, uint32_t c) {
      return joins(i, c) && is_write_back(bsym(c)) && bsym(i).output == bsym(c).args[1];
    };
    const auto latest_of = [&](size_t i, const auto& skips) {
      int latest = std::numeric_limits<int>::max();
      for (const uint32_t c : children_[i]) {
        if (!skips(i, c)) latest = std::min(latest, stage_[c] - step(i, c));
      }
      return latest;
    };
    const auto none = [](size_t, uint32_t) { return false; };
    for (size_t i = size(); i-- > 0;) {
      if (domain_[i] < 0) continue;
      int latest = latest_of(i, follows);
      for (const uint32_t c : children_[i]) {
        if (follows(i, c)) latest = std::min(latest, latest_of(c, none));
      }
      bool joined = false, wanted = false;
      for (const uint32_t c : children_[i]) {
        if (!joins(i, c) || follows(i, c)) continue;
        joined = joined || stage_[c] == stage_[i];
        wanted = wanted || stage_[c] == latest;
      }
      if (joined || !wanted) continue;
      stage_[i] = latest;
      for (const uint32_t c : children_[i]) {
        if (follows(i, c)) stage_[c] = std::max(stage_[c], latest);
      }
    }
  }

  uint32_t root(uint32_t i) {
    while (leader_[i] != i) i = leader_[i] = leader_[leader_[i]];
    return i;
  }

  void form_groups() {
    leader_.resize(size());
    std::iota(leader_.begin(), leader_.end(), 0);
    for (uint32_t i = 0; i < size(); ++i) {
      for (const uint32_t p : parents_[i]) {
        if (joins(p, i) && stage_[p] == stage_[i]) leader_[root(i)] = root(p);
      }
    }
    join_readers();
    std::unordered_map<uint32_t, std::vector<uint32_t>> groups;
    std::vector<uint32_t> order;
    for (uint32_t i = 0; i < size(); ++i) {
      if (domain_[i] < 0) continue;
      auto& members = groups[root(i)];
      if (members.empty()) order.push_back(root(i));
      members.push_back(i);
    }
    for_each_proxy(trace_.output, [&](const Proxy* p) { returned_.insert(p); });
    region_at_.assign(size(), -1);
    for (const uint32_t g : order) split(groups[g]);
  }

  // Symbols that read the same tensor, and are near each other, read it once. By what a stage is
  // they may always be in one region; far apart, results would be kept for long.
  void join_readers() {
    constexpr uint32_t kNear = 24;
    std::unordered_map<const Proxy*, uint32_t> last;  // reader of all of its elements
    for (uint32_t i = 0; i < size(); ++i) {
      if (domain_[i] < 0) continue;
      for (const Arg& a : bsym(i).args) {
        const TensorProxy* t = a.tensor();
        if (!t || !(t->type.shape == first_tensor(bsym(i).output)->type.shape)) continue;
        const auto [it, fresh] = last.emplace(t, i);
        const uint32_t other = std::exchange(it->second, i);
        if (fresh || i - other > kNear || stage_[i] != stage_[other] || !joins(i, other)) continue;
        leader_[root(i)] = root(other);
      }
    }
  }

  // The longest part from the front that is one region, then the rest.
  void split(std::span<const uint32_t> members) {
    while (!members.empty()) {
      size_t taken = members.size();
      std::string why;
      const BoundSymbol* call = try_region(members, &why);
      if (!call && members.size() > 1) {
        size_t low = 1, high = members.size();  // `high` members are too many
        while (low < high) {
          const size_t middle = (low + high) / 2;
          const BoundSymbol* part = try_region(members.first(middle), &why);
          if (part) {
            call = part;
            taken = middle;
            low = middle + 1;
          } else {
            high = middle;
          }
        }
      }
      if (!call) taken = 1;
      if (call && ctx_.take_fuel(call)) {
        for (const uint32_t i : members.first(taken)) {
          region_at_[i] = static_cast<int>(regions_.size());
        }
        regions_.push_back(call);
        if (rules_.formed) rules_.formed(to_trace(*region_of(*call->symbol)));
      } else if (!why.empty()) {
        ctx_.note("partition", cat(bsym(members[0]).symbol->name(), ": ", why));
      }
      members = members.subspan(taken);
    }
  }

  bool pays(std::span<const uint32_t> members) const {
    if (members.size() < rules_.smallest) return false;
    const auto computes = [&](uint32_t i) { return !is_write_back(bsym(i)); };
    const auto count = std::count_if(members.begin(), members.end(), computes);
    if (count > 1 || rules_.single_operations) return true;
    // PyTorch runs a single operation as well, but for those that it makes of several.
    const auto one = std::find_if(members.begin(), members.end(), computes);
    return one != members.end() && bsym(*one).symbol->decompose != nullptr;
  }

  const BoundSymbol* try_region(std::span<const uint32_t> members, std::string* why) {
    if (!pays(members)) return nullptr;
    const std::unordered_set<uint32_t> inside(members.begin(), members.end());
    std::vector<const Proxy*> outputs;
    std::vector<const BoundSymbol*> body;
    Substitution views;
    std::unordered_set<uint32_t> copied;
    for (const uint32_t i : members) {
      for (const uint32_t p : dag_.nodes[i].parents) copy_view(p, views, copied, body);
      body.push_back(views.apply(*trace_.ctx, bsym(i)));
    }
    for (const uint32_t i : members) {
      for_each_proxy(bsym(i).output, [&](const Proxy* p) {
        if ((is_write_back(bsym(i)) || used_outside(p, i, inside)) &&
            std::find(outputs.begin(), outputs.end(), p) == outputs.end()) {
          outputs.push_back(p);
        }
      });
    }
    if (outputs.empty()) return nullptr;
    const BoundSymbol* call = make_region_call(*trace_.ctx, cat("fusion", regions_.size()), body,
                                               free_values(body), outputs);
    *why = rules_.region_refusal(to_trace(*region_of(*call->symbol)));
    if (!why->empty() || rules_.executor.empty()) return why->empty() ? call : nullptr;
    BoundSymbol* claimed =
        trace_.ctx->make_bound_symbol(*call->symbol, call->args, call->output, call->source);
    claimed->executor = rules_.executor;
    return claimed;
  }

  // A view that a region reads through is computed in it as well.
  void copy_view(uint32_t i, Substitution& views, std::unordered_set<uint32_t>& copied,
                 std::vector<const BoundSymbol*>& body) {
    if (!is_view_[i] || !copied.insert(i).second) return;
    for (const uint32_t p : dag_.nodes[i].parents) copy_view(p, views, copied, body);
    const Arg output = map_proxies(*trace_.ctx, bsym(i).output, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      TensorProxy* copy = const_cast<TensorProxy*>(trace_.ctx->make_tensor(t->type, t->name));
      copy->alias_of = t->alias_of ? views.apply(*trace_.ctx, Arg(t->alias_of)).tensor() : nullptr;
      return Arg(copy);
    });
    const Args args = [&] {
      Args out;
      for (const Arg& a : bsym(i).args) out.push_back(views.apply(*trace_.ctx, a));
      return out;
    }();
    body.push_back(trace_.ctx->make_bound_symbol(*bsym(i).symbol, args, output, bsym(i).source));
    views.bind(bsym(i).output, output);
  }

  bool reads(uint32_t i, const Proxy* p) const {
    bool found = false;
    for (const Arg& a : bsym(i).args) {
      for_each_proxy(a, [&](const Proxy* q) { found = found || p == q; });
    }
    return found;
  }
  bool reads_result(uint32_t i, uint32_t of) const {
    bool found = false;
    for_each_proxy(bsym(of).output, [&](const Proxy* p) { found = found || reads(i, p); });
    return found;
  }

  // Whether something that is not `inside` reads result `p` of bound symbol `i`, itself or a view.
  bool used_outside(const Proxy* p, uint32_t i, const std::unordered_set<uint32_t>& inside) const {
    if (returned_.contains(p)) return true;
    for (const uint32_t c : dag_.nodes[i].children) {
      if (inside.contains(c)) continue;
      if (!reads(c, p)) continue;
      if (!is_view_[c]) return true;
      bool through_view = false;
      for_each_proxy(bsym(c).output, [&](const Proxy* q) {
        through_view = through_view || used_outside(q, c, inside);
      });
      if (through_view) return true;
    }
    return false;
  }

  // Views that only regions read are not needed outside.
  std::vector<bool> needed() const {
    std::vector<bool> out(size(), true);
    for (uint32_t i = size(); i-- > 0;) {
      if (!is_view_[i]) continue;
      out[i] = false;
      for_each_proxy(bsym(i).output,
                     [&](const Proxy* p) { out[i] = out[i] || returned_.contains(p); });
      for (const uint32_t c : dag_.nodes[i].children)
        out[i] = out[i] || (region_at_[c] < 0 && out[c] && reads_result(c, i));
    }
    return out;
  }

  // Regions and what is left, in dependency order, as near to the original as that allows.
  std::vector<const BoundSymbol*> ordered() const {
    const size_t units = regions_.size() + size();  // regions first, then single bound symbols
    const auto unit_of = [&](uint32_t i) {
      return region_at_[i] >= 0 ? static_cast<uint32_t>(region_at_[i])
                                : static_cast<uint32_t>(regions_.size()) + i;
    };
    const std::vector<bool> is_needed = needed();
    std::vector<uint32_t> last(units), waiting(units);
    std::vector<std::vector<uint32_t>> children(units);
    std::vector<bool> real(units);
    for (uint32_t i = 0; i < size(); ++i) {
      const uint32_t u = unit_of(i);
      if (!is_needed[i]) continue;
      real[u] = true;
      // The earlier it writes back, the more of the value is in a cache.
      if (!is_write_back(bsym(i)) || region_at_[i] < 0) last[u] = std::max(last[u], i);
      const auto& parents = region_at_[i] >= 0 ? parents_[i] : dag_.nodes[i].parents;
      for (const uint32_t p : parents) {
        const uint32_t before = unit_of(p);
        if (before == u || !is_needed[p]) continue;
        children[before].push_back(u);
        ++waiting[u];
      }
    }
    using Ready = std::pair<uint32_t, uint32_t>;  // position, unit
    std::priority_queue<Ready, std::vector<Ready>, std::greater<>> ready;
    for (uint32_t u = 0; u < units; ++u) {
      if (real[u] && !waiting[u]) ready.emplace(last[u], u);
    }
    std::vector<const BoundSymbol*> body;
    size_t left = static_cast<size_t>(std::count(real.begin(), real.end(), true));
    while (!ready.empty()) {
      const uint32_t u = ready.top().second;
      ready.pop();
      --left;
      body.push_back(u < regions_.size() ? regions_[u] : &bsym(u - regions_.size()));
      for (const uint32_t c : children[u]) {
        if (!--waiting[c]) ready.emplace(last[c], c);
      }
    }
    if (left) internal_error("partition: regions depend on each other");
    return body;
  }

  static Trace opened(const Trace& trace, const FusionRules& rules) {
    Trace out = trace;
    if (!rules.opened) return out;
    out.body.clear();
    for (const BoundSymbol* b : trace.body) {
      const std::vector<const BoundSymbol*> steps = rules.opened(*b);
      if (steps.empty()) {
        out.body.push_back(b);
      } else {
        out.body.insert(out.body.end(), steps.begin(), steps.end());
      }
    }
    return out;
  }

  const Trace trace_;
  const FusionRules& rules_;
  PassContext& ctx_;
  const Dag dag_;
  std::vector<bool> is_view_, fusable_;
  std::vector<std::vector<uint32_t>> parents_, children_;
  std::vector<int> domain_, stage_;
  std::vector<int> num_backwards_;  // that begin before it
  std::vector<uint32_t> leader_;
  std::vector<int> region_at_;
  std::vector<const BoundSymbol*> regions_;
  std::unordered_set<const Proxy*> returned_;
};

}  // namespace

Trace partition(const Trace& trace, PassContext& ctx) {
  return ctx.fusion ? Partitioner(trace, *ctx.fusion, ctx).run() : trace;
}

}  // namespace fulmen::passes
