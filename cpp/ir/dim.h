#pragma once

#include <cstdint>
#include <string>

#include "support/small_vec.h"

namespace fulmen {

class Arena;

enum class DimOp : uint8_t { kSymbol, kConstant, kAdd, kMul, kFloorDiv, kMod, kMax, kMin };

// An integer expression over named symbols. Nodes live in the arena of a trace and are immutable.
struct DimExpr {
  DimOp op;
  int64_t value;  // kConstant: the number; kSymbol: its index (prints as s0, s1, …)
  const DimExpr* lhs;
  const DimExpr* rhs;
};

// A dimension of a tensor, or a stride: an integer, or a symbolic expression.
class Dim {
 public:
  constexpr Dim() = default;
  constexpr Dim(int64_t value) : value_(value) {}
  constexpr Dim(int value) : value_(value) {}
  constexpr Dim(size_t value) : value_(static_cast<int64_t>(value)) {}
  explicit Dim(const DimExpr* expr);

  bool is_concrete() const { return expr_ == nullptr; }
  // The integer. Throws Unsupported when symbolic: the caller falls back to an opaque symbol.
  int64_t value() const;
  int64_t value_or(int64_t other) const { return expr_ ? other : value_; }
  const DimExpr* expr() const { return expr_; }

  // Structural equality: two different expressions may still be equal in value.
  friend bool operator==(Dim a, Dim b);

 private:
  int64_t value_ = 0;
  const DimExpr* expr_ = nullptr;
};

// The arithmetic allocates in the arena of the innermost DimScope of this thread when an operand is
// symbolic, and throws InternalError where there is none.
Dim operator+(Dim a, Dim b);
Dim operator-(Dim a, Dim b);
Dim operator*(Dim a, Dim b);
Dim floor_div(Dim a, Dim b);
Dim floor_mod(Dim a, Dim b);
Dim max(Dim a, Dim b);
Dim min(Dim a, Dim b);
Dim symbol(int64_t index);
// True only when the comparison holds for every value of the symbols (sizes are ≥ 0).
bool is_one(Dim d);
bool is_zero(Dim d);

void append(std::string& s, Dim d);

class DimScope {
 public:
  explicit DimScope(Arena& arena);
  ~DimScope();
  DimScope(const DimScope&) = delete;
  DimScope& operator=(const DimScope&) = delete;

 private:
  Arena* outer_;
};

using Dims = SmallVec<Dim, 6>;

}  // namespace fulmen
