#include "ir/value_parser.h"

#include <charconv>
#include <limits>
#include <optional>

#include "support/cat.h"

namespace fulmen {

Dim ValueParser::dim() {
  const size_t start = in_.position();
  const Arg a = value();
  if (!a.is_int()) in_.fail_at(start, "expected an integer or a symbolic size");
  return a.dim();
}

Arg ValueParser::list() {
  const Arg first = value();
  if (in_.peek() != ',') return first;
  Args items = {first};
  while (in_.take(',')) {
    if (in_.peek() == '\0' || in_.peek() == '#') break;
    items.push_back(value());
  }
  return ctx_.make_collection(Arg::Kind::kTuple, items);
}

Dim ValueParser::operand(const Arg& a, size_t at) {
  if (!a.is_int()) in_.fail_at(at, "only sizes can be computed with");
  return a.dim();
}

Arg ValueParser::value() {
  const size_t start = in_.position();
  Arg a = product();
  for (;;) {
    if (in_.take('+')) {
      a = operand(a, start) + operand(product(), in_.position());
    } else if (in_.peek() == '-') {
      in_.take('-');
      a = operand(a, start) - operand(product(), in_.position());
    } else {
      return a;
    }
  }
}

Arg ValueParser::product() {
  const size_t start = in_.position();
  Arg a = primary();
  for (;;) {
    if (in_.take('*')) {
      a = operand(a, start) * operand(primary(), in_.position());
    } else if (in_.take_text("//")) {
      a = divided(operand(a, start), operand(primary(), in_.position()), true);
    } else if (in_.take('%')) {
      a = divided(operand(a, start), operand(primary(), in_.position()), false);
    } else {
      return a;
    }
  }
}

Dim ValueParser::divided(Dim a, Dim b, bool quotient) {
  if (is_zero(b)) in_.fail("division by zero");
  return quotient ? floor_div(a, b) : floor_mod(a, b);
}

Arg ValueParser::sequence(Arg::Kind kind, char close) {
  Args items;
  in_.enter();
  while (!in_.take_close(close)) {
    items.push_back(value());
    if (!in_.take(',') && in_.peek() != close) in_.fail(cat("expected , or ", close));
  }
  return ctx_.make_collection(kind, items);
}

Arg ValueParser::primary() {
  if (++depth_ > 200) in_.fail("too deeply nested");
  const Arg a = primary_at(in_.peek());
  --depth_;
  return a;
}

Arg ValueParser::primary_at(char c) {
  const size_t start = in_.position();
  if (c == '(') return parenthesized();
  if (c == '[') {
    in_.take('[');
    return sequence(Arg::Kind::kList, ']');
  }
  if (c == '{') return dict();
  if (c == '\'' || c == '"') return ctx_.make_string(in_.string_literal());
  if (in_.take_text("...")) return Arg::ellipsis();
  if ((c >= '0' && c <= '9') || c == '.' || c == '-') {
    if (c == '-' && !in_.number_follows_sign()) {
      in_.take('-');
      return Dim(-1) * operand(primary(), start);
    }
    return number();
  }
  const std::string_view path = in_.try_path();
  if (path.empty()) in_.fail("expected a value");
  return named(path, start);
}

Arg ValueParser::number() {
  const size_t start = in_.position();
  const std::string_view text = in_.number();
  const char* end = text.data() + text.size();
  int64_t i = 0;
  if (const auto r = std::from_chars(text.data(), end, i); r.ec == std::errc() && r.ptr == end) {
    return Arg(i);
  }
  double d = 0;
  if (text.find_first_of(".eE") != std::string_view::npos) {
    const auto r = std::from_chars(text.data(), end, d);
    if (r.ec == std::errc() && r.ptr == end) return Arg(d);
  }
  in_.fail_at(start, cat("`", text, "` is not a number that fits 64 bits"));
}

Arg ValueParser::parenthesized() {
  in_.take('(');
  in_.enter();
  if (in_.take_close(')')) return ctx_.make_collection(Arg::Kind::kTuple, {});
  const Arg first = value();
  if (in_.take_close(')')) return first;
  Args items = {first};
  in_.expect(',');
  while (!in_.take_close(')')) {
    items.push_back(value());
    if (!in_.take(',') && in_.peek() != ')') in_.fail("expected , or )");
  }
  return ctx_.make_collection(Arg::Kind::kTuple, items);
}

Arg ValueParser::dict() {
  Args items;
  in_.take('{');
  in_.enter();
  while (!in_.take_close('}')) {
    items.push_back(value());
    in_.expect(':');
    items.push_back(value());
    if (!in_.take(',') && in_.peek() != '}') in_.fail("expected , or }");
  }
  return ctx_.make_collection(Arg::Kind::kDict, items);
}

Args ValueParser::call_arguments(size_t count, size_t at, std::string_view function) {
  in_.expect('(');
  const Arg list = sequence(Arg::Kind::kTuple, ')');
  if (list.items().size() != count) {
    in_.fail_at(at, cat(function, "() takes ", uint64_t{count}, " arguments here"));
  }
  return Args(list.items());
}

Arg ValueParser::named(std::string_view path, size_t at) {
  if (path == "None") return {};
  if (path == "True") return true;
  if (path == "False") return false;
  if (in_.peek() == '(') {
    if (path == "slice") {
      return ctx_.make_collection(Arg::Kind::kSlice, call_arguments(3, at, path));
    }
    if (path == "float") return special_float(call_arguments(1, at, path)[0], at);
    if (path == "complex") {
      const Args parts = call_arguments(2, at, path);
      return Arg::complex(
          ctx_.arena().make<std::complex<double>>(real(parts[0], at), real(parts[1], at)));
    }
    if (path == "max" || path == "min") {
      const Args args = call_arguments(2, at, path);
      const Dim a = operand(args[0], at), b = operand(args[1], at);
      return path == "max" ? max(a, b) : min(a, b);
    }
    if (path == "torch.device") {
      const Arg text = call_arguments(1, at, path)[0];
      const auto d = text.kind() == Arg::Kind::kString ? device_from_string(text.text())
                                                       : std::optional<Device>();
      if (!d) in_.fail_at(at, "unknown device");
      return *d;
    }
    in_.fail_at(at, cat("`", path, "` can't be called inside an expression"));
  }
  if (path.starts_with("torch.")) return torch_constant(path.substr(6), at);
  return variable(path, at);
}

Arg ValueParser::special_float(const Arg& a, size_t at) {
  if (a.kind() == Arg::Kind::kString) {
    if (a.text() == "nan") return std::numeric_limits<double>::quiet_NaN();
    if (a.text() == "inf") return std::numeric_limits<double>::infinity();
    if (a.text() == "-inf") return -std::numeric_limits<double>::infinity();
  }
  in_.fail_at(at, "expected float('nan'), float('inf') or float('-inf')");
}

double ValueParser::real(const Arg& a, size_t at) {
  if (a.kind() == Arg::Kind::kFloat) return a.real();
  if (a.kind() == Arg::Kind::kInt) return static_cast<double>(a.integer());
  in_.fail_at(at, "expected a real number");
}

Arg ValueParser::torch_constant(std::string_view name, size_t at) {
  static constexpr std::pair<std::string_view, DType> kAliases[] = {
      {"float", DType::kFloat32}, {"double", DType::kFloat64}, {"half", DType::kFloat16},
      {"int", DType::kInt32},     {"long", DType::kInt64},     {"short", DType::kInt16}};
  static constexpr std::string_view kFormats[] = {"contiguous_format", "preserve_format",
                                                  "channels_last", "channels_last_3d"};
  static constexpr std::string_view kLayouts[] = {"strided",    "sparse_coo", "sparse_csr",
                                                  "sparse_csc", "sparse_bsr", "sparse_bsc",
                                                  "jagged",     "_mkldnn"};
  if (const auto dtype = dtype_from_name(name)) return *dtype;
  for (const auto& [alias, dtype] : kAliases) {
    if (name == alias) return dtype;
  }
  for (const std::string_view f : kFormats) {
    if (name == f) return Arg::named(Arg::Kind::kMemoryFormat, f);
  }
  for (const std::string_view l : kLayouts) {
    if (name == l) return Arg::named(Arg::Kind::kLayout, l);
  }
  in_.fail_at(at, cat("unknown constant `torch.", name, "`"));
}

Arg ValueParser::variable(std::string_view name, size_t at) {
  if (const auto it = names_.find(name); it != names_.end()) return it->second;
  if (const auto it = programs_.find(name); it != programs_.end()) return it->second;
  if (const auto it = opaques_.find(name); it != opaques_.end()) return it->second;
  if (name.size() > 1 && name[0] == 's') {
    int64_t index = 0;
    const char* end = name.data() + name.size();
    const auto r = std::from_chars(name.data() + 1, end, index);
    if (r.ec == std::errc() && r.ptr == end && index >= 0 && index < (1 << 30)) {
      ctx_.reserve_symbolic_dims(index + 1);
      return symbol(index);
    }
  }
  if (name.find('.') != std::string_view::npos) {
    in_.fail_at(at, cat("`", name, "` is no value that a trace can hold"));
  }
  const Opaque* object =
      objects_ ? objects_(ctx_, name) : ctx_.make_opaque(nullptr, [](void*) {}, name);
  if (!object) in_.fail_at(at, cat("`", name, "` is not defined"));
  opaques_.emplace(ctx_.arena().copy(name), object);
  return object;
}

}  // namespace fulmen
