#include "exec/compilation.h"

#include "passes/own_gradient.h"
#include "passes/partition.h"

namespace fulmen::exec {

std::optional<passes::OwnGradient> Executor::own_gradient(const Offer&) const {
  return std::nullopt;
}

std::unique_ptr<passes::FusionRules> Executor::fusion_rules(
    const std::shared_ptr<TraceContext>&) const {
  return nullptr;
}

Compilation::Compilation(std::vector<ExecutorPtr> first, std::vector<ExecutorPtr> chosen,
                         std::vector<ExecutorPtr> last, std::shared_ptr<Fuel> fuel)
    : all_(std::move(first)), fuel_(std::move(fuel)) {
  const auto add = [this](const ExecutorPtr& ex) {
    if (!find(ex->name())) all_.push_back(ex);
  };
  for (const ExecutorPtr& ex : chosen) {
    if (find(ex->name())) continue;
    add(ex);
    if (ex->is_fusion()) {
      fusions_.push_back(ex);
    } else if (ex->is_optional()) {
      has_chosen_ = true;
    }
  }
  for (const ExecutorPtr& ex : last) add(ex);
}

const Executor* Compilation::find(std::string_view name) const {
  for (const ExecutorPtr& ex : all_) {
    if (ex->name() == name) return ex.get();
  }
  return nullptr;
}

void Compilation::add_to_report(ClaimReport report) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [name, count] : report.claimed) later_.claimed[name] += count;
  later_.refusals.merge(report.refusals);
  later_.ctx = report.ctx;
  for (Decision& d : report.decisions) later_.decisions.push_back(std::move(d));
}

ClaimReport Compilation::later() const {
  const std::lock_guard lock(mutex_);
  return later_;
}

}  // namespace fulmen::exec
