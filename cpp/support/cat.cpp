#include "support/cat.h"

#include <charconv>
#include <cmath>

namespace fulmen {

void append(std::string& s, int64_t v) {
  char buf[24];
  s.append(buf, std::to_chars(buf, buf + sizeof buf, v).ptr);
}

void append(std::string& s, uint64_t v) {
  char buf[24];
  s.append(buf, std::to_chars(buf, buf + sizeof buf, v).ptr);
}

void append(std::string& s, double v) {
  if (std::isnan(v)) return append(s, "float('nan')");
  if (std::isinf(v)) return append(s, v > 0 ? "float('inf')" : "float('-inf')");
  char buf[40];
  const std::string_view text(buf, std::to_chars(buf, buf + sizeof buf, v).ptr - buf);
  s.append(text);
  // An integral double must not read back as an int.
  if (text.find_first_of(".en") == std::string_view::npos) s.append(".0");
}

std::string quoted(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string s = "'";
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '\'' || c == '\\') {
      s += '\\';
      s += c;
    } else if (c == '\n') {
      s += "\\n";
    } else if (u < 0x20 || u == 0x7f) {
      s += "\\x";
      s += kHex[u >> 4];
      s += kHex[u & 15];
    } else {
      s += c;
    }
  }
  s += '\'';
  return s;
}

}  // namespace fulmen
