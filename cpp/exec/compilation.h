#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "exec/kernel.h"
#include "support/fuel.h"

namespace fulmen::exec {

using ExecutorPtr = std::shared_ptr<const Executor>;

// What became of one bound symbol on the way to executors.
struct Decision {
  const BoundSymbol* bsym;
  std::string executor;  // empty: nobody took it as it was, and its decomposition was offered
  std::vector<std::pair<std::string, std::string>> refusals;  // (executor, why)
};

struct ClaimReport {
  std::map<std::string, int> claimed;           // executor → bound symbols
  std::map<std::string, std::string> refusals;  // symbol → reasons of the executors that refused it
  std::vector<Decision> decisions;
  std::shared_ptr<TraceContext> ctx;  // owns their bound symbols
};

// What the programs of one compilation share, those of backwards that are compiled later included:
// the executors that they are compiled for.
class Compilation {
 public:
  // `chosen`: in the order in which they are asked. `always`: asked first about what only they
  // know (`first`), or after the chosen ones.
  Compilation(std::vector<ExecutorPtr> first, std::vector<ExecutorPtr> chosen,
              std::vector<ExecutorPtr> last, std::shared_ptr<Fuel> fuel);

  // Every executor, in the order in which they are asked.
  const std::vector<ExecutorPtr>& executors() const { return all_; }
  // Those that make regions, of the chosen ones.
  const std::vector<ExecutorPtr>& fusions() const { return fusions_; }
  // Null if there is none of that name.
  const Executor* find(std::string_view name) const;
  const std::shared_ptr<Fuel>& fuel() const { return fuel_; }  // null: any number of claims
  bool has_own_gradients() const { return has_chosen_; }

  // Of what is compiled later.
  void add_to_report(ClaimReport report) const;
  ClaimReport later() const;

 private:
  std::vector<ExecutorPtr> all_, fusions_;
  std::shared_ptr<Fuel> fuel_;
  bool has_chosen_ = false;
  mutable std::mutex mutex_;
  mutable ClaimReport later_;
};

}  // namespace fulmen::exec
