#include "ir/trace.h"

#include <algorithm>

#include "support/cat.h"
#include "support/error.h"

namespace fulmen {
namespace {

bool is_identifier_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// What a generated name must not shadow in the printed program.
bool is_reserved(std::string_view name) {
  static const std::unordered_set<std::string_view> kReserved = {
      "False", "None",     "True",  "and",    "as",   "assert",   "async",  "await",    "break",
      "class", "continue", "def",   "del",    "elif", "else",     "except", "finally",  "for",
      "from",  "global",   "if",    "import", "in",   "is",       "lambda", "nonlocal", "not",
      "or",    "pass",     "raise", "return", "try",  "while",    "with",   "yield",    "torch",
      "slice", "complex",  "float", "max",    "min",  "operator", "fulmen"};
  return kReserved.contains(name);
}

// s3 is a symbolic size, not a value.
bool is_symbol_name(std::string_view name) {
  if (name.size() < 2 || name[0] != 's') return false;
  for (const char c : name.substr(1)) {
    if (c < '0' || c > '9') return false;
  }
  return true;
}

}  // namespace

const Arg& BoundSymbol::arg(std::string_view param) const {
  const int i = symbol->info->schema.index(param);
  if (i < 0) internal_error(symbol->name(), " has no parameter ", param);
  return args[i];
}

TraceContext::~TraceContext() {
  for (const auto& [object, release] : owned_) release(object);
}

std::string_view TraceContext::unique_name(std::string_view hint) {
  if (hint.empty()) {
    std::string name;
    do {
      name = cat("t", next_temporary_++);
    } while (names_.contains(name));
    return *names_.insert(arena_.copy(std::string_view(name))).first;
  }
  std::string base;
  for (const char c : hint) base += is_identifier_char(c) ? c : '_';
  if (base[0] >= '0' && base[0] <= '9') base.insert(0, 1, '_');
  if (is_reserved(base) || is_symbol_name(base)) base += '_';
  std::string name = base;
  if (names_.contains(name)) {
    auto it = next_suffix_.find(base);
    if (it == next_suffix_.end()) {
      it = next_suffix_.emplace(arena_.copy(std::string_view(base)), 1).first;
    }
    do {
      name = cat(base, "_", it->second++);
    } while (names_.contains(name));
  }
  return *names_.insert(arena_.copy(std::string_view(name))).first;
}

TensorProxy* TraceContext::make_tensor(TensorType type, std::string_view name_hint) {
  auto* p = arena_.make<TensorProxy>();
  p->kind = ProxyKind::kTensor;
  p->id = next_id_++;
  p->name = unique_name(name_hint);
  p->type = std::move(type);
  return p;
}

NumberProxy* TraceContext::make_number(NumberType type, Dim value, std::string_view name_hint) {
  auto* p = arena_.make<NumberProxy>();
  p->kind = ProxyKind::kNumber;
  p->id = next_id_++;
  p->name = unique_name(name_hint);
  p->type = type;
  p->value = value;
  return p;
}

Proxy* TraceContext::make_proxy(ProxyKind kind, std::string_view name_hint) {
  Proxy* p = nullptr;
  switch (kind) {
    case ProxyKind::kTensor:
    case ProxyKind::kNumber: internal_error("make_proxy: this kind needs a type");
    case ProxyKind::kString: p = arena_.make<StringProxy>(); break;
    case ProxyKind::kCollection: p = arena_.make<CollectionProxy>(); break;
    case ProxyKind::kObject: p = arena_.make<ObjectProxy>(); break;
  }
  p->kind = kind;
  p->id = next_id_++;
  p->name = unique_name(name_hint);
  return p;
}

Dim TraceContext::make_symbolic_dim() {
  const DimScope scope(arena_);
  return symbol(next_symbol_++);
}

void TraceContext::reserve_symbolic_dims(int64_t count) {
  next_symbol_ = std::max(next_symbol_, static_cast<uint32_t>(count));
}

BoundSymbol* TraceContext::make_bound_symbol(const Symbol& symbol, std::span<const Arg> args,
                                             Arg output, const SourceLine* source) {
  return arena_.make<BoundSymbol>(BoundSymbol{&symbol, arena_.copy(args), output, source, {}});
}

Arg TraceContext::make_collection(Arg::Kind kind, std::span<const Arg> items) {
  return Arg::collection(kind, arena_.copy(items));
}

const SourceLine* TraceContext::make_source(const SourceLine& line) {
  return arena_.make<SourceLine>(
      SourceLine{arena_.copy(line.file), line.line, arena_.copy(line.function), line.checkpoint});
}

const Opaque* TraceContext::make_opaque(void* object, void (*release)(void*),
                                        std::string_view name_hint) {
  owned_.emplace_back(object, release);
  for (const Opaque* o : opaques_) {
    if (object && o->object == object) return o;
  }
  opaques_.push_back(arena_.make<Opaque>(Opaque{unique_name(name_hint), object}));
  return opaques_.back();
}

const Subprogram* TraceContext::make_program(const Trace& trace) {
  return arena_.make<Subprogram>(Subprogram{
      this, unique_name(trace.name), arena_.copy(std::span<const Proxy* const>(trace.inputs)),
      arena_.copy(std::span<const BoundSymbol* const>(trace.body)), trace.output});
}

Trace to_trace(const Subprogram& program) {
  Trace t;
  t.ctx = program.ctx->shared_from_this();
  t.name = std::string(program.name);
  t.inputs.assign(program.inputs.begin(), program.inputs.end());
  t.body.assign(program.body.begin(), program.body.end());
  t.output = program.output;
  t.functional = true;
  return t;
}

}  // namespace fulmen
