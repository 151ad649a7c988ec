#pragma once

#include <span>

#include "ops/meta.h"

namespace fulmen {

inline constexpr uint32_t kElementwise = kPure | kPointwise;

// Metadata of elementwise operations on ATen's TensorIterator: which dtypes an operation computes
// on, the dtype of its result, and the strides that TensorIterator gives it.
namespace meta {

// A set of dtype categories that an operation computes on. Other calls are left to PyTorch, which
// raises its own error.
enum Accept : uint8_t {
  kBools = 1,
  kInts = 2,
  kFloats = 4,
  kComplexes = 8,
  kIntegers = kBools | kInts,
  kReals = kBools | kInts | kFloats,
  kNumeric = kInts | kFloats,
  kInexact = kFloats | kComplexes,
  kNoBool = kInts | kFloats | kComplexes,
  kAnyDType = 15,
  kNoHalf = 16,  // neither float16 nor bfloat16
  kRealsNoHalf = kReals | kNoHalf,
};

enum class Result : uint8_t {
  kCommon,  // the promoted type
  kFloat,   // the promoted type; bool and integers become the default dtype
  kBool,
  kReal,       // the promoted type, of a complex type its real one
  kRealFloat,  // both
};

// Throws Unsupported for a dtype outside of `accept`, and for the types that few operations take
// (float8, complex32, unsigned integers wider than 8 bits).
void require(const Call& in, DType t, uint8_t accept);
DType result_dtype(const Call& in, DType common, Result rule);

// The result of an iteration over `operands` (tensors, and numbers that eager wraps as tensors)
// that computes in `common`, to which the operands after the first `kept` are converted.
Arg iterate(Call& in, std::span<const Arg> operands, DType common, DType result, size_t kept = 0);

// Operands are the arguments of all Tensor and Tensor|Scalar parameters.
Arg elementwise(Call& in, uint8_t accept, Result rule);
template <uint8_t accept, Result rule>
Arg elementwise(Call& in) {
  return elementwise(in, accept, rule);
}

// Operands must already have one dtype, as eager demands where it does not promote.
Arg elementwise_unpromoted(Call& in, uint8_t accept);
template <uint8_t accept>
Arg elementwise_unpromoted(Call& in) {
  return elementwise_unpromoted(in, accept);
}

}  // namespace meta
}  // namespace fulmen
