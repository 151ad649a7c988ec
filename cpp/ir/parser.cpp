#include "ir/parser.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "ir/builder.h"
#include "ir/control.h"
#include "ir/region.h"
#include "ir/text_scanner.h"
#include "ir/value_parser.h"

namespace fulmen {
namespace {

// The left side of a statement.
struct Target {
  enum class Kind { kName, kTuple, kList, kDict } kind = Kind::kName;
  std::string_view name;
  std::vector<Target> items;
  std::vector<Arg> keys;
};

struct Callee {
  std::string_view path;
  Args args;
  Kwargs kwargs;
};

// What a statement's comment says.
struct Comment {
  std::vector<Arg> constants;
  std::string_view symbol;
  bool opaque = false;
  uint32_t opaque_tags = 0;
  const SourceLine* source = nullptr;
  std::string_view executor;
};

class Parser {
 public:
  Parser(std::string_view text, const SymbolResolver& symbols, const ObjectResolver& objects)
      : in_(text), symbols_(symbols), values_(in_, ctx(), objects) {
    trace_.ctx = ctx_;
  }

  Trace parse() {
    const DimScope scope(ctx().arena());
    header();
    for (;;) {
      function();
      in_.skip_lines();
      if (!in_.take_word("def")) break;
      end_subprogram();
    }
    while (in_.peek() == '#') {
      in_.rest_of_line();
      in_.skip_lines();
    }
    if (!in_.at_end()) in_.fail("text after the return statement");
    known_.insert(names().begin(), names().end());
    for (const auto& [proxy, base, at] : pending_bases_) {
      const auto it = known_.find(base);
      const TensorProxy* t = it == known_.end() ? nullptr : as_tensor(it->second);
      if (!t) in_.fail_at(at, cat("`", base, "` is not a tensor of this trace"));
      proxy->alias_of = t;
    }
    return std::move(trace_);
  }

 private:
  TraceContext& ctx() { return *ctx_; }
  ValueNames& names() { return values_.names(); }

  // After `def`, up to the return statement.
  void function() {
    parameters();
    while (!body_line()) {
    }
  }

  // What was read is a part of the program that follows.
  void end_subprogram() {
    const Subprogram* program = ctx().make_program(trace_);
    if (program->name != trace_.name) in_.fail(cat("`", trace_.name, "` is defined twice"));
    values_.programs().emplace(program->name, program);
    known_.insert(names().begin(), names().end());
    names().clear();
    parameters_.clear();
    inputs_checked_ = false;
    Trace next;
    next.ctx = ctx_;
    next.provenance = trace_.provenance;
    trace_ = std::move(next);
  }

  void header() {
    for (;; in_.skip_lines()) {
      in_.skip_lines();
      if (in_.at_end()) in_.fail("expected `def`");
      if (in_.peek() == '#') {
        in_.take('#');
        std::string_view line = in_.rest_of_line_raw();
        if (line.starts_with(' ')) line.remove_prefix(1);
        if (!trace_.provenance.empty()) trace_.provenance += '\n';
        trace_.provenance += line;
      } else if (in_.take_word("import")) {
        const std::string_view path = in_.path();
        roots_.push_back(path.substr(0, path.find('.')));
      } else if (in_.take_word("def")) {
        return;
      } else {
        in_.fail("expected a comment, `import` or `def`");
      }
    }
  }

  void parameters() {
    trace_.name = std::string(in_.identifier());
    in_.expect('(');
    while (!in_.take(')')) {
      const std::string_view name = in_.identifier();
      if (std::find(parameters_.begin(), parameters_.end(), name) != parameters_.end()) {
        in_.fail(cat("two parameters are named `", name, "`"));
      }
      parameters_.push_back(name);
      if (!in_.take(',') && in_.peek() != ')') in_.fail("expected , or )");
    }
    in_.expect(':');
    end_of_statement();
    trace_.inputs.resize(parameters_.size());
  }

  // True after the return statement.
  bool body_line() {
    in_.skip_lines();
    if (in_.at_end()) in_.fail("expected `return`");
    if (in_.take('#')) {
      input_comment();
      return false;
    }
    if (!inputs_checked_) {
      for (size_t i = 0; i < parameters_.size(); ++i) {
        if (!trace_.inputs[i]) in_.fail(cat("no comment tells the type of `", parameters_[i], "`"));
      }
      inputs_checked_ = true;
    }
    if (in_.take_word("return")) {
      if (in_.peek() != '#' && in_.peek() != '\0') trace_.output = values_.list();
      end_of_statement();
      return true;
    }
    if (in_.take_word("pass")) {
      end_of_statement();
    } else if (in_.take_word("del")) {
      deletion();
    } else if (in_.take_word("match")) {
      match_statement();
    } else {
      statement();
    }
    return false;
  }

  // `# x: f32[2] leaf`, `# functional`, `# shared storage: x, y`, or a remark.
  void input_comment() {
    if (inputs_checked_) {
      in_.rest_of_line();
      return;
    }
    const size_t start = in_.position();
    const std::string_view name = in_.try_identifier();
    if (name == "functional" && in_.peek() == '\0') {
      trace_.functional = true;
    } else if (name == "shared" && in_.take_word("storage") && in_.take(':')) {
      alias_group();
    } else if (!name.empty() && in_.take(':')) {
      const auto it = std::find(parameters_.begin(), parameters_.end(), name);
      if (it != parameters_.end()) {
        const Proxy*& input = trace_.inputs[it - parameters_.begin()];
        if (input) in_.fail_at(start, cat("a second type for `", name, "`"));
        input = definition(name);
        if (in_.peek() != '\0') in_.fail("unexpected text after the type");
      }
    }
    in_.rest_of_line();
  }

  void alias_group() {
    std::vector<const Proxy*>& group = trace_.alias_groups.emplace_back();
    do {
      const size_t start = in_.position();
      const std::string_view name = in_.identifier();
      const auto it = names().find(name);
      if (it == names().end()) in_.fail_at(start, cat("`", name, "` is not defined above"));
      group.push_back(it->second);
    } while (in_.take(','));
    if (in_.peek() != '\0') in_.fail("unexpected text after the names");
  }

  void end_of_statement() {
    if (in_.take('#')) in_.rest_of_line();
    if (in_.peek() != '\0') in_.fail("unexpected text at the end of the statement");
  }

  // A value has one name in a program and its subprograms.
  const Proxy* same_value(std::string_view name, const Proxy& p) const {
    const auto it = known_.find(name);
    if (it == known_.end() || it->second->kind != p.kind) return nullptr;
    std::string a, b;
    append_type(a, *it->second);
    append_type(b, p);
    return a == b ? it->second : nullptr;
  }

  const Proxy* definition(std::string_view name) {
    static constexpr std::string_view kNumbers[] = {"bool", "int", "float", "complex"};
    const size_t start = in_.position();
    const std::string_view word = in_.identifier();
    Proxy* p = nullptr;
    if (const auto dtype = dtype_from_short_name(word)) {
      p = tensor_definition(name, *dtype);
    } else if (word == "str") {
      p = ctx().make_proxy(ProxyKind::kString, name);
    } else if (word == "collection") {
      p = ctx().make_proxy(ProxyKind::kCollection, name);
    } else if (word == "object") {
      p = ctx().make_proxy(ProxyKind::kObject, name);
    } else {
      const auto it = std::find(std::begin(kNumbers), std::end(kNumbers), word);
      if (it == std::end(kNumbers)) in_.fail_at(start, cat("unknown type `", word, "`"));
      // Two spaces start the next section of the comment.
      const std::string_view rest = in_.line_rest();
      const bool has_value =
          rest.size() > 1 && rest[0] == ' ' && rest[1] != ' ' && rest[1] != '#' && rest[1] != '@';
      const Dim value = has_value ? values_.dim() : Dim(0);
      p = ctx().make_number(static_cast<NumberType>(it - kNumbers), value, name);
    }
    if (const Proxy* known = same_value(name, *p)) {
      if (!names().emplace(known->name, known).second)
        in_.fail_at(start, cat("`", name, "` is defined twice"));
      return known;
    }
    if (p->name != name) in_.fail_at(start, cat("`", name, "` can't be a name here"));
    if (!names().emplace(p->name, p).second) {
      in_.fail_at(start, cat("`", name, "` is defined twice"));
    }
    return p;
  }

  Dims dims(char open, char close) {
    Dims out;
    in_.expect(open);
    while (!in_.take(close)) {
      out.push_back(values_.dim());
      if (!in_.take(',') && in_.peek() != close) in_.fail(cat("expected , or ", close));
    }
    return out;
  }

  TensorProxy* tensor_definition(std::string_view name, DType dtype) {
    TensorType type;
    type.dtype = dtype;
    type.shape = dims('[', ']');
    if (in_.peek() == '{') {
      const size_t start = in_.position();
      type.strides = dims('{', '}');
      if (type.strides.size() != type.shape.size()) {
        in_.fail_at(start, "as many strides as sizes are needed");
      }
    } else {
      type.strides = contiguous_strides(type.shape);
    }
    std::string_view base;
    bool leaf = false, inference = false;
    size_t base_at = 0;
    for (;;) {
      const size_t start = in_.position();
      const std::string_view word = in_.bare_word();
      if (word == "grad") {
        type.requires_grad = true;
      } else if (word == "leaf") {
        leaf = true;
      } else if (word == "inference") {
        inference = true;
      } else if (word == "view" && in_.take_word("of")) {
        base_at = in_.position();
        base = in_.identifier();
      } else if (const auto device = device_from_string(word)) {
        type.device = *device;
      } else {
        in_.seek(start);
        break;
      }
    }
    TensorProxy* t = ctx().make_tensor(std::move(type), name);
    t->is_leaf = leaf;
    t->is_inference = inference;
    if (!base.empty()) {
      const auto it = names().find(base);
      const TensorProxy* known = it == names().end() ? nullptr : as_tensor(it->second);
      t->alias_of = known;
      if (!known) pending_bases_.push_back({t, base, base_at});
    }
    return t;
  }

  void deletion() {
    Args values;
    do {
      const size_t start = in_.position();
      const std::string_view name = in_.identifier();
      const auto it = names().find(name);
      if (it == names().end()) in_.fail_at(start, cat("`", name, "` is not defined"));
      values.push_back(it->second);
    } while (in_.take(','));
    const Comment comment = statement_comment({});
    const Arg args[] = {ctx().make_collection(Arg::Kind::kTuple, values)};
    record(del_last_used, args, {}, comment);
  }

  void record(const Symbol& symbol, std::span<const Arg> args, Arg output, const Comment& comment) {
    BoundSymbol* b = ctx().make_bound_symbol(symbol, args, output, comment.source);
    b->executor = comment.executor;
    trace_.body.push_back(b);
  }

  void statement() {
    const size_t start = in_.position();
    const std::optional<Target> target = assignment_target();
    if (!target) in_.seek(start);
    const Callee call = callee();
    record_call(target, call, start);
  }

  // `match f(x):` and, on the next line, `case {'a': t0}: pass`: results in a dict.
  void match_statement() {
    const size_t start = in_.position();
    const Callee call = callee();
    in_.expect(':');
    end_of_statement();
    in_.skip_lines();
    if (!in_.take_word("case")) in_.fail("expected `case`");
    const std::optional<Target> t = target();
    if (!t) in_.fail("expected a pattern");
    in_.expect(':');
    if (!in_.take_word("pass")) in_.fail("expected `pass`");
    record_call(t, call, start);
  }

  // With what the comment of the line says.
  void record_call(const std::optional<Target>& target, const Callee& call, size_t start) {
    std::vector<std::string_view> fresh;
    if (target) collect_fresh(*target, fresh);
    const Comment comment = statement_comment(fresh);
    Args args;
    const Symbol& symbol = bind(call, comment, args, start);
    Arg output;
    if (target) {
      const bool typed = std::all_of(fresh.begin(), fresh.end(),
                                     [&](std::string_view n) { return names().contains(n); });
      if (typed) {
        size_t constant = 0;
        output = typed_output(*target, comment, constant);
        if (constant != comment.constants.size() && !comment.constants.empty()) {
          in_.fail_at(start, "the comment gives more values for `_` than there are");
        }
      } else {
        output = infer(symbol, args, start);
        if (output.is_proxy() && target->kind == Target::Kind::kName && is_known(output.proxy())) {
          // Eager returns the argument itself; see Builder::call.
          names()[ctx().arena().copy(target->name)] = output.proxy();
          if (!symbol.has(kEffect | kInplace)) return;
        } else {
          output = inferred_output(*target, output, start);
        }
      }
    }
    record(symbol, args, output, comment);
  }

  std::optional<Target> assignment_target() {
    std::optional<Target> t = target_list('\0');
    if (!t || in_.peek() != '=' || in_.peek_at(1) == '=') return std::nullopt;
    in_.take('=');
    return t;
  }

  // Targets up to `close`, or to `=`; nothing if this is no target.
  std::optional<Target> target_list(char close) {
    Target list;
    list.kind = Target::Kind::kTuple;
    bool comma = false;
    while (close ? in_.peek() != close : in_.peek() != '=') {
      std::optional<Target> t = target();
      if (!t) return std::nullopt;
      list.items.push_back(std::move(*t));
      comma = in_.take(',');
      if (!comma) break;
    }
    if (list.items.size() == 1 && !comma) {
      Target single = std::move(list.items[0]);
      return single;
    }
    return list;
  }

  std::optional<Target> target() {
    if (in_.take('(')) {
      std::optional<Target> t = target_list(')');
      if (!t || !in_.take(')')) return std::nullopt;
      return t;
    }
    if (in_.take('[')) {
      Target list;
      list.kind = Target::Kind::kList;
      while (!in_.take(']')) {
        std::optional<Target> t = target();
        if (!t) return std::nullopt;
        list.items.push_back(std::move(*t));
        if (!in_.take(',') && in_.peek() != ']') return std::nullopt;
      }
      return list;
    }
    if (in_.take('{')) {
      Target dict;
      dict.kind = Target::Kind::kDict;
      while (!in_.take('}')) {
        dict.keys.push_back(values_.value());
        if (!in_.take(':')) return std::nullopt;
        std::optional<Target> t = target();
        if (!t) return std::nullopt;
        dict.items.push_back(std::move(*t));
        if (!in_.take(',') && in_.peek() != '}') return std::nullopt;
      }
      return dict;
    }
    Target t;
    t.name = in_.try_identifier();
    if (t.name.empty()) return std::nullopt;
    return t;
  }

  Callee callee() {
    Callee call;
    call.path = in_.path();
    in_.expect('(');
    in_.enter();
    while (!in_.take_close(')')) {
      const size_t start = in_.position();
      const std::string_view name = in_.try_identifier();
      if (!name.empty() && in_.peek() == '=' && in_.peek_at(1) != '=') {
        in_.take('=');
        call.kwargs.push_back({name, values_.value()});
      } else {
        in_.seek(start);
        if (!call.kwargs.empty()) in_.fail("a positional argument after a keyword argument");
        call.args.push_back(values_.value());
      }
      if (!in_.take(',') && in_.peek() != ')') in_.fail("expected , or )");
    }
    return call;
  }

  void collect_fresh(const Target& t, std::vector<std::string_view>& fresh) {
    if (t.kind == Target::Kind::kName) {
      if (t.name == "_" || names().contains(t.name)) return;
      if (std::find(fresh.begin(), fresh.end(), t.name) == fresh.end()) fresh.push_back(t.name);
      return;
    }
    for (const Target& item : t.items) collect_fresh(item, fresh);
  }

  Comment statement_comment(const std::vector<std::string_view>& fresh) {
    Comment c;
    if (!in_.take('#')) {
      if (in_.peek() != '\0') in_.fail("unexpected text at the end of the statement");
      return c;
    }
    while (comment_entry(fresh, c) && in_.take(',')) {
    }
    source_and_executor(in_.rest_of_line(), c);
    return c;
  }

  bool comment_entry(const std::vector<std::string_view>& fresh, Comment& c) {
    const size_t start = in_.position();
    const std::string_view word = in_.try_identifier();
    if (word == "opaque" && ends_note()) {
      c.opaque = true;
      for (;;) {
        if (in_.take_word("inplace")) {
          c.opaque_tags |= kInplace;
        } else if (in_.take_word("view")) {
          c.opaque_tags |= kView;
        } else {
          return true;
        }
      }
    }
    if (word == "as") {
      const std::string_view name = in_.try_path();
      if (!name.empty() && ends_note()) {
        c.symbol = name;
        return true;
      }
    } else if (word == "_" && in_.take(':')) {
      c.constants.push_back(values_.value());
      return true;
    } else if (!word.empty() && std::find(fresh.begin(), fresh.end(), word) != fresh.end() &&
               in_.take(':') && !(in_.peek() >= '0' && in_.peek() <= '9')) {
      definition(word);
      return true;
    }
    in_.seek(start);
    return false;
  }

  bool ends_note() {
    const std::string_view rest = in_.line_rest();
    return rest.empty() || rest[0] == ' ' || rest[0] == ',';
  }

  // `dir/model.py:41 in forward  checkpoint 2  @aten`; anything else is a remark.
  void source_and_executor(std::string_view text, Comment& c) {
    const size_t at = text.starts_with('@') ? 0 : text.rfind(" @");
    if (at != std::string_view::npos) {
      const std::string_view name = text.substr(text.find('@', at) + 1);
      if (!name.empty() && name.find(' ') == std::string_view::npos) {
        c.executor = ctx().arena().copy(name);
        text = trimmed(text.substr(0, at));
      }
    }
    SourceLine source;
    text = without_checkpoint(text, source.checkpoint);
    for (size_t colon = text.rfind(':'); colon != std::string_view::npos && colon > 0;
         colon = text.rfind(':', colon - 1)) {
      int line = 0;
      const char* end = text.data() + text.size();
      const auto r = std::from_chars(text.data() + colon + 1, end, line);
      if (r.ec != std::errc()) continue;
      std::string_view rest(r.ptr, end - r.ptr);
      if (!rest.empty() && !rest.starts_with(" in ")) continue;
      if (!rest.empty()) rest.remove_prefix(4);
      source.file = text.substr(0, colon);
      source.line = line;
      source.function = rest;
      break;
    }
    if (source == SourceLine()) return;
    // Neighbours mostly share a line.
    if (!last_source_ || !(*last_source_ == source)) last_source_ = ctx().make_source(source);
    c.source = last_source_;
  }

  // Cuts `checkpoint 2` off the end of a comment.
  static std::string_view without_checkpoint(std::string_view text, int& checkpoint) {
    constexpr std::string_view kWord = "checkpoint ";
    const size_t at = text.rfind(kWord);
    if (at == std::string_view::npos || (at > 0 && text[at - 1] != ' ')) return text;
    int number = 0;
    const char* end = text.data() + text.size();
    const auto r = std::from_chars(text.data() + at + kWord.size(), end, number);
    if (r.ec != std::errc() || r.ptr != end) return text;
    checkpoint = number;
    return trimmed(text.substr(0, at));
  }

  const Symbol& bind(const Callee& call, const Comment& comment, Args& args, size_t at) {
    const auto make_opaque = [&]() -> const Symbol& {
      Args items;
      for (const auto& [name, value] : call.kwargs) {
        items.push_back(ctx().make_string(name));
        items.push_back(value);
      }
      args = {ctx().make_collection(Arg::Kind::kTuple, call.args),
              ctx().make_collection(Arg::Kind::kDict, items)};
      return symbols_.opaque(call.path, comment.opaque_tags);
    };
    if (comment.opaque) return make_opaque();
    std::vector<const Symbol*> candidates;
    std::string_view name = comment.symbol;
    static constexpr std::string_view kPrefix = "fulmen.symbols.";
    if (name.empty() && call.path.starts_with(kPrefix)) name = call.path.substr(kPrefix.size());
    if (!name.empty()) {
      const Symbol* s = symbols_.find(name);
      if (!s) in_.fail_at(at, cat("there is no symbol `", name, "`"));
      candidates = {s};
    } else if (const auto region = values_.programs().find(call.path);
               region != values_.programs().end()) {
      candidates = {&make_region_symbol(*region->second)};
    } else {
      candidates = symbols_.overloads(call.path);
    }
    std::string why, reasons;
    for (const Symbol* s : candidates) {
      if (try_bind(s->info->schema, call.args, call.kwargs, ctx().arena(), args, &why)) return *s;
      append(reasons, cat(reasons.empty() ? "" : "; ", s->name(), ": ", why));
    }
    if (!candidates.empty()) in_.fail_at(at, cat("the arguments fit no overload (", reasons, ")"));
    const std::string_view root = call.path.substr(0, call.path.find('.'));
    const bool imported =
        root.size() < call.path.size() &&
        (root == "torch" || std::find(roots_.begin(), roots_.end(), root) != roots_.end());
    if (!imported) in_.fail_at(at, cat("unknown function `", call.path, "`"));
    return make_opaque();
  }

  Arg typed_output(const Target& t, const Comment& comment, size_t& constant) {
    if (t.kind == Target::Kind::kName) {
      if (t.name != "_") return names().find(t.name)->second;
      if (comment.constants.empty()) return {};
      if (constant == comment.constants.size()) in_.fail("the comment lacks a value for `_`");
      return comment.constants[constant++];
    }
    Args items;
    for (size_t i = 0; i < t.items.size(); ++i) {
      if (t.kind == Target::Kind::kDict) items.push_back(t.keys[i]);
      items.push_back(typed_output(t.items[i], comment, constant));
    }
    return ctx().make_collection(collection_kind(t), items);
  }

  static Arg::Kind collection_kind(const Target& t) {
    if (t.kind == Target::Kind::kDict) return Arg::Kind::kDict;
    return t.kind == Target::Kind::kList ? Arg::Kind::kList : Arg::Kind::kTuple;
  }

  bool is_known(const Proxy* p) {
    const auto it = names().find(p->name);
    return it != names().end() && it->second == p;
  }

  // Inferred proxies take names of their own: they live in another context.
  Arg infer(const Symbol& symbol, std::span<const Arg> args, size_t at) {
    if (!scratch_) {
      scratch_ = std::make_shared<TraceContext>();
      ctx().arena().make<std::shared_ptr<TraceContext>>(scratch_);  // types refer to its arena
    }
    if (!symbol.meta && !symbol.decompose && !symbol.info->rules) {
      in_.fail_at(at, "this call needs a comment with the types of its results");
    }
    Builder builder(scratch_);
    try {
      return builder.infer(symbol, args);
    } catch (const Unsupported& e) {
      in_.fail_at(at, cat("this call needs a comment with the types of its results: ", e.what()));
    }
  }

  Arg inferred_output(const Target& t, const Arg& inferred, size_t at) {
    if (t.kind == Target::Kind::kName) {
      if (t.name == "_" && !inferred.is_proxy()) return inferred;
      const TensorProxy* tensor = inferred.tensor();
      if (!tensor) in_.fail_at(at, cat("`", t.name, "` does not stand for a tensor"));
      if (is_known(tensor)) return inferred;
      const bool unnamed = t.name == "_";
      if (!unnamed && names().contains(t.name))
        in_.fail_at(at, cat("`", t.name, "` is defined twice"));
      TensorProxy* p = ctx().make_tensor(tensor->type, unnamed ? std::string_view() : t.name);
      if (!unnamed && p->name != t.name)
        in_.fail_at(at, cat("`", t.name, "` can't be a name here"));
      p->alias_of = tensor->alias_of;
      names().emplace(p->name, p);
      return p;
    }
    if (!inferred.is_collection() || inferred.items().size() != t.items.size()) {
      in_.fail_at(at, "the result has another structure than the left side");
    }
    Args items;
    for (size_t i = 0; i < t.items.size(); ++i) {
      items.push_back(inferred_output(t.items[i], inferred.items()[i], at));
    }
    return ctx().make_collection(inferred.kind(), items);
  }

  TextScanner in_;
  const SymbolResolver& symbols_;
  const std::shared_ptr<TraceContext> ctx_ = std::make_shared<TraceContext>();
  Trace trace_;
  ValueParser values_;
  std::vector<std::string_view> roots_;
  std::vector<std::string_view> parameters_;
  bool inputs_checked_ = false;
  ValueNames known_;  // of the subprograms
  struct PendingBase {
    TensorProxy* proxy;
    std::string_view base;
    size_t at;
  };
  std::vector<PendingBase> pending_bases_;
  const SourceLine* last_source_ = nullptr;
  std::shared_ptr<TraceContext> scratch_;
};

}  // namespace

Trace parse_trace(std::string_view text, const SymbolResolver& symbols,
                  const ObjectResolver& objects) {
  return Parser(text, symbols, objects).parse();
}

}  // namespace fulmen
