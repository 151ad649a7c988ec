#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "ir/device.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// What PyTorch's autocast does with a call. Tensors that are floating point, not double and on the
// device in question are the ones that are cast.
enum class CastPolicy : uint8_t {
  kNone,
  kLower,            // to the dtype of the autocast region
  kFloat32,          // to float32
  kPromote,          // to the widest among them
  kOptionalFloat32,  // nothing is cast; `dtype` is float32 unless given
  kInside,           // the operations that it consists of have policies, not it
};

// The policy of a row; in-place operations have none.
CastPolicy cast_policy(const Symbol& symbol, std::span<const Arg> args, DeviceType device);

// The operations with a kernel of PyTorch's for autocast on `device`, without their overloads, in
// alphabetical order, and their policies.
struct CastRule {
  std::string_view op;
  CastPolicy policy;
};
std::vector<CastRule> cast_rules(DeviceType device);
std::string_view policy_name(CastPolicy policy);

}  // namespace fulmen::ops
