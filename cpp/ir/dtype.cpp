#include "ir/dtype.h"

#include "support/error.h"

namespace fulmen {
namespace {

struct Info {
  std::string_view name, short_name;
  int size;
  Category category;
};

constexpr Info kInfo[] = {
#define X(id, name, short_name, size, category) {name, short_name, size, Category::category},
    FULMEN_DTYPES(X)
#undef X
};

const Info& info(DType t) { return kInfo[static_cast<int>(t)]; }

bool is_wide_unsigned(DType t) {
  return t == DType::kUInt16 || t == DType::kUInt32 || t == DType::kUInt64;
}

DType promote_ints(DType a, DType b) {
  if (is_wide_unsigned(a) || is_wide_unsigned(b)) {
    const bool unsigned_pair =
        (is_wide_unsigned(a) || a == DType::kUInt8) && (is_wide_unsigned(b) || b == DType::kUInt8);
    if (!unsigned_pair) {
      throw Unsupported("promotion of an unsigned type wider than 8 bits with a signed type");
    }
    return itemsize(a) >= itemsize(b) ? a : b;
  }
  // uint8 with int8 needs int16; with wider signed types the signed type holds both.
  if (a == DType::kUInt8 && b == DType::kInt8) return DType::kInt16;
  if (a == DType::kInt8 && b == DType::kUInt8) return DType::kInt16;
  return itemsize(a) > itemsize(b) || (itemsize(a) == itemsize(b) && b == DType::kUInt8) ? a : b;
}

DType promote_floats(DType a, DType b) {
  if (is_float8(a) || is_float8(b)) throw Unsupported("promotion of a float8 type");
  if (itemsize(a) == itemsize(b)) return DType::kFloat32;  // float16 with bfloat16
  return itemsize(a) > itemsize(b) ? a : b;
}

}  // namespace

std::string_view name(DType t) { return info(t).name; }
std::string_view short_name(DType t) { return info(t).short_name; }
int itemsize(DType t) { return info(t).size; }
Category category(DType t) { return info(t).category; }

DType real_dtype(DType t) {
  switch (t) {
    case DType::kComplex32: return DType::kFloat16;
    case DType::kComplex64: return DType::kFloat32;
    case DType::kComplex128: return DType::kFloat64;
    default: return t;
  }
}

DType complex_dtype(DType t) {
  switch (t) {
    case DType::kFloat16: return DType::kComplex32;
    case DType::kBFloat16: return DType::kComplex64;
    case DType::kFloat32: return DType::kComplex64;
    case DType::kFloat64: return DType::kComplex128;
    default: return t;
  }
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  const Category ca = category(a), cb = category(b);
  if (ca == cb) {
    switch (ca) {
      case Category::kBool: return a;
      case Category::kInt: return promote_ints(a, b);
      case Category::kFloat: return promote_floats(a, b);
      case Category::kComplex: return itemsize(a) > itemsize(b) ? a : b;
    }
  }
  const DType high = ca > cb ? a : b;
  const DType low = ca > cb ? b : a;
  if (is_float8(low) || (is_float8(high) && !is_integral(low))) {
    throw Unsupported("promotion of a float8 type");
  }
  if (is_complex(high) && is_floating(low)) return promote(high, complex_dtype(low));
  return high;
}

bool can_cast(DType from, DType to) {
  if (is_complex(from) && !is_complex(to)) return false;
  if (is_floating(from) && is_integral(to)) return false;
  return !(from != DType::kBool && to == DType::kBool);
}

std::optional<DType> dtype_from_name(std::string_view n) {
  for (int i = 0; i < kNumDTypes; ++i) {
    if (kInfo[i].name == n) return static_cast<DType>(i);
  }
  return std::nullopt;
}

std::optional<DType> dtype_from_short_name(std::string_view n) {
  for (int i = 0; i < kNumDTypes; ++i) {
    if (kInfo[i].short_name == n) return static_cast<DType>(i);
  }
  return std::nullopt;
}

}  // namespace fulmen
