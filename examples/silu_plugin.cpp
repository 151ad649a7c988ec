#include <cmath>

#include "plugin.h"

namespace {

bool is_plain(const FulmenTensor& t) {
  if (t.dtype != FULMEN_FLOAT32 || t.device != FULMEN_CPU) return false;
  int64_t stride = 1;
  for (int d = t.ndim - 1; d >= 0; --d) {
    if (t.sizes[d] != 1 && t.strides[d] != stride) return false;
    stride *= t.sizes[d];
  }
  return true;
}

const char* check(const FulmenValue* args, size_t, const FulmenTensor* results, size_t) {
  return is_plain(args[0].tensor) && is_plain(results[0])
             ? nullptr
             : "it takes contiguous float32 on the CPU";
}

struct Pointers {
  const float* in;
  float* out;
};

void part(void* data, int64_t from, int64_t to) {
  const auto [in, out] = *static_cast<Pointers*>(data);
  for (int64_t i = from; i < to; ++i) out[i] = in[i] / (1.0f + std::exp(-in[i]));
}

const char* run(const FulmenValue* args, size_t, const FulmenTensor* results, size_t,
                const FulmenHost* host) {
  int64_t count = 1;
  for (int d = 0; d < results[0].ndim; ++d) count *= results[0].sizes[d];
  Pointers pointers{static_cast<const float*>(args[0].tensor.data),
                    static_cast<float*>(results[0].data)};
  host->parallel_for(0, count, 16384, part, &pointers);
  return nullptr;
}

const FulmenOperator operators[] = {{"silu", check, run}};
const FulmenPlugin plugin = {FULMEN_PLUGIN_VERSION, "my_silu", operators, 1};

}  // namespace

const FulmenPlugin* fulmen_plugin(void) { return &plugin; }
