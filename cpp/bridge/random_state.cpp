#include "bridge/random_state.h"

#include <ATen/Context.h>
#include <ATen/core/Generator.h>

#include <mutex>

#include "bridge/bridge.h"
#include "bridge/ivalue.h"
#include "ops/replay.h"

namespace fulmen::bridge {
namespace {

class StateKernel final : public exec::Kernel {
 public:
  StateKernel(const BoundSymbol& bsym, const exec::SlotOf& slot_of)
      : device_(bsym.arg("device").device()),
        exchanges_(bsym.symbol == &ops::exchange_random_state),
        output_(slot_of(bsym.output.proxy())) {
    if (exchanges_) state_ = slot_of(bsym.arg("state").proxy());
  }

  void run(exec::Slot* slots) const override {
    const c10::Device device(
        device_.type == DeviceType::kCUDA ? c10::DeviceType::CUDA : c10::DeviceType::CPU,
        static_cast<c10::DeviceIndex>(device_.type == DeviceType::kCUDA ? device_.index : -1));
    at::Generator generator = at::globalContext().defaultGenerator(device);
    const std::lock_guard lock(generator.mutex());
    at::Tensor current = generator.get_state();
    if (exchanges_) generator.set_state(value_of(slots[state_]).toTensor());
    value_of(slots[output_]) = std::move(current);
  }

 private:
  Device device_;
  bool exchanges_;
  uint32_t state_ = 0;
  uint32_t output_;
};

class RandomStateExecutor final : public exec::SoleExecutor {
 public:
  std::string_view name() const override { return "generator"; }
  bool concerns(const Symbol& symbol) const override {
    return &symbol == &ops::random_state || &symbol == &ops::exchange_random_state;
  }
  std::unique_ptr<exec::Kernel> compile(
      const BoundSymbol& bsym, const exec::SlotOf& slot_of,
      const std::shared_ptr<const exec::Compilation>&) const override {
    return std::make_unique<StateKernel>(bsym, slot_of);
  }
};

}  // namespace

exec::ExecutorPtr random_state_executor() {
  static const auto executor = std::make_shared<const RandomStateExecutor>();
  return executor;
}

}  // namespace fulmen::bridge
