#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fulmen {

enum class DeviceType : uint8_t { kCPU, kCUDA, kMeta };

// Where a tensor lives. CPU and meta have index -1; a CUDA tensor always has an index.
struct Device {
  DeviceType type = DeviceType::kCPU;
  int8_t index = -1;

  friend bool operator==(Device, Device) = default;
};

// "cpu", "cuda:0", …: what torch.device accepts.
std::string to_string(Device d);
std::optional<Device> device_from_string(std::string_view s);

}  // namespace fulmen
