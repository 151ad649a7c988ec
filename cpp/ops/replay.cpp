#include "ops/replay.h"

#include "ir/builder.h"
#include "ops/families.h"

namespace fulmen::ops {
namespace {

// As Generator.get_state() gives it: a Mersenne Twister's, or a seed and an offset.
constexpr int64_t kCpuBytes = 5056;
constexpr int64_t kCudaBytes = 16;

Arg state(Call& in) {
  const Device device = *in.device("device");
  TensorType t;
  t.dtype = DType::kUInt8;
  t.shape.push_back(Dim(device.type == DeviceType::kCUDA ? kCudaBytes : kCpuBytes));
  t.strides = contiguous_strides(t.shape);
  return in.make(t);
}

}  // namespace

constinit const Symbol random_state{
    .schema = "random_state(device device) -> Tensor",
    .torch = "fulmen.autograd.random_state",
    .tags = kRandom | kNonDifferentiable,
    .meta = state,
    .aten = "-",
};

constinit const Symbol exchange_random_state{
    .schema = "exchange_random_state(device device, Tensor state) -> Tensor",
    .torch = "fulmen.autograd.exchange_random_state",
    .tags = kRandom | kNonDifferentiable,
    .meta = state,
    .aten = "-",
};

std::span<const Symbol* const> replay_family() {
  static constexpr const Symbol* kRows[] = {&random_state, &exchange_random_state};
  return kRows;
}

}  // namespace fulmen::ops
