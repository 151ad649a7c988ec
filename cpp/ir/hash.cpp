#include "ir/hash.h"

#include <bit>
#include <unordered_map>

#include "ir/region.h"
#include "support/hash.h"

namespace fulmen {
namespace {

// A trace as a sequence of words and texts in which values and symbolic sizes are numbered in order
// of appearance; equal traces give equal sequences.
template <class Sink>
class Encoder {
 public:
  Encoder(Sink& sink, bool names) : sink_(sink), names_(names) {}

  void trace(const Trace& t) {
    word(t.functional);
    word(t.inputs.size());
    for (const Proxy* p : t.inputs) proxy(p);
    word(t.alias_groups.size());
    for (const auto& group : t.alias_groups) {
      word(group.size());
      for (const Proxy* p : group) proxy(p);
    }
    body(t.body);
    arg(t.output);
  }

 private:
  void body(std::span<const BoundSymbol* const> bsyms) {
    word(bsyms.size());
    for (const BoundSymbol* b : bsyms) {
      text(b->symbol->info->schema.name);
      word(b->symbol->tags);
      if (const Subprogram* region = region_of(*b->symbol)) program(*region);
      text(b->executor);
      word(b->args.size());
      for (const Arg& a : b->args) arg(a);
      arg(b->output);
    }
  }

  void program(const Subprogram& p) {
    if (names_) text(p.name);
    word(p.inputs.size());
    for (const Proxy* input : p.inputs) proxy(input);
    body(p.body);
    arg(p.output);
  }

  void word(uint64_t v) { sink_.add(v); }
  void text(std::string_view s) { sink_.add(s); }

  // The number; the first time also the type.
  void proxy(const Proxy* p) {
    const auto [it, fresh] = proxies_.emplace(p, proxies_.size());
    word(it->second);
    if (!fresh) return;
    if (names_) text(p->name);
    word(static_cast<uint64_t>(p->kind));
    if (const NumberProxy* n = as_number(p)) {
      word(static_cast<uint64_t>(n->type));
      dim(n->value);
    }
    if (const TensorProxy* t = as_tensor(p)) {
      word(static_cast<uint64_t>(t->type.dtype));
      device(t->type.device);
      word(t->type.requires_grad + 2 * t->is_leaf + 4 * (t->alias_of != nullptr));
      dims(t->type.shape);
      dims(t->type.strides);
      if (t->alias_of) proxy(t->alias_of);
    }
  }

  void device(Device d) {
    word(static_cast<uint64_t>(d.type) * 256 + static_cast<uint8_t>(d.index));
  }

  void dims(std::span<const Dim> v) {
    word(v.size());
    for (const Dim d : v) dim(d);
  }

  void dim(Dim d) {
    word(d.is_concrete());
    if (d.is_concrete()) {
      word(static_cast<uint64_t>(d.value()));
    } else {
      expr(d.expr());
    }
  }

  void expr(const DimExpr* e) {
    word(static_cast<uint64_t>(e->op));
    if (e->op == DimOp::kConstant) return word(static_cast<uint64_t>(e->value));
    if (e->op == DimOp::kSymbol) {
      word(names_ ? static_cast<uint64_t>(e->value)
                  : symbols_.emplace(e->value, symbols_.size()).first->second);
      return;
    }
    expr(e->lhs);
    expr(e->rhs);
  }

  void arg(const Arg& a) {
    word(static_cast<uint64_t>(a.kind()));
    switch (a.kind()) {
      case Arg::Kind::kNone:
      case Arg::Kind::kEllipsis: return;
      case Arg::Kind::kProxy: return proxy(a.proxy());
      case Arg::Kind::kBool: return word(a.boolean());
      case Arg::Kind::kInt: return word(static_cast<uint64_t>(a.integer()));
      case Arg::Kind::kSymInt: return dim(a.dim());
      case Arg::Kind::kFloat: return real(a.real());
      case Arg::Kind::kComplex: real(a.complex().real()); return real(a.complex().imag());
      case Arg::Kind::kDType: return word(static_cast<uint64_t>(a.dtype()));
      case Arg::Kind::kDevice: return device(a.device());
      case Arg::Kind::kString:
      case Arg::Kind::kLayout:
      case Arg::Kind::kMemoryFormat: return text(a.text());
      case Arg::Kind::kOpaque: return text(a.opaque()->name);
      case Arg::Kind::kProgram: return program(*a.program());
      case Arg::Kind::kList:
      case Arg::Kind::kTuple:
      case Arg::Kind::kDict:
      case Arg::Kind::kSlice:
        word(a.items().size());
        for (const Arg& item : a.items()) arg(item);
        return;
    }
  }

  // All NaNs are one: their text does not keep the payload.
  void real(double v) { word(v != v ? ~uint64_t{0} : std::bit_cast<uint64_t>(v)); }

  Sink& sink_;
  const bool names_;
  std::unordered_map<const Proxy*, uint64_t> proxies_;
  std::unordered_map<int64_t, uint64_t> symbols_;
};

struct Recording {
  std::vector<uint64_t> words;
  std::string texts;

  void add(uint64_t v) { words.push_back(v); }
  void add(std::string_view s) {
    words.push_back(s.size());
    texts.append(s);
  }
  friend bool operator==(const Recording&, const Recording&) = default;
};

Recording recording(const Trace& t, bool names) {
  Recording r;
  Encoder<Recording>(r, names).trace(t);
  return r;
}

}  // namespace

uint64_t hash(const Trace& trace) {
  Hasher h;
  Encoder<Hasher>(h, false).trace(trace);
  return h.value();
}

bool equal(const Trace& a, const Trace& b, CompareNames names) {
  const bool with_names = names == CompareNames::kYes;
  return recording(a, with_names) == recording(b, with_names);
}

}  // namespace fulmen
