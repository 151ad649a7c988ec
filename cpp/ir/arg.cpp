#include "ir/arg.h"

#include <algorithm>
#include <cmath>

#include "ir/proxy.h"
#include "ir/trace.h"
#include "support/cat.h"
#include "support/error.h"

namespace fulmen {

Arg::Arg(const TensorProxy* p) : Arg(static_cast<const Proxy*>(p)) {}

Arg::Arg(Dim d) {
  if (d.is_concrete()) {
    kind_ = Kind::kInt;
    int_ = d.value();
  } else {
    kind_ = Kind::kSymInt;
    expr_ = d.expr();
  }
}

Arg Arg::collection(Kind kind, std::span<const Arg> items) {
  Arg a;
  a.kind_ = kind;
  a.count_ = static_cast<uint32_t>(items.size());
  a.items_ = items.data();
  return a;
}

Arg Arg::complex(const std::complex<double>* v) {
  Arg a;
  a.kind_ = Kind::kComplex;
  a.complex_ = v;
  return a;
}

Arg Arg::named(Kind kind, std::string_view torch_name) {
  Arg a(torch_name);
  a.kind_ = kind;
  return a;
}

Arg Arg::ellipsis() {
  Arg a;
  a.kind_ = Kind::kEllipsis;
  return a;
}

bool Arg::is_tensor() const { return is_proxy() && proxy_->kind == ProxyKind::kTensor; }

const TensorProxy* Arg::tensor() const { return is_proxy() ? as_tensor(proxy_) : nullptr; }

bool Arg::is_number() const {
  switch (kind_) {
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kSymInt:
    case Kind::kFloat:
    case Kind::kComplex: return true;
    case Kind::kProxy: return proxy_->kind == ProxyKind::kNumber;
    default: return false;
  }
}

Dim Arg::dim() const {
  if (kind_ == Kind::kSymInt) return Dim(expr_);
  if (const NumberProxy* n = is_proxy() ? as_number(proxy_) : nullptr) return n->value;
  return Dim(int_);
}

bool operator==(const Arg& a, const Arg& b) {
  if (a.kind_ != b.kind_) return false;
  switch (a.kind_) {
    case Arg::Kind::kNone:
    case Arg::Kind::kEllipsis: return true;
    case Arg::Kind::kProxy: return a.proxy_ == b.proxy_;
    case Arg::Kind::kBool:
    case Arg::Kind::kInt:
    case Arg::Kind::kDType: return a.int_ == b.int_;
    case Arg::Kind::kSymInt: return Dim(a.expr_) == Dim(b.expr_);
    // By bits: 0.0 and -0.0 differ, a NaN equals itself.
    case Arg::Kind::kFloat: return a.int_ == b.int_;
    case Arg::Kind::kComplex: return std::memcmp(a.complex_, b.complex_, sizeof *a.complex_) == 0;
    case Arg::Kind::kDevice: return a.device_ == b.device_;
    case Arg::Kind::kString:
    case Arg::Kind::kLayout:
    case Arg::Kind::kMemoryFormat: return a.text() == b.text();
    case Arg::Kind::kOpaque: return a.opaque_ == b.opaque_;
    case Arg::Kind::kProgram: return a.program_ == b.program_;
    case Arg::Kind::kList:
    case Arg::Kind::kTuple:
    case Arg::Kind::kDict:
    case Arg::Kind::kSlice: {
      if (a.count_ != b.count_) return false;
      for (uint32_t i = 0; i < a.count_; ++i) {
        if (!(a.items_[i] == b.items_[i])) return false;
      }
      return true;
    }
  }
  internal_error("unknown argument kind");
}

void append(std::string& s, const Arg& a) {
  const auto sequence = [&](const char* open, const char* close) {
    append(s, open);
    for (size_t i = 0; i < a.items().size(); ++i) {
      if (i) append(s, ", ");
      append(s, a.items()[i]);
    }
    append(s, close);
  };
  switch (a.kind()) {
    case Arg::Kind::kNone: return append(s, "None");
    case Arg::Kind::kProxy: return append(s, a.proxy()->name);
    case Arg::Kind::kBool: return append(s, a.boolean() ? "True" : "False");
    case Arg::Kind::kInt: return append(s, a.integer());
    case Arg::Kind::kSymInt: return append(s, a.dim());
    case Arg::Kind::kFloat: return append(s, a.real());
    case Arg::Kind::kComplex: {
      append(s, "complex(");
      append(s, a.complex().real());
      append(s, ", ");
      append(s, a.complex().imag());
      return append(s, ')');
    }
    case Arg::Kind::kString: return append(s, quoted(a.text()));
    case Arg::Kind::kDType: return append(s, cat("torch.", name(a.dtype())));
    case Arg::Kind::kDevice: return append(s, cat("torch.device('", to_string(a.device()), "')"));
    case Arg::Kind::kLayout:
    case Arg::Kind::kMemoryFormat: return append(s, cat("torch.", a.text()));
    case Arg::Kind::kList: return sequence("[", "]");
    case Arg::Kind::kTuple: return sequence("(", a.items().size() == 1 ? ",)" : ")");
    case Arg::Kind::kSlice: return sequence("slice(", ")");
    case Arg::Kind::kDict: {
      append(s, '{');
      for (size_t i = 0; i + 1 < a.items().size(); i += 2) {
        if (i) append(s, ", ");
        append(s, a.items()[i]);
        append(s, ": ");
        append(s, a.items()[i + 1]);
      }
      return append(s, '}');
    }
    case Arg::Kind::kEllipsis: return append(s, "...");
    case Arg::Kind::kOpaque: return append(s, a.opaque()->name);
    case Arg::Kind::kProgram: return append(s, a.program()->name);
  }
}

bool any_requires_grad(const Arg& a) {
  bool found = false;
  for_each_proxy(a, [&](const Proxy* p) {
    const TensorProxy* t = as_tensor(p);
    found = found || (t && t->type.requires_grad);
  });
  return found;
}

bool any_requires_grad(std::span<const Arg> args) {
  return std::any_of(args.begin(), args.end(), [](const Arg& a) { return any_requires_grad(a); });
}

void append_type(std::string& s, const Proxy& p) {
  static constexpr std::string_view kNumbers[] = {"bool", "int", "float", "complex"};
  switch (p.kind) {
    case ProxyKind::kTensor: return append(s, static_cast<const TensorProxy&>(p).type);
    case ProxyKind::kNumber: {
      const auto& n = static_cast<const NumberProxy&>(p);
      append(s, kNumbers[static_cast<int>(n.type)]);
      if (!is_zero(n.value)) {
        append(s, ' ');
        append(s, n.value);
      }
      return;
    }
    case ProxyKind::kString: return append(s, "str");
    case ProxyKind::kCollection: return append(s, "collection");
    case ProxyKind::kObject: return append(s, "object");
  }
}

}  // namespace fulmen
