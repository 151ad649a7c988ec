#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace fulmen {

enum class Flag : uint8_t {
#define X(id, name, env, kind, value, known, doc) id,
#include "support/flags.def"
#undef X
};

enum class FlagKind : uint8_t { kBool, kInt, kText, kList };

struct FlagRow {
  Flag flag;
  std::string_view name;
  std::string_view env;
  FlagKind kind;
  std::string_view default_value;
  std::string_view known;
  std::string_view doc;
};

// One table defines every setting; flags.def. The environment is read once, on first use; an
// unknown FULMEN_ variable or value throws UserError "unknown-flag" that lists the known ones. Safe
// from several threads.
std::span<const FlagRow> flags();
bool flag_bool(Flag flag);
int64_t flag_int(Flag flag);
std::string flag_text(Flag flag);
// Whether the list has `word`; with "-word" in FULMEN_PASSES ask for "-word".
bool flag_has(Flag flag, std::string_view word);

// Throw UserError "unknown-flag" for what the table does not know.
void set_flag(Flag flag, std::string_view value);
void set_flag(std::string_view name, std::string_view value);
// Checks an environment given as `NAME=value` texts; other variables are skipped.
void set_flags_from(std::span<const std::string_view> environment);

// Sets a flag until the end of the scope.
class FlagScope {
 public:
  FlagScope(Flag flag, std::string_view value) : flag_(flag), before_(flag_text(flag)) {
    set_flag(flag, value);
  }
  ~FlagScope() { set_flag(flag_, before_); }
  FlagScope(const FlagScope&) = delete;
  FlagScope& operator=(const FlagScope&) = delete;

 private:
  Flag flag_;
  std::string before_;
};

}  // namespace fulmen
