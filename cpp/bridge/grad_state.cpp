// What whole-step programs ask of autograd: that no hook waits for a gradient, and a graph that
// says it is gone.
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include <stdexcept>

#include "bridge/bridge.h"
#include "bridge/ivalue.h"
#include "bridge/node.h"
#include "ops/control.h"
#include "support/error.h"

namespace fulmen::bridge {
namespace {

using torch::autograd::Node;
using torch::autograd::variable_list;

struct FreedBackward final : Node {
  variable_list apply(variable_list&&) override {
    TORCH_CHECK(false,
                "Trying to backward through the graph a second time (or directly access saved "
                "tensors after they have already been freed). Saved intermediate values of the "
                "graph are freed when you call .backward() or autograd.grad(). Specify "
                "retain_graph=True if you need to backward through the graph a second time or if "
                "you need to access saved tensors after calling backward.");
  }
};

class FreedKernel final : public exec::Kernel {
 public:
  FreedKernel(uint32_t input, uint32_t result) : input_(input), result_(result) {}
  void run(exec::Slot* slots) const override {
    at::Tensor t = value_of(slots[input_]).toTensor().detach();
    torch::autograd::set_history(t, make_node<NodePtr, FreedBackward>());
    value_of(slots[result_]) = std::move(t);
  }

 private:
  uint32_t input_, result_;
};

bool has_hooks(const at::Tensor& t) {
  const auto* meta = torch::autograd::impl::get_autograd_meta(t);
  if (!meta) return false;
  if (!meta->hooks_.empty() || meta->post_acc_grad_hooks_) return true;
  const auto node = meta->grad_accumulator_.lock();
  return node && (!node->pre_hooks().empty() || !node->post_hooks().empty() ||
                  !node->tensor_pre_hooks().empty() || !node->retains_grad_hooks().empty());
}

class CheckLeavesKernel final : public exec::Kernel {
 public:
  explicit CheckLeavesKernel(std::vector<uint32_t> leaves) : leaves_(std::move(leaves)) {}
  void run(exec::Slot* slots) const override {
    for (const uint32_t slot : leaves_) {
      // PyTorch runs the call then.
      if (has_hooks(value_of(slots[slot]).toTensor())) throw std::runtime_error("a gradient hook");
    }
  }

 private:
  std::vector<uint32_t> leaves_;
};

class NothingKernel final : public exec::Kernel {
 public:
  void run(exec::Slot*) const override {}
};

class GradStateExecutor final : public exec::SoleExecutor {
 public:
  std::string_view name() const override { return "grad state"; }
  bool concerns(const Symbol& symbol) const override {
    return &symbol == &ops::freed || &symbol == &ops::check_leaves ||
           &symbol == &ops::backward_begins;
  }
  std::unique_ptr<exec::Kernel> compile(
      const BoundSymbol& b, const exec::SlotOf& slot_of,
      const std::shared_ptr<const exec::Compilation>&) const override {
    if (b.symbol == &ops::backward_begins) return std::make_unique<NothingKernel>();
    if (b.symbol == &ops::freed) {
      return std::make_unique<FreedKernel>(slot_of(b.args[0].proxy()), slot_of(b.output.proxy()));
    }
    std::vector<uint32_t> leaves;
    for (const Arg& leaf : b.args[0].items()) leaves.push_back(slot_of(leaf.proxy()));
    return std::make_unique<CheckLeavesKernel>(std::move(leaves));
  }
};

}  // namespace

exec::ExecutorPtr grad_state_executor() {
  static const auto executor = std::make_shared<const GradStateExecutor>();
  return executor;
}

}  // namespace fulmen::bridge
