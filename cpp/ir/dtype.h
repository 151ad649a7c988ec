#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace fulmen {

// Every element type of PyTorch that a strided tensor can have. `name` is torch's, `short_name`
// what traces print.
#define FULMEN_DTYPES(X)                                         \
  X(kBool, "bool", "b8", 1, kBool)                               \
  X(kUInt8, "uint8", "u8", 1, kInt)                              \
  X(kInt8, "int8", "i8", 1, kInt)                                \
  X(kInt16, "int16", "i16", 2, kInt)                             \
  X(kInt32, "int32", "i32", 4, kInt)                             \
  X(kInt64, "int64", "i64", 8, kInt)                             \
  X(kUInt16, "uint16", "u16", 2, kInt)                           \
  X(kUInt32, "uint32", "u32", 4, kInt)                           \
  X(kUInt64, "uint64", "u64", 8, kInt)                           \
  X(kFloat16, "float16", "f16", 2, kFloat)                       \
  X(kBFloat16, "bfloat16", "bf16", 2, kFloat)                    \
  X(kFloat32, "float32", "f32", 4, kFloat)                       \
  X(kFloat64, "float64", "f64", 8, kFloat)                       \
  X(kComplex32, "complex32", "c32", 4, kComplex)                 \
  X(kComplex64, "complex64", "c64", 8, kComplex)                 \
  X(kComplex128, "complex128", "c128", 16, kComplex)             \
  X(kFloat8E4M3FN, "float8_e4m3fn", "f8e4m3fn", 1, kFloat)       \
  X(kFloat8E5M2, "float8_e5m2", "f8e5m2", 1, kFloat)             \
  X(kFloat8E4M3FNUZ, "float8_e4m3fnuz", "f8e4m3fnuz", 1, kFloat) \
  X(kFloat8E5M2FNUZ, "float8_e5m2fnuz", "f8e5m2fnuz", 1, kFloat) \
  X(kFloat8E8M0FNU, "float8_e8m0fnu", "f8e8m0fnu", 1, kFloat)

enum class DType : uint8_t {
#define X(id, name, short_name, size, category) id,
  FULMEN_DTYPES(X)
#undef X
};

// Ordered: promotion goes to the higher category.
enum class Category : uint8_t { kBool, kInt, kFloat, kComplex };

inline constexpr int kNumDTypes = static_cast<int>(DType::kFloat8E8M0FNU) + 1;

std::string_view name(DType t);
std::string_view short_name(DType t);
int itemsize(DType t);
Category category(DType t);
inline bool is_floating(DType t) { return category(t) == Category::kFloat; }
inline bool is_complex(DType t) { return category(t) == Category::kComplex; }
// True for bool and the integer types.
inline bool is_integral(DType t) { return category(t) <= Category::kInt; }
inline bool is_differentiable(DType t) { return category(t) >= Category::kFloat; }
inline bool is_float8(DType t) { return t >= DType::kFloat8E4M3FN; }
// complex64 → float32 and so on; other types unchanged.
DType real_dtype(DType t);
// float32 → complex64 and so on; complex types unchanged.
DType complex_dtype(DType t);

// torch.promote_types: the smallest type to which both convert. Throws Unsupported where PyTorch
// has no promotion (float8 with another type, uint16 and wider with a signed type).
DType promote(DType a, DType b);
// torch.can_cast: whether a result of type `from` may be written into an output of type `to`.
bool can_cast(DType from, DType to);

std::optional<DType> dtype_from_name(std::string_view torch_name);
std::optional<DType> dtype_from_short_name(std::string_view short_name);

}  // namespace fulmen
