#include <limits>

#include "codegen/cpu/lanes.h"
#include "support/error.h"

namespace fulmen::codegen::cpu {
namespace {

using F = VectorBuilder::FloatCompare;
using I = VectorBuilder::IntCompare;

bool is_signed(DType t) { return t != DType::kUInt8 && t != DType::kBool; }

int64_t lowest(DType t) {
  if (!is_signed(t)) return 0;
  return std::numeric_limits<int64_t>::min() >> (64 - 8 * itemsize(t));
}
int64_t highest(DType t) { return is_signed(t) ? -(lowest(t) + 1) : 255; }

}  // namespace

// The divisor is a constant other than 0 and -1.
Value Lanes::floor_divide_integers(bool is_signed, Value x, Value y) {
  if (!is_signed) return b_.UDiv(x, y);
  const TypeRef type = b_.api().TypeOf(x);
  const Value zero = b_.api().ConstNull(type);
  const Value quotient = b_.SDiv(x, y), rest = b_.SRem(x, y);
  const Value signs_differ = b_.ICmp(I::kSlt, b_.Xor(x, y), zero);
  const Value down = b_.And(b_.ICmp(I::kNe, rest, zero), signs_differ);
  return b_.Add(quotient, b_.SExt(down, type));
}

Value Lanes::integer_operation(const Node& n, std::span<const Value> x) {
  const bool sign = is_signed(n.compute);
  const TypeRef element = register_type(n.compute);
  const auto integer = [&](int64_t v) { return b_.splat_integer(element, v); };
  const int64_t bits = 8 * itemsize(n.compute);
  switch (n.lane) {
    case Lane::kAdd: return b_.Add(x[0], x[1]);
    case Lane::kSub: return b_.Sub(x[0], x[1]);
    case Lane::kRsub: return b_.Sub(x[1], x[0]);
    case Lane::kMul: return b_.Mul(x[0], x[1]);
    case Lane::kFloorDiv: return floor_divide_integers(sign, x[0], x[1]);
    case Lane::kRemainder:
      if (!sign) return b_.URem(x[0], x[1]);
      return b_.Sub(x[0], b_.Mul(floor_divide_integers(sign, x[0], x[1]), x[1]));
    case Lane::kFmod: return sign ? b_.SRem(x[0], x[1]) : b_.URem(x[0], x[1]);
    case Lane::kNeg: return b_.Neg(x[0]);
    case Lane::kAbs:
      if (!sign) return x[0];
      return b_.Select(b_.ICmp(I::kSlt, x[0], integer(0)), b_.Neg(x[0]), x[0]);
    case Lane::kSign: {
      const Value positive =
          b_.Select(b_.ICmp(sign ? I::kSgt : I::kUgt, x[0], integer(0)), integer(1), integer(0));
      if (!sign) return positive;
      return b_.Select(b_.ICmp(I::kSlt, x[0], integer(0)), integer(-1), positive);
    }
    case Lane::kMaximum:
    case Lane::kFmax: return b_.Select(b_.ICmp(sign ? I::kSgt : I::kUgt, x[0], x[1]), x[0], x[1]);
    case Lane::kMinimum:
    case Lane::kFmin: return b_.Select(b_.ICmp(sign ? I::kSlt : I::kUlt, x[0], x[1]), x[0], x[1]);
    case Lane::kRelu:
      return b_.Select(b_.ICmp(sign ? I::kSlt : I::kUlt, x[0], integer(0)), integer(0), x[0]);
    case Lane::kCeil:
    case Lane::kFloor:
    case Lane::kRound:
    case Lane::kTrunc: return x[0];
    case Lane::kPow: {
      const TypeRef wide = b_.vec(b_.i64);
      const auto widened = [&](Value v) {
        return bits == 64 ? v : sign ? b_.SExt(v, wide) : b_.ZExt(v, wide);
      };
      const Value y = math_.elementwise("fulmen_pow_i64", b_.i64, {widened(x[0]), widened(x[1])});
      return bits == 64 ? y : b_.Trunc(y, b_.vec(element));
    }
    case Lane::kBitAnd: return b_.And(x[0], x[1]);
    case Lane::kBitOr: return b_.Or(x[0], x[1]);
    case Lane::kBitXor: return b_.Xor(x[0], x[1]);
    case Lane::kBitNot: return b_.Not(x[0]);
    // As ATen, shifts by more than the width, or by less than 0, shift everything out.
    case Lane::kShiftLeft: {
      const Value inside = b_.ICmp(I::kUlt, x[1], integer(bits));
      return b_.Select(inside, b_.Shl(x[0], b_.Select(inside, x[1], integer(0))), integer(0));
    }
    case Lane::kShiftRight: {
      const Value inside = b_.ICmp(I::kUlt, x[1], integer(bits));
      const Value by = b_.Select(inside, x[1], integer(sign ? bits - 1 : 0));
      if (sign) return b_.AShr(x[0], by);
      return b_.Select(inside, b_.LShr(x[0], by), integer(0));
    }
    default: internal_error("lane ", static_cast<int>(n.lane), " is not of integers");
  }
}

// bool: + is or, * is and, as in ATen.
Value Lanes::truth_operation(const Node& n, std::span<const Value> x) {
  switch (n.lane) {
    case Lane::kAdd:
    case Lane::kMaximum:
    case Lane::kFmax:
    case Lane::kBitOr:
    case Lane::kLogicalOr:
    case Lane::kGe:
      if (n.lane == Lane::kGe) return b_.Or(x[0], b_.Not(x[1]));
      return b_.Or(x[0], x[1]);
    case Lane::kMul:
    case Lane::kMinimum:
    case Lane::kFmin:
    case Lane::kBitAnd:
    case Lane::kLogicalAnd: return b_.And(x[0], x[1]);
    case Lane::kBitXor:
    case Lane::kLogicalXor:
    case Lane::kNe: return b_.Xor(x[0], x[1]);
    case Lane::kEq: return b_.Not(b_.Xor(x[0], x[1]));
    case Lane::kLt: return b_.And(b_.Not(x[0]), x[1]);
    case Lane::kLe: return b_.Or(b_.Not(x[0]), x[1]);
    case Lane::kGt: return b_.And(x[0], b_.Not(x[1]));
    case Lane::kBitNot:
    case Lane::kLogicalNot: return b_.Not(x[0]);
    case Lane::kSign:
    case Lane::kAbs:
    case Lane::kRelu: return x[0];
    case Lane::kIsNan:
    case Lane::kIsInf:
    case Lane::kSignbit: return b_.truth(false);
    case Lane::kIsFinite: return b_.truth(true);
    default: internal_error("lane ", static_cast<int>(n.lane), " is not of truth values");
  }
}

Value Lanes::predicate(const Node& n, std::span<const Value> x) {
  const bool real = is_floating(n.compute), sign = is_signed(n.compute);
  const TypeRef element = register_type(n.compute);
  const auto compare = [&](F f, I s, I u) {
    return real ? b_.FCmp(f, x[0], x[1]) : b_.ICmp(sign ? s : u, x[0], x[1]);
  };
  switch (n.lane) {
    case Lane::kEq: return compare(F::kOeq, I::kEq, I::kEq);
    case Lane::kNe: return compare(F::kUne, I::kNe, I::kNe);
    case Lane::kLt: return compare(F::kOlt, I::kSlt, I::kUlt);
    case Lane::kLe: return compare(F::kOle, I::kSle, I::kUle);
    case Lane::kGt: return compare(F::kOgt, I::kSgt, I::kUgt);
    case Lane::kGe: return compare(F::kOge, I::kSge, I::kUge);
    case Lane::kLogicalAnd: return b_.And(nonzero(x[0], n.compute), nonzero(x[1], n.compute));
    case Lane::kLogicalOr: return b_.Or(nonzero(x[0], n.compute), nonzero(x[1], n.compute));
    case Lane::kLogicalXor: return b_.Xor(nonzero(x[0], n.compute), nonzero(x[1], n.compute));
    case Lane::kLogicalNot: return b_.Not(nonzero(x[0], n.compute));
    case Lane::kIsNan: return real ? b_.is_nan(x[0]) : b_.truth(false);
    case Lane::kIsInf:
    case Lane::kIsFinite: {
      if (!real) return b_.truth(n.lane == Lane::kIsFinite);
      const Value infinity = b_.splat_real(element, std::numeric_limits<double>::infinity());
      const F how = n.lane == Lane::kIsInf ? F::kOeq : F::kOlt;
      return b_.FCmp(how, b_.fabs(x[0]), infinity);
    }
    case Lane::kSignbit: {
      if (!real)
        return sign ? b_.ICmp(I::kSlt, x[0], b_.splat_integer(element, 0)) : b_.truth(false);
      const TypeRef bits = element == b_.f32 ? b_.i32 : b_.i64;
      return b_.ICmp(I::kSlt, b_.BitCast(x[0], b_.vec(bits)), b_.splat_integer(bits, 0));
    }
    default: internal_error("lane ", static_cast<int>(n.lane), " is no predicate");
  }
}

Value Lanes::identity(ReduceOp op, DType t) const {
  const TypeRef element = register_type(t);
  const double infinity = std::numeric_limits<double>::infinity();
  const bool real = is_floating(t);
  switch (op) {
    case ReduceOp::kSum: return real ? b_.splat_real(element, 0.0) : b_.splat_integer(element, 0);
    case ReduceOp::kProd: return real ? b_.splat_real(element, 1.0) : b_.splat_integer(element, 1);
    case ReduceOp::kMax:
      if (t == DType::kBool) return b_.truth(false);
      return real ? b_.splat_real(element, -infinity) : b_.splat_integer(element, lowest(t));
    case ReduceOp::kMin:
      if (t == DType::kBool) return b_.truth(true);
      return real ? b_.splat_real(element, infinity) : b_.splat_integer(element, highest(t));
    case ReduceOp::kAny: return b_.truth(false);
    case ReduceOp::kAll: return b_.truth(true);
  }
  internal_error("an unknown reduction");
}

Value Lanes::combine(ReduceOp op, DType t, Value a, Value b) {
  Node n;
  n.compute = n.dtype = t;
  switch (op) {
    case ReduceOp::kSum: n.lane = Lane::kAdd; break;
    case ReduceOp::kProd: n.lane = Lane::kMul; break;
    case ReduceOp::kMax: n.lane = Lane::kMaximum; break;
    case ReduceOp::kMin: n.lane = Lane::kMinimum; break;
    case ReduceOp::kAny: n.lane = Lane::kLogicalOr; break;
    case ReduceOp::kAll: n.lane = Lane::kLogicalAnd; break;
  }
  const Value x[] = {a, b};
  return operation(n, x, nullptr);
}

}  // namespace fulmen::codegen::cpu
