#pragma once

#include "codegen/cpu/vector_math.h"
#include "codegen/loop_program.h"

namespace fulmen::codegen::cpu {

// How exact the result of an operation on float32 must be.
enum class Precision : uint8_t {
  kFull,
  kAbsolute,  // where 1 is added to it: small results lose their last places
  kCoarse,    // only for values of half types
};

// Scalar operations on vectors. In registers bool is i1, float16 and bfloat16 are float32 values
// that the smaller type holds exactly, all other types are themselves.
class Lanes {
 public:
  Lanes(VectorBuilder& builder, const Isa& isa) : b_(builder), isa_(isa), math_(builder, isa) {}

  TypeRef register_type(DType t) const;  // of one element
  TypeRef memory_type(DType t) const;
  Value from_memory(Value v, DType t);
  Value to_memory(Value v, DType t);

  Value constant(const Node& n) const;
  // A number given at run time, an int64 or double by `is_float`, as the node's type.
  Value number(const Node& n, Value scalar, bool is_float);
  // What the node computes; `constant_operand` is its second operand where that is a constant.
  Value operation(const Node& n, std::span<const Value> x, const Node* constant_operand,
                  Precision precision = Precision::kFull);
  Value convert(Value v, DType from, DType to);

  // Reductions.
  Value identity(ReduceOp op, DType t) const;
  Value combine(ReduceOp op, DType t, Value a, Value b);

 private:
  Value rounded(Value v, DType t);  // float32 to the nearest value of a half type
  Value half_bits_to_float(Value bits);
  Value float_to_half_bits(Value v);
  Value real_operation(const Node& n, std::span<const Value> x, const Node* constant_operand,
                       Precision precision);
  Value integer_operation(const Node& n, std::span<const Value> x);
  Value truth_operation(const Node& n, std::span<const Value> x);
  Value predicate(const Node& n, std::span<const Value> x);
  Value power(TypeRef kind, Value x, Value y, const Node* constant_exponent);
  Value floor_divide(TypeRef kind, Value x, Value y);
  Value floor_divide_integers(bool is_signed, Value x, Value y);
  Value float_extremum(Value x, Value y, bool maximum);
  Value nonzero(Value v, DType t);

  VectorBuilder& b_;
  const Isa& isa_;
  VectorMath math_;
};

}  // namespace fulmen::codegen::cpu
