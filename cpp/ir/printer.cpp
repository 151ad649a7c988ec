#include "ir/printer.h"

#include <algorithm>

#include "ir/control.h"
#include "ir/region.h"
#include "support/cat.h"

namespace fulmen {
namespace {

bool is_constant(const Arg& a) {
  return !a.is_proxy() && !a.is_sequence() && a.kind() != Arg::Kind::kDict;
}

// The type and what else a definition of `p` says.
void append_definition(std::string& s, const Proxy& p) {
  append(s, p.name);
  append(s, ": ");
  append_type(s, p);
  const TensorProxy* t = as_tensor(&p);
  if (!t) return;
  if (t->alias_of) {
    append(s, " view of ");
    append(s, t->alias_of->name);
  }
  if (t->is_leaf) append(s, " leaf");
}

void append_source(std::string& s, const SourceLine& line) {
  append(s, line.file);
  append(s, ':');
  append(s, line.line);
  if (!line.function.empty()) {
    append(s, " in ");
    append(s, line.function);
  }
}

using SeenProxies = SmallVec<const Proxy*, 8>;

bool contains(const SeenProxies& seen, const Proxy* p) {
  return std::find(seen.begin(), seen.end(), p) != seen.end();
}

bool holds_dict(const Arg& a) {
  if (a.kind() == Arg::Kind::kDict) return true;
  return a.is_collection() && std::any_of(a.items().begin(), a.items().end(), holds_dict);
}

// Where the names of results stand: left of `=`, or in a `case` pattern, which alone takes dicts
// but binds a name once. A constant result, or a second place of a value in a pattern, has no name;
// the comment holds it.
void append_target(std::string& s, const Arg& a, bool outermost, SeenProxies* pattern) {
  const auto sequence = [&](std::string_view open, std::string_view close) {
    append(s, open);
    for (size_t i = 0; i < a.items().size(); ++i) {
      if (i) append(s, ", ");
      append_target(s, a.items()[i], false, pattern);
    }
    append(s, close);
  };
  if (a.is_proxy()) {
    if (!pattern) return append(s, a.proxy()->name);
    if (contains(*pattern, a.proxy())) return append(s, '_');
    pattern->push_back(a.proxy());
    return append(s, a.proxy()->name);
  }
  switch (a.kind()) {
    case Arg::Kind::kList: return sequence("[", "]");
    case Arg::Kind::kTuple:
      if (outermost && !pattern && a.items().size() > 1) return sequence("", "");
      return sequence("(", a.items().size() == 1 ? ",)" : ")");
    case Arg::Kind::kDict:
      append(s, '{');
      for (size_t i = 0; i + 1 < a.items().size(); i += 2) {
        if (i) append(s, ", ");
        append(s, a.items()[i]);
        append(s, ": ");
        append_target(s, a.items()[i + 1], false, pattern);
      }
      return append(s, '}');
    default: return append(s, '_');
  }
}

template <class F>
void for_each_leaf(const Arg& a, F&& f) {
  if (is_constant(a)) return f(a);
  if (a.is_proxy()) return f(a);
  if (a.kind() == Arg::Kind::kDict) {
    for (size_t i = 1; i < a.items().size(); i += 2) for_each_leaf(a.items()[i], f);
    return;
  }
  for (const Arg& item : a.items()) for_each_leaf(item, f);
}

bool holds(std::span<const Arg> args, const Proxy* p) {
  bool found = false;
  for (const Arg& a : args) {
    for_each_proxy(a, [&](const Proxy* q) { found = found || q == p; });
    if (found) return true;
  }
  return false;
}

// A call's arguments as they are written: positional ones, then keywords.
struct Written {
  Args args;
  Kwargs kwargs;
};

Written written_arguments(const BoundSymbol& bsym) {
  Written w;
  const Schema& schema = bsym.symbol->info->schema;
  if (schema.variadic) {
    for (const Arg& a : bsym.args[0].items()) w.args.push_back(a);
    const auto items = bsym.args[1].items();
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      w.kwargs.push_back({items[i].text(), items[i + 1]});
    }
    return w;
  }
  bool positional = true;
  for (size_t i = 0; i < schema.params.size() && i < bsym.args.size(); ++i) {
    const Param& p = schema.params[i];
    const Arg& a = bsym.args[i];
    positional = positional && !p.keyword_only;
    if (p.default_value && *p.default_value == a) {
      positional = false;
    } else if (!positional) {
      w.kwargs.push_back({p.name, a});
    } else if (p.varargs && p.kind == ParamKind::kTensor && a.kind() == Arg::Kind::kTuple) {
      for (const Arg& item : a.items()) w.args.push_back(item);
    } else {
      w.args.push_back(a);
    }
  }
  return w;
}

void append_arguments(std::string& s, const Written& w) {
  bool first = true;
  const auto comma = [&] {
    if (!first) append(s, ", ");
    first = false;
  };
  append(s, '(');
  for (const Arg& a : w.args) {
    comma();
    append(s, a);
  }
  for (const auto& [name, a] : w.kwargs) {
    comma();
    append(s, name);
    append(s, '=');
    append(s, a);
  }
  append(s, ')');
}

// What the reader of the call could not know: that it is an opaque symbol, or another overload
// than the first that the arguments fit.
void append_symbol_note(std::string& s, const BoundSymbol& bsym, const Written& w) {
  const Symbol& symbol = *bsym.symbol;
  if (symbol.info->schema.variadic) {
    append(s, "opaque");
    if (symbol.has(kInplace)) append(s, " inplace");
    if (symbol.has(kView)) append(s, " view");
    return;
  }
  Arena scratch;
  Args bound;
  for (const Symbol* rival : symbol.info->rivals) {
    if (!try_bind(rival->info->schema, w.args, w.kwargs, scratch, bound)) continue;
    append(s, "as ");
    append(s, symbol.name());
    return;
  }
}

void append_comment(std::string& s, const BoundSymbol& bsym, const Written& w,
                    bool pattern = false) {
  const size_t start = s.size();
  append(s, "  # ");
  const size_t first_entry = s.size();
  const auto comma = [&] {
    if (s.size() > first_entry) append(s, ", ");
  };
  bool constants = false;
  SeenProxies bound;
  const auto has_no_name = [&](const Arg& a) {
    if (!a.is_proxy()) return true;
    if (pattern && contains(bound, a.proxy())) return true;
    bound.push_back(a.proxy());
    return false;
  };
  for_each_leaf(bsym.output, [&](const Arg& a) {
    if (has_no_name(a)) constants = constants || !a.is_none();
  });
  bound.clear();
  SeenProxies seen;
  for_each_leaf(bsym.output, [&](const Arg& a) {
    if (has_no_name(a)) {
      if (!constants) return;
      comma();
      append(s, "_: ");
      return append(s, a);
    }
    const Proxy* p = a.proxy();
    if (contains(seen, p) || holds(bsym.args, p)) return;
    seen.push_back(p);
    comma();
    append_definition(s, *p);
  });
  std::string note;
  append_symbol_note(note, bsym, w);
  if (!note.empty()) {
    comma();
    append(s, note);
  }
  const auto section = [&] { append(s, s.size() > first_entry ? "  " : ""); };
  if (bsym.source && !bsym.source->file.empty()) {
    section();
    append_source(s, *bsym.source);
  }
  if (bsym.checkpoint()) {
    section();
    append(s, cat("checkpoint ", bsym.checkpoint()));
  }
  if (!bsym.executor.empty()) {
    section();
    append(s, '@');
    append(s, bsym.executor);
  }
  if (s.size() == first_entry) s.resize(start);
}

void append_statement(std::string& s, const BoundSymbol& bsym) {
  if (bsym.symbol == &del_last_used) {
    append(s, "del ");
    const auto values = bsym.args[0].items();
    for (size_t i = 0; i < values.size(); ++i) {
      if (i) append(s, ", ");
      append(s, values[i]);
    }
    return append_comment(s, bsym, {});
  }
  const bool pattern = holds_dict(bsym.output);
  if (pattern) {
    append(s, "match ");
  } else if (!bsym.output.is_none()) {
    append_target(s, bsym.output, true, nullptr);
    append(s, " = ");
  }
  append(s, printed_name(*bsym.symbol));
  const Written w = written_arguments(bsym);
  append_arguments(s, w);
  if (pattern) {
    SeenProxies bound;
    append(s, ":\n    case ");
    append_target(s, bsym.output, true, &bound);
    append(s, ": pass");
  }
  append_comment(s, bsym, w, pattern);
}

void collect_roots(std::span<const BoundSymbol* const> body, std::vector<std::string>& roots) {
  for (const BoundSymbol* bsym : body) {
    if (bsym->symbol == &del_last_used) continue;
    const std::string name = printed_name(*bsym->symbol);
    const size_t dot = name.find('.');
    if (dot == std::string::npos) continue;
    std::string root = name.substr(0, dot);
    if (root == "torch" || std::find(roots.begin(), roots.end(), root) != roots.end()) continue;
    roots.push_back(std::move(root));
  }
}

// torch first, then every other module that a call starts from.
void append_imports(std::string& s, const Trace& trace) {
  std::vector<std::string> roots;
  append(s, "import torch\n");
  collect_roots(trace.body, roots);
  for_each_program(trace.body, [&](const Subprogram& p) { collect_roots(p.body, roots); });
  std::sort(roots.begin(), roots.end());
  for (const std::string& root : roots) append(s, cat("import ", root, "\n"));
}

// `def name(x, y):` and the types of the inputs.
void append_head(std::string& s, std::string_view name, std::span<const Proxy* const> inputs,
                 bool functional) {
  append(s, cat("\ndef ", name, "("));
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (i) append(s, ", ");
    append(s, inputs[i]->name);
  }
  append(s, "):\n");
  if (functional) append(s, "  # functional\n");
  for (const Proxy* p : inputs) {
    append(s, "  # ");
    append_definition(s, *p);
    // Of results, the modes in which they are made say it.
    if (const TensorProxy* t = as_tensor(p); t && t->is_inference) append(s, " inference");
    append(s, '\n');
  }
}

void append_body(std::string& s, std::span<const BoundSymbol* const> body, const Arg& output) {
  for (const BoundSymbol* bsym : body) {
    append(s, "  ");
    append_statement(s, *bsym);
    append(s, '\n');
  }
  append(s, "  return ");
  append(s, output);
  append(s, '\n');
}

void append_regions(std::string& s, std::span<const BoundSymbol* const> body) {
  for (const BoundSymbol* bsym : body) {
    const Subprogram* region = region_of(*bsym->symbol);
    if (!region) continue;
    append_head(s, region->name, region->inputs, false);
    append_body(s, region->body, region->output);
  }
}

void append_provenance(std::string& s, std::string_view text) {
  while (!text.empty()) {
    const size_t n = std::min(text.find('\n'), text.size());
    append(s, n ? "# " : "#");
    append(s, text.substr(0, n));
    append(s, '\n');
    text.remove_prefix(std::min(n + 1, text.size()));
  }
}

}  // namespace

std::string printed_name(const Symbol& symbol) {
  const SymbolInfo& info = *symbol.info;
  // A symbol that no callable of PyTorch is: found by its own name.
  if (info.torch_names.empty()) return cat("fulmen.symbols.", info.schema.name);
  return info.torch_names[0];
}

void append(std::string& s, const BoundSymbol& bsym) {
  // Types are compared with contiguous ones, which takes arithmetic on symbolic sizes.
  Arena scratch;
  const DimScope scope(scratch);
  append_statement(s, bsym);
}

std::string to_python(const Trace& trace) {
  Arena scratch;
  const DimScope scope(scratch);
  std::string s;
  s.reserve(256 + 128 * trace.body.size());
  append_provenance(s, trace.provenance);
  append_imports(s, trace);
  SmallVec<const Subprogram*, 4> printed;
  for_each_program(trace.body, [&](const Subprogram& p) {
    if (std::find(printed.begin(), printed.end(), &p) != printed.end()) return;
    printed.push_back(&p);
    append_regions(s, p.body);
    append_head(s, p.name, p.inputs, false);
    append_body(s, p.body, p.output);
  });
  append_regions(s, trace.body);
  append_head(s, trace.name, trace.inputs, trace.functional);
  for (const auto& group : trace.alias_groups) {
    append(s, "  # shared storage: ");
    for (size_t i = 0; i < group.size(); ++i) {
      if (i) append(s, ", ");
      append(s, group[i]->name);
    }
    append(s, '\n');
  }
  append_body(s, trace.body, trace.output);
  return s;
}

}  // namespace fulmen
