#include "codegen/cpu/lanes.h"

#include <limits>

#include "support/error.h"

namespace fulmen::codegen::cpu {
namespace {

using F = VectorBuilder::FloatCompare;
using I = VectorBuilder::IntCompare;

bool is_half(DType t) { return t == DType::kFloat16 || t == DType::kBFloat16; }
bool is_signed(DType t) { return t != DType::kUInt8 && t != DType::kBool; }

// Lanes whose result a half type holds exactly when it holds the operands.
bool is_exact(Lane lane) {
  switch (lane) {
    case Lane::kNeg:
    case Lane::kAbs:
    case Lane::kSign:
    case Lane::kMaximum:
    case Lane::kMinimum:
    case Lane::kFmax:
    case Lane::kFmin:
    case Lane::kCopysign:
    case Lane::kCeil:
    case Lane::kFloor:
    case Lane::kRound:
    case Lane::kTrunc:
    case Lane::kRelu:
    case Lane::kWhere: return true;
    default: return false;
  }
}

}  // namespace

TypeRef Lanes::register_type(DType t) const {
  switch (t) {
    case DType::kBool: return b_.i1;
    case DType::kUInt8:
    case DType::kInt8: return b_.i8;
    case DType::kInt16: return b_.i16;
    case DType::kInt32: return b_.i32;
    case DType::kInt64: return b_.i64;
    case DType::kFloat16:
    case DType::kBFloat16:
    case DType::kFloat32: return b_.f32;
    case DType::kFloat64: return b_.f64;
    default: internal_error("no kernel has dtype ", name(t));
  }
}

TypeRef Lanes::memory_type(DType t) const {
  if (t == DType::kBool) return b_.i8;
  return is_half(t) ? b_.i16 : register_type(t);
}

Value Lanes::from_memory(Value v, DType t) {
  switch (t) {
    case DType::kBool: return b_.ICmp(I::kNe, v, b_.splat_integer(b_.i8, 0));
    case DType::kBFloat16:
      return b_.BitCast(b_.Shl(b_.ZExt(v, b_.vec(b_.i32)), b_.bits(16)), b_.vec(b_.f32));
    case DType::kFloat16:
      if (isa_.level == IsaLevel::kSse) return half_bits_to_float(v);
      return b_.FPExt(b_.BitCast(v, b_.vec(b_.f16)), b_.vec(b_.f32));
    default: return v;
  }
}

// The value of a half type is exact: its bits are cut off, not rounded again.
Value Lanes::to_memory(Value v, DType t) {
  switch (t) {
    case DType::kBool: return b_.ZExt(v, b_.vec(b_.i8));
    case DType::kBFloat16:
      return b_.Trunc(b_.LShr(b_.BitCast(v, b_.vec(b_.i32)), b_.bits(16)), b_.vec(b_.i16));
    case DType::kFloat16:
      if (isa_.level == IsaLevel::kSse) return float_to_half_bits(v);
      return b_.BitCast(b_.FPTrunc(v, b_.vec(b_.f16)), b_.vec(b_.i16));
    default: return v;
  }
}

// The exponent is moved by a multiplication, which also makes subnormals normal.
Value Lanes::half_bits_to_float(Value bits) {
  const TypeRef ints = b_.vec(b_.i32), floats = b_.vec(b_.f32);
  const Value h = b_.ZExt(bits, ints);
  const Value sign = b_.Shl(b_.And(h, b_.bits(0x8000)), b_.bits(16));
  const Value magnitude = b_.Shl(b_.And(h, b_.bits(0x7fff)), b_.bits(13));
  const Value scaled =
      b_.BitCast(b_.FMul(b_.BitCast(magnitude, floats), b_.real(5.192296858534828e+33)), ints);
  const Value special = b_.ICmp(I::kUge, magnitude, b_.bits(0x0f800000));
  const Value out = b_.Select(special, b_.Or(magnitude, b_.bits(0x7f800000)), scaled);
  return b_.BitCast(b_.Or(out, sign), floats);
}

Value Lanes::float_to_half_bits(Value v) {
  const TypeRef ints = b_.vec(b_.i32), floats = b_.vec(b_.f32);
  const Value u = b_.BitCast(v, ints);
  const Value a = b_.And(u, b_.bits(0x7fffffff));
  const Value odd = b_.And(b_.LShr(a, b_.bits(13)), b_.bits(1));
  const Value normal =
      b_.LShr(b_.Add(b_.Add(a, b_.bits(((15 - 127) * (1 << 23)) + 0xfff)), odd), b_.bits(13));
  // Adding 0.5 leaves the bits of a subnormal half in the lowest places, rounded.
  const Value small =
      b_.Sub(b_.BitCast(b_.FAdd(b_.BitCast(a, floats), b_.real(0.5)), ints), b_.bits(0x3f000000));
  Value out = b_.Select(b_.ICmp(I::kUlt, a, b_.bits(0x38800000)), small, normal);
  out = b_.Select(b_.ICmp(I::kUge, a, b_.bits(0x477ff000)), b_.bits(0x7c00), out);
  out = b_.Select(b_.ICmp(I::kUgt, a, b_.bits(0x7f800000)), b_.bits(0x7e00), out);
  out = b_.Or(out, b_.LShr(b_.And(u, b_.bits(int64_t{0x80000000})), b_.bits(16)));
  return b_.Trunc(out, b_.vec(b_.i16));
}

Value Lanes::rounded(Value v, DType t) {
  if (t == DType::kBFloat16) {
    const Value u = b_.BitCast(v, b_.vec(b_.i32));
    const Value odd = b_.And(b_.LShr(u, b_.bits(16)), b_.bits(1));
    const Value up = b_.And(b_.Add(b_.Add(u, b_.bits(0x7fff)), odd), b_.bits(int64_t{0xffff0000}));
    return b_.BitCast(b_.Select(b_.is_nan(v), b_.bits(0x7fc00000), up), b_.vec(b_.f32));
  }
  if (t == DType::kFloat16) return from_memory(to_memory(v, t), t);
  return v;
}

Value Lanes::constant(const Node& n) const {
  if (!is_floating(n.dtype)) return b_.splat_integer(register_type(n.dtype), n.integer);
  if (is_half(n.dtype) && !n.in_float) {
    return const_cast<Lanes*>(this)->rounded(b_.real(static_cast<float>(n.real)), n.dtype);
  }
  return b_.splat_real(register_type(n.dtype), n.real);
}

Value Lanes::number(const Node& n, Value scalar, bool is_float) {
  const Value v = b_.splat(scalar);
  if (is_half(n.dtype) && n.in_float) {
    return is_float ? b_.FPTrunc(v, b_.vec(b_.f32)) : b_.SIToFP(v, b_.vec(b_.f32));
  }
  return convert(v, is_float ? DType::kFloat64 : DType::kInt64, n.dtype);
}

Value Lanes::nonzero(Value v, DType t) {
  if (t == DType::kBool) return v;
  if (is_floating(t)) return b_.FCmp(F::kUne, v, b_.splat_real(register_type(t), 0.0));
  return b_.ICmp(I::kNe, v, b_.splat_integer(register_type(t), 0));
}

Value Lanes::convert(Value v, DType from, DType to) {
  if (from == to) return v;
  const TypeRef target = b_.vec(register_type(to));
  if (to == DType::kBool) return nonzero(v, from);
  if (from == DType::kBool) {
    return is_floating(to) ? b_.UIToFP(v, target) : b_.ZExt(v, target);
  }
  if (is_floating(from) && is_floating(to)) {
    if (to == DType::kFloat64) return b_.FPExt(v, target);
    return rounded(from == DType::kFloat64 ? b_.FPTrunc(v, target) : v, to);
  }
  if (is_floating(to)) {
    v = is_signed(from) ? b_.SIToFP(v, target) : b_.UIToFP(v, target);
    return rounded(v, to);
  }
  if (is_floating(from)) {
    // Small integers come from a wider one, as a C cast of a value out of range does.
    if (to == DType::kInt64) return b_.FPToSI(v, target);
    const Value wide = b_.FPToSI(v, b_.vec(b_.i32));
    return to == DType::kInt32 ? wide : b_.Trunc(wide, target);
  }
  if (itemsize(to) == itemsize(from)) return v;
  if (itemsize(to) < itemsize(from)) return b_.Trunc(v, target);
  return is_signed(from) ? b_.SExt(v, target) : b_.ZExt(v, target);
}

Value Lanes::operation(const Node& n, std::span<const Value> x, const Node* constant_operand,
                       Precision precision) {
  if (n.lane == Lane::kConvert) return convert(x[0], n.compute, n.dtype);
  if (n.lane == Lane::kWhere) return b_.Select(x[0], x[1], x[2]);
  if (n.dtype == DType::kBool && n.compute != DType::kBool) return predicate(n, x);
  if (n.compute == DType::kBool) return truth_operation(n, x);
  if (!is_floating(n.compute)) return integer_operation(n, x);
  const Value v =
      real_operation(n, x, constant_operand, is_half(n.dtype) ? Precision::kCoarse : precision);
  return is_exact(n.lane) ? v : rounded(v, n.dtype);
}

Value Lanes::float_extremum(Value x, Value y, bool maximum) {
  const Value best = b_.Select(b_.FCmp(maximum ? F::kOgt : F::kOlt, x, y), x, y);
  return b_.Select(b_.is_nan(x), x, best);  // a NaN in y compares false and is taken
}

// ATen special-cases these exponents in the same way.
Value Lanes::power(TypeRef kind, Value x, Value y, const Node* exponent) {
  const auto one = [&] { return b_.splat_real(kind, 1.0); };
  if (exponent) {
    const double e = exponent->real;
    if (e == 0.5) return math_.sqrt(x);
    if (e == 2.0) return b_.FMul(x, x);
    if (e == 3.0) return b_.FMul(b_.FMul(x, x), x);
    if (e == -0.5) return b_.FDiv(one(), math_.sqrt(x));
    if (e == -1.0) return b_.FDiv(one(), x);
    if (e == -2.0) return b_.FDiv(one(), b_.FMul(x, x));
  }
  return math_.library("pow", "u10", kind, {x, y});
}

// Python's floor division, exact where x / y rounds up to an integer.
Value Lanes::floor_divide(TypeRef kind, Value x, Value y) {
  const auto real = [&](double v) { return b_.splat_real(kind, v); };
  const Value mod = math_.library("fmod", "", kind, {x, y});
  Value div = b_.FDiv(b_.FSub(x, mod), y);
  const Value signs_differ =
      b_.Xor(b_.FCmp(F::kOlt, y, real(0.0)), b_.FCmp(F::kOlt, mod, real(0.0)));
  const Value inexact = b_.And(b_.FCmp(F::kUne, mod, real(0.0)), signs_differ);
  div = b_.Select(inexact, b_.FSub(div, real(1.0)), div);
  const Value floored = b_.intrinsic("llvm.floor", {div});
  const Value up = b_.FCmp(F::kOgt, b_.FSub(div, floored), real(0.5));
  Value out = b_.Select(up, b_.FAdd(floored, real(1.0)), floored);
  const Value quotient = b_.FDiv(x, y);
  out = b_.Select(b_.FCmp(F::kUne, div, real(0.0)), out, b_.copysign(real(0.0), quotient));
  return b_.Select(b_.FCmp(F::kOeq, y, real(0.0)), quotient, out);
}

Value Lanes::real_operation(const Node& n, std::span<const Value> x, const Node* constant,
                            Precision precision) {
  const TypeRef kind = register_type(n.compute);
  const auto real = [&](double v) { return b_.splat_real(kind, v); };
  const auto library = [&](std::string_view name, std::string_view accuracy = "u10") {
    if (x.size() == 2) return math_.library(name, accuracy, kind, {x[0], x[1]});
    return math_.library(name, accuracy, kind, {x[0]});
  };
  // A function of one double.
  const auto scalar = [&](const char* name) {
    const bool single = kind == b_.f32;
    const Value wide = single ? b_.FPExt(x[0], b_.vec(b_.f64)) : x[0];
    const Value y = math_.elementwise(name, b_.f64, {wide});
    return single ? b_.FPTrunc(y, b_.vec(b_.f32)) : y;
  };
  switch (n.lane) {
    case Lane::kAdd: return b_.FAdd(x[0], x[1]);
    case Lane::kSub: return b_.FSub(x[0], x[1]);
    case Lane::kRsub: return b_.FSub(x[1], x[0]);
    case Lane::kMul: return b_.FMul(x[0], x[1]);
    case Lane::kDiv: return b_.FDiv(x[0], x[1]);
    case Lane::kFloorDiv: return floor_divide(kind, x[0], x[1]);
    case Lane::kRemainder: {
      const Value mod = library("fmod", "");
      const Value signs_differ =
          b_.Xor(b_.FCmp(F::kOlt, x[1], real(0.0)), b_.FCmp(F::kOlt, mod, real(0.0)));
      const Value wrong = b_.And(b_.FCmp(F::kUne, mod, real(0.0)), signs_differ);
      return b_.Select(wrong, b_.FAdd(mod, x[1]), mod);
    }
    case Lane::kFmod: return library("fmod", "");
    case Lane::kNeg: return b_.FNeg(x[0]);
    case Lane::kAbs: return b_.fabs(x[0]);
    case Lane::kReciprocal: return b_.FDiv(real(1.0), x[0]);
    case Lane::kSign: {
      const Value positive = b_.Select(b_.FCmp(F::kOgt, x[0], real(0.0)), real(1.0), real(0.0));
      return b_.Select(b_.FCmp(F::kOlt, x[0], real(0.0)), real(-1.0), positive);
    }
    case Lane::kMaximum: return float_extremum(x[0], x[1], true);
    case Lane::kMinimum: return float_extremum(x[0], x[1], false);
    case Lane::kFmax:
    case Lane::kFmin: {
      const Value first = b_.FCmp(n.lane == Lane::kFmax ? F::kOgt : F::kOlt, x[0], x[1]);
      // The first operand where it wins, or where the second is a NaN.
      return b_.Select(b_.Or(first, b_.is_nan(x[1])), x[0], x[1]);
    }
    case Lane::kCopysign: return b_.copysign(x[0], x[1]);
    case Lane::kNextafter: return library("nextafter", "");
    case Lane::kCeil: return b_.intrinsic("llvm.ceil", {x[0]});
    case Lane::kFloor: return b_.intrinsic("llvm.floor", {x[0]});
    case Lane::kRound: return b_.intrinsic("llvm.rint", {x[0]});
    case Lane::kTrunc: return b_.intrinsic("llvm.trunc", {x[0]});
    case Lane::kFrac: return b_.FSub(x[0], b_.intrinsic("llvm.trunc", {x[0]}));
    case Lane::kPow: return power(kind, x[0], x[1], constant);
    case Lane::kSqrt: return math_.sqrt(x[0]);
    case Lane::kRsqrt: return b_.FDiv(real(1.0), math_.sqrt(x[0]));
    case Lane::kExp: return math_.exp(x[0], kind);
    case Lane::kExp2: return library("exp2");
    case Lane::kExpm1: return math_.expm1(x[0], kind);
    case Lane::kLog: return math_.log(x[0], kind);
    case Lane::kLog2: return library("log2");
    case Lane::kLog10: return library("log10");
    case Lane::kLog1p: return math_.log1p(x[0], kind);
    case Lane::kSin: return math_.sin(x[0], kind);
    case Lane::kCos: return math_.cos(x[0], kind);
    case Lane::kTan: return library("tan");
    case Lane::kAsin: return library("asin");
    case Lane::kAcos: return library("acos");
    case Lane::kAtan: return library("atan");
    case Lane::kAtan2: return library("atan2");
    case Lane::kSinh: return math_.sinh(x[0], kind);
    case Lane::kCosh: return math_.sinh(x[0], kind, true);
    case Lane::kTanh: return math_.tanh(x[0], kind);
    case Lane::kAsinh: return math_.asinh(x[0], kind);
    case Lane::kAcosh: return math_.asinh(x[0], kind, true);
    case Lane::kAtanh: return library("atanh");
    case Lane::kHypot: return library("hypot", "u05");
    case Lane::kErf:
      if (kind != b_.f32 || precision == Precision::kFull) return math_.erf(x[0], kind);
      return precision == Precision::kCoarse ? math_.coarse_erf(x[0]) : math_.absolute_erf(x[0]);
    case Lane::kErfc: return library("erfc", "u15");
    case Lane::kErfinv: return scalar("fulmen_erfinv");
    case Lane::kLgamma: return library("lgamma");
    case Lane::kDigamma: return scalar("fulmen_digamma");
    case Lane::kSigmoid: return math_.sigmoid(x[0], kind);
    case Lane::kRelu: return b_.Select(b_.FCmp(F::kOlt, x[0], real(0.0)), real(0.0), x[0]);
    case Lane::kNone:
    case Lane::kIsNan:
    case Lane::kIsInf:
    case Lane::kIsFinite:
    case Lane::kSignbit:
    case Lane::kEq:
    case Lane::kNe:
    case Lane::kLt:
    case Lane::kLe:
    case Lane::kGt:
    case Lane::kGe:
    case Lane::kWhere:
    case Lane::kBitAnd:
    case Lane::kBitOr:
    case Lane::kBitXor:
    case Lane::kBitNot:
    case Lane::kShiftLeft:
    case Lane::kShiftRight:
    case Lane::kLogicalAnd:
    case Lane::kLogicalOr:
    case Lane::kLogicalXor:
    case Lane::kLogicalNot:
    case Lane::kConvert: break;
  }
  internal_error("lane ", static_cast<int>(n.lane), " is not of real numbers");
}

}  // namespace fulmen::codegen::cpu
