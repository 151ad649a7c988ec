#pragma once

#include "ir/symbol.h"

namespace fulmen {

// Scalar operations of the fusion backends; each backend has one exhaustive switch over them. They
// compute in the promoted dtype of the operands, as ATen does: bfloat16 and float16 in float32.
enum class Lane : uint8_t {
  kNone,
  // arithmetic; kRsub is second - first, kFloorDiv rounds to -inf, kRemainder has the divisor's
  // sign, kFmod the dividend's
  kAdd,
  kSub,
  kRsub,
  kMul,
  kDiv,
  kFloorDiv,
  kRemainder,
  kFmod,
  kNeg,
  kAbs,
  kReciprocal,
  kSign,
  kMaximum,
  kMinimum,  // NaN if an operand is NaN
  kFmax,
  kFmin,  // the other operand if one is NaN
  kCopysign,
  kNextafter,
  // rounding: kRound to nearest, ties to even
  kCeil,
  kFloor,
  kRound,
  kTrunc,
  kFrac,
  // powers, exponentials, logarithms
  kPow,
  kSqrt,
  kRsqrt,
  kExp,
  kExp2,
  kExpm1,
  kLog,
  kLog2,
  kLog10,
  kLog1p,
  // trigonometry
  kSin,
  kCos,
  kTan,
  kAsin,
  kAcos,
  kAtan,
  kAtan2,
  kSinh,
  kCosh,
  kTanh,
  kAsinh,
  kAcosh,
  kAtanh,
  kHypot,
  // special functions
  kErf,
  kErfc,
  kErfinv,
  kLgamma,
  kDigamma,
  kSigmoid,
  kRelu,
  // predicates and selection
  kIsNan,
  kIsInf,
  kIsFinite,
  kSignbit,
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kWhere,
  // bits and booleans
  kBitAnd,
  kBitOr,
  kBitXor,
  kBitNot,
  kShiftLeft,
  kShiftRight,
  kLogicalAnd,
  kLogicalOr,
  kLogicalXor,
  kLogicalNot,
  kConvert,  // to the dtype of the result
};

}  // namespace fulmen
