#include "ir/dim.h"

#include "support/arena.h"
#include "support/error.h"

namespace fulmen {
namespace {

thread_local Arena* current_arena = nullptr;

bool equal(const DimExpr* a, const DimExpr* b) {
  if (a == b) return true;
  if (!a || !b || a->op != b->op || a->value != b->value) return false;
  return equal(a->lhs, b->lhs) && equal(a->rhs, b->rhs);
}

const DimExpr* node(DimOp op, int64_t value, const DimExpr* lhs, const DimExpr* rhs) {
  if (!current_arena) internal_error("symbolic dimension arithmetic outside a trace");
  return current_arena->make<DimExpr>(DimExpr{op, value, lhs, rhs});
}

const DimExpr* as_expr(Dim d) {
  return d.expr() ? d.expr() : node(DimOp::kConstant, d.value(), nullptr, nullptr);
}

int64_t floor_div_int(int64_t a, int64_t b) {
  const int64_t q = a / b;
  return (a % b != 0 && (a < 0) != (b < 0)) ? q - 1 : q;
}

int64_t apply(DimOp op, int64_t a, int64_t b) {
  switch (op) {
    case DimOp::kAdd: return a + b;
    case DimOp::kMul: return a * b;
    case DimOp::kFloorDiv: return floor_div_int(a, b);
    case DimOp::kMod: return a - floor_div_int(a, b) * b;
    case DimOp::kMax: return a > b ? a : b;
    case DimOp::kMin: return a < b ? a : b;
    case DimOp::kSymbol:
    case DimOp::kConstant: break;
  }
  internal_error("not a binary dimension operation");
}

Dim binary(DimOp op, Dim a, Dim b) {
  if (a.is_concrete() && b.is_concrete()) return apply(op, a.value(), b.value());
  return Dim(node(op, 0, as_expr(a), as_expr(b)));
}

void append_expr(std::string& s, const DimExpr* e) {
  const auto call = [&](const char* f) {
    append(s, f);
    append_expr(s, e->lhs);
    append(s, ", ");
    append_expr(s, e->rhs);
    append(s, ")");
  };
  const auto infix = [&](const char* op) {
    append(s, "(");
    append_expr(s, e->lhs);
    append(s, op);
    append_expr(s, e->rhs);
    append(s, ")");
  };
  switch (e->op) {
    case DimOp::kSymbol: return append(s, cat("s", e->value));
    case DimOp::kConstant: return append(s, e->value);
    case DimOp::kAdd: return infix(" + ");
    case DimOp::kMul: return infix(" * ");
    case DimOp::kFloorDiv: return infix(" // ");
    case DimOp::kMod: return infix(" % ");
    case DimOp::kMax: return call("max(");
    case DimOp::kMin: return call("min(");
  }
}

}  // namespace

Dim::Dim(const DimExpr* expr) {
  if (expr->op == DimOp::kConstant) {
    value_ = expr->value;
  } else {
    expr_ = expr;
  }
}

int64_t Dim::value() const {
  if (expr_) throw Unsupported("the size is symbolic");
  return value_;
}

bool operator==(Dim a, Dim b) { return a.value_ == b.value_ && equal(a.expr_, b.expr_); }

Dim operator+(Dim a, Dim b) {
  if (is_zero(a)) return b;
  if (is_zero(b)) return a;
  return binary(DimOp::kAdd, a, b);
}
Dim operator-(Dim a, Dim b) {
  if (a == b) return 0;
  return a + Dim(-1) * b;
}
Dim operator*(Dim a, Dim b) {
  if (is_zero(a) || is_zero(b)) return 0;
  if (is_one(a)) return b;
  if (is_one(b)) return a;
  return binary(DimOp::kMul, a, b);
}
Dim floor_div(Dim a, Dim b) { return is_one(b) ? a : binary(DimOp::kFloorDiv, a, b); }
Dim floor_mod(Dim a, Dim b) { return is_one(b) ? Dim(0) : binary(DimOp::kMod, a, b); }
Dim max(Dim a, Dim b) { return a == b ? a : binary(DimOp::kMax, a, b); }
Dim min(Dim a, Dim b) { return a == b ? a : binary(DimOp::kMin, a, b); }
Dim symbol(int64_t index) { return Dim(node(DimOp::kSymbol, index, nullptr, nullptr)); }
bool is_one(Dim d) { return d.is_concrete() && d.value() == 1; }
bool is_zero(Dim d) { return d.is_concrete() && d.value() == 0; }

void append(std::string& s, Dim d) {
  if (d.is_concrete()) return append(s, d.value());
  append_expr(s, d.expr());
}

DimScope::DimScope(Arena& arena) : outer_(current_arena) { current_arena = &arena; }
DimScope::~DimScope() { current_arena = outer_; }

}  // namespace fulmen
