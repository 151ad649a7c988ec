#include "ir/device.h"

#include <charconv>

#include "support/cat.h"

namespace fulmen {
namespace {
constexpr std::string_view kNames[] = {"cpu", "cuda", "meta"};
}

std::string to_string(Device d) {
  std::string s(kNames[static_cast<int>(d.type)]);
  if (d.index >= 0) append(s, cat(":", static_cast<int>(d.index)));
  return s;
}

std::optional<Device> device_from_string(std::string_view s) {
  const size_t colon = s.find(':');
  const std::string_view type = s.substr(0, colon);
  for (int i = 0; i < 3; ++i) {
    if (kNames[i] != type) continue;
    Device d{static_cast<DeviceType>(i), -1};
    if (colon != std::string_view::npos) {
      int index = 0;
      const char* end = s.data() + s.size();
      const auto r = std::from_chars(s.data() + colon + 1, end, index);
      if (r.ec != std::errc() || r.ptr != end || index < 0 || index > 127) return std::nullopt;
      d.index = static_cast<int8_t>(index);
    }
    return d;
  }
  return std::nullopt;
}

}  // namespace fulmen
