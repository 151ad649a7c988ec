#pragma once

#include <string_view>
#include <unordered_map>

#include "ir/parser.h"
#include "ir/text_scanner.h"

namespace fulmen {

using ValueNames = std::unordered_map<std::string_view, const Proxy*>;

// Reads the values of trace text: literals, collections, variables, symbolic sizes and arithmetic
// on them.
class ValueParser {
 public:
  // All three outlive the parser.
  ValueParser(TextScanner& in, TraceContext& ctx, const ObjectResolver& objects)
      : in_(in), ctx_(ctx), objects_(objects) {}

  Arg value();
  // Without brackets, as after `return`: several values are a tuple.
  Arg list();
  // An integer or a symbolic size.
  Dim dim();

  // The values that are defined so far.
  ValueNames& names() { return names_; }
  // Subprograms by name.
  std::unordered_map<std::string_view, const Subprogram*>& programs() { return programs_; }

 private:
  Dim operand(const Arg& a, size_t at);
  Arg product();
  Dim divided(Dim a, Dim b, bool quotient);
  Arg sequence(Arg::Kind kind, char close);
  Arg primary();
  Arg primary_at(char c);
  Arg number();
  Arg parenthesized();
  Arg dict();
  Args call_arguments(size_t count, size_t at, std::string_view function);
  Arg named(std::string_view path, size_t at);
  Arg special_float(const Arg& a, size_t at);
  double real(const Arg& a, size_t at);
  Arg torch_constant(std::string_view name, size_t at);
  Arg variable(std::string_view name, size_t at);

  TextScanner& in_;
  TraceContext& ctx_;
  const ObjectResolver& objects_;
  int depth_ = 0;
  ValueNames names_;
  std::unordered_map<std::string_view, const Subprogram*> programs_;
  std::unordered_map<std::string_view, const Opaque*> opaques_;
};

}  // namespace fulmen
