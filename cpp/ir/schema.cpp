#include "ir/schema.h"

#include <charconv>
#include <utility>

#include "ir/proxy.h"
#include "support/cat.h"
#include "support/error.h"

namespace fulmen {
namespace {

// Recursive descent over a schema text.
class SchemaParser {
 public:
  SchemaParser(std::string_view text, Arena& arena) : text_(text), rest_(text), arena_(arena) {}

  Schema parse() {
    Schema schema;
    schema.name = std::string(until('('));
    expect('(');
    bool keyword_only = false;
    while (!take(')')) {
      if (take('*')) {
        keyword_only = true;
      } else {
        schema.params.push_back(param());
        schema.params.back().keyword_only = keyword_only;
      }
      if (!take(',') && peek() != ')') fail("expected , or )");
    }
    return schema;  // what follows -> is for the reader
  }

 private:
  [[noreturn]] void fail(std::string_view what) {
    internal_error("schema `", text_, "`: ", what, " at `", rest_, "`");
  }
  void space() {
    while (!rest_.empty() && rest_[0] == ' ') rest_.remove_prefix(1);
  }
  char peek() {
    space();
    return rest_.empty() ? '\0' : rest_[0];
  }
  bool take(char c) {
    if (peek() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool take_text(std::string_view t) {
    space();
    if (!rest_.starts_with(t)) return false;
    rest_.remove_prefix(t.size());
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(cat("expected ", c));
  }
  std::string_view until(char c) {
    space();
    const size_t n = rest_.find(c);
    if (n == std::string_view::npos) fail(cat("expected ", c));
    const std::string_view word = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return word;
  }
  std::string_view word() {
    space();
    size_t n = 0;
    while (n < rest_.size() && (std::isalnum(static_cast<unsigned char>(rest_[n])) ||
                                rest_[n] == '_' || rest_[n] == '.')) {
      ++n;
    }
    const std::string_view w = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return w;
  }

  Param param() {
    static constexpr std::pair<std::string_view, ParamKind> kKinds[] = {
        {"Tensor", ParamKind::kTensor}, {"Scalar", ParamKind::kScalar},
        {"int", ParamKind::kInt},       {"float", ParamKind::kFloat},
        {"bool", ParamKind::kBool},     {"str", ParamKind::kString},
        {"dtype", ParamKind::kDType},   {"device", ParamKind::kDevice},
        {"layout", ParamKind::kLayout}, {"memory_format", ParamKind::kMemoryFormat},
        {"any", ParamKind::kAny}};
    Param p;
    const std::string_view type = word();
    bool found = false;
    for (const auto& [text, kind] : kKinds) {
      if (type == text) {
        p.kind = kind;
        found = true;
      }
    }
    if (!found) fail(cat("unknown type ", type));
    if (take('|')) {
      if (word() != "Scalar" || p.kind != ParamKind::kTensor) fail("only Tensor|Scalar");
      p.kind = ParamKind::kTensorOrScalar;
    }
    if (take('!')) p.mutated = true;
    if (take('[')) {
      p.list = true;
      if (!take(']')) {
        p.list_or_one = true;
        word();
        expect(']');
      }
      if (take('*')) p.varargs = true;
    }
    if (take('?')) p.optional = true;
    p.name = std::string(word());
    if (p.name.empty()) fail("expected a name");
    if (take('=')) p.default_value = literal();
    return p;
  }

  Arg literal() {
    if (take_text("None")) return {};
    if (take_text("True")) return true;
    if (take_text("False")) return false;
    if (take('\'')) {
      const std::string_view s = until('\'');
      expect('\'');
      return Arg(arena_.copy(s));
    }
    if (take('(') || take('[')) {
      Args items;
      while (!take(')') && !take(']')) {
        items.push_back(literal());
        take(',');
      }
      return Arg::collection(Arg::Kind::kTuple, arena_.copy(std::span<const Arg>(items)));
    }
    if (take_text("torch.")) return Arg::named(Arg::Kind::kMemoryFormat, arena_.copy(word()));
    space();
    size_t n = 0;
    while (n < rest_.size() &&
           std::string_view("+-.0123456789einf").find(rest_[n]) != std::string_view::npos) {
      ++n;
    }
    const std::string_view number = rest_.substr(0, n);
    rest_.remove_prefix(n);
    const char* end = number.data() + number.size();
    int64_t i = 0;
    if (auto r = std::from_chars(number.data(), end, i); r.ec == std::errc() && r.ptr == end) {
      return Arg(i);
    }
    double d = 0;
    if (auto r = std::from_chars(number.data(), end, d); r.ec == std::errc() && r.ptr == end) {
      return Arg(d);
    }
    fail("expected a literal");
  }

  std::string_view text_;
  std::string_view rest_;
  Arena& arena_;
};

bool is_scalar(const Arg& a) { return a.is_number(); }

bool number_is(const Arg& a, NumberType t) {
  const NumberProxy* n = a.is_proxy() ? as_number(a.proxy()) : nullptr;
  return n && n->type == t;
}

bool fits_one(const Param& p, const Arg& a) {
  switch (p.kind) {
    case ParamKind::kTensor: return a.is_tensor();
    case ParamKind::kScalar: return is_scalar(a);
    case ParamKind::kTensorOrScalar: return a.is_tensor() || is_scalar(a);
    case ParamKind::kInt: return a.is_int() || number_is(a, NumberType::kInt);
    case ParamKind::kFloat:
      return a.is_int() || a.kind() == Arg::Kind::kFloat || number_is(a, NumberType::kFloat) ||
             number_is(a, NumberType::kInt);
    case ParamKind::kBool: return a.kind() == Arg::Kind::kBool || number_is(a, NumberType::kBool);
    case ParamKind::kString: return a.kind() == Arg::Kind::kString;
    case ParamKind::kDType: return a.kind() == Arg::Kind::kDType;
    case ParamKind::kDevice:
      return a.kind() == Arg::Kind::kDevice || a.kind() == Arg::Kind::kString;
    case ParamKind::kLayout: return a.kind() == Arg::Kind::kLayout;
    case ParamKind::kMemoryFormat: return a.kind() == Arg::Kind::kMemoryFormat;
    case ParamKind::kAny: return true;
  }
  return false;
}

// Whether `a` can be the argument of `p`; normalizes it in place.
bool fits(const Param& p, Arg& a) {
  if (a.is_none()) return p.optional || p.kind == ParamKind::kAny;
  if (p.list) {
    if (a.is_sequence()) {
      for (const Arg& item : a.items()) {
        // Indices may hold None: x[:, None, idx].
        if (!fits_one(p, item) && !(item.is_none() && p.kind == ParamKind::kTensor && p.optional)) {
          return false;
        }
      }
      return true;
    }
    return p.list_or_one && fits_one(p, a);
  }
  if (!fits_one(p, a)) return false;
  if (p.kind == ParamKind::kDevice && a.kind() == Arg::Kind::kString) {
    const auto d = device_from_string(a.text());
    if (!d) return false;
    a = Arg(*d);
  }
  return true;
}

}  // namespace

int Schema::index(std::string_view param) const {
  for (size_t i = 0; i < params.size(); ++i) {
    if (params[i].name == param) return static_cast<int>(i);
  }
  return -1;
}

Schema parse_schema(std::string_view text, Arena& arena) {
  return SchemaParser(text, arena).parse();
}

bool try_bind(const Schema& schema, std::span<const Arg> args, const Kwargs& kwargs, Arena& arena,
              Args& out, std::string* why) {
  const auto refuse = [&](const auto&... parts) {
    if (why) *why = cat(parts...);
    return false;
  };
  out.clear();
  size_t next = 0;
  size_t used_kwargs = 0;
  for (const Param& p : schema.params) {
    Arg value;
    bool given = false;
    if (!p.keyword_only && next < args.size()) {
      value = args[next];
      given = true;
      // view(2, 3): the remaining positional arguments are the list.
      if (p.varargs && !value.is_sequence() && fits_one(p, value)) {
        value = Arg::collection(Arg::Kind::kTuple, arena.copy(args.subspan(next)));
        next = args.size();
      } else {
        ++next;
      }
    }
    for (const auto& [key, v] : kwargs) {
      // torch's methods and functions disagree on the name of the first tensor.
      const bool match =
          key == p.name || (&p == &schema.params[0] && (key == "self" || key == "input"));
      if (!match) continue;
      if (given) return refuse("got multiple values for argument '", p.name, "'");
      value = v;
      given = true;
      ++used_kwargs;
    }
    if (!given) {
      if (p.varargs && !p.keyword_only && !p.default_value) {
        value = Arg::collection(Arg::Kind::kTuple, {});
      } else if (p.default_value) {
        value = *p.default_value;
      } else {
        return refuse("missing argument '", p.name, "'");
      }
    } else if (!fits(p, value)) {
      return refuse("argument '", p.name, "' has an unexpected type");
    }
    out.push_back(value);
  }
  if (next < args.size()) return refuse("too many positional arguments");
  if (used_kwargs < kwargs.size()) return refuse("unexpected keyword argument");
  return true;
}

}  // namespace fulmen
