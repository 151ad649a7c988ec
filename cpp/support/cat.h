#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace fulmen {

inline void append(std::string& s, std::string_view v) { s.append(v); }
inline void append(std::string& s, const char* v) { s.append(v); }
inline void append(std::string& s, char v) { s.push_back(v); }
void append(std::string& s, int64_t v);
void append(std::string& s, uint64_t v);
inline void append(std::string& s, int v) { append(s, static_cast<int64_t>(v)); }
inline void append(std::string& s, unsigned v) { append(s, static_cast<uint64_t>(v)); }
// Shortest text that reads back to the same double, as Python's repr writes it.
void append(std::string& s, double v);

// The texts of all parts, one after the other.
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::string s;
  (append(s, parts), ...);
  return s;
}

// A Python string literal that evaluates to `text`.
std::string quoted(std::string_view text);

}  // namespace fulmen
