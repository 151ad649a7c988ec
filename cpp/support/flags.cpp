#include "support/flags.h"

#include <charconv>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "support/error.h"

extern char** environ;

namespace fulmen {
namespace {

constexpr FlagRow kFlags[] = {
#define X(id, name, env, kind, value, known, doc) \
  {Flag::id, name, env, FlagKind::kind, value, known, doc},
#include "support/flags.def"
#undef X
};

[[noreturn]] void refuse(std::string message) {
  throw UserError(ErrorKind::kValue, "unknown-flag", std::move(message));
}

template <class F>
void for_each_word(std::string_view text, char separator, F&& f) {
  while (!text.empty()) {
    const size_t n = std::min(text.find(separator), text.size());
    if (n) f(text.substr(0, n));
    text.remove_prefix(std::min(n + 1, text.size()));
  }
}

void check(const FlagRow& row, std::string_view value) {
  const auto known = [&](std::string_view word) {
    bool found = false;
    for_each_word(row.known, ' ',
                  [&](std::string_view k) { found = found || k == word || k == "*"; });
    if (!found) refuse(cat(row.env, ": unknown value '", word, "'; known: ", row.known));
  };
  switch (row.kind) {
    case FlagKind::kText: return;
    case FlagKind::kBool: return known(value);
    case FlagKind::kList: return for_each_word(value, ',', known);
    case FlagKind::kInt: {
      int64_t v = 0;
      const char* end = value.data() + value.size();
      const auto r = std::from_chars(value.data(), end, v);
      if (r.ec != std::errc() || r.ptr != end) {
        refuse(cat(row.env, ": expected an integer, got '", value, "'"));
      }
    }
  }
}

struct State {
  std::shared_mutex mutex;
  std::vector<std::string> values;

  State() {
    for (const FlagRow& row : kFlags) values.emplace_back(row.default_value);
    std::vector<std::string_view> variables;
    for (char** e = environ; e && *e; ++e) variables.emplace_back(*e);
    read(variables);
  }

  void read(std::span<const std::string_view> variables) {
    for (const std::string_view v : variables) {
      if (!v.starts_with("FULMEN_")) continue;
      const size_t n = std::min(v.find('='), v.size());
      const std::string_view name = v.substr(0, n), value = v.substr(std::min(n + 1, v.size()));
      const FlagRow* row = nullptr;
      std::string known;
      for (const FlagRow& r : kFlags) {
        if (r.env == name) row = &r;
        append(known, cat(" ", r.env));
      }
      if (!row) refuse(cat("unknown environment variable ", name, "; known:", known));
      check(*row, value);
      values[static_cast<size_t>(row->flag)] = value;
    }
  }
};

State& state() {
  static State s;
  return s;
}

}  // namespace

std::span<const FlagRow> flags() { return kFlags; }

std::string flag_text(Flag flag) {
  State& s = state();
  const std::shared_lock lock(s.mutex);
  return s.values[static_cast<size_t>(flag)];
}

bool flag_bool(Flag flag) { return flag_text(flag) == "1"; }

int64_t flag_int(Flag flag) {
  const std::string text = flag_text(flag);
  int64_t v = 0;
  std::from_chars(text.data(), text.data() + text.size(), v);
  return v;
}

bool flag_has(Flag flag, std::string_view word) {
  bool found = false;
  for_each_word(flag_text(flag), ',', [&](std::string_view w) { found = found || w == word; });
  return found;
}

void set_flag(Flag flag, std::string_view value) {
  check(kFlags[static_cast<size_t>(flag)], value);
  State& s = state();
  const std::unique_lock lock(s.mutex);
  s.values[static_cast<size_t>(flag)] = value;
}

void set_flag(std::string_view name, std::string_view value) {
  std::string known;
  for (const FlagRow& row : kFlags) {
    if (row.name == name) return set_flag(row.flag, value);
    append(known, cat(" ", row.name));
  }
  refuse(cat("unknown flag '", name, "'; known:", known));
}

void set_flags_from(std::span<const std::string_view> environment) {
  State& s = state();
  const std::unique_lock lock(s.mutex);
  s.read(environment);
}

}  // namespace fulmen
