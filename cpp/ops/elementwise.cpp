#include "ops/elementwise.h"

#include <vector>

namespace fulmen::meta {
namespace {

Args operands_of(const Call& in) {
  Args operands;
  const auto& params = in.symbol().info->schema.params;
  for (size_t i = 0; i < params.size(); ++i) {
    const ParamKind kind = params[i].kind;
    const bool operand = kind == ParamKind::kTensor || kind == ParamKind::kTensorOrScalar;
    if (operand && !in[i].is_none()) operands.push_back(in[i]);
  }
  return operands;
}

}  // namespace

void require(const Call& in, DType t, uint8_t accept) {
  const bool rare = is_float8(t) || t == DType::kComplex32 || t == DType::kUInt16 ||
                    t == DType::kUInt32 || t == DType::kUInt64;
  const bool half = t == DType::kFloat16 || t == DType::kBFloat16;
  if (rare || (half && (accept & kNoHalf)) || !(accept & (1u << static_cast<int>(category(t))))) {
    in.unsupported("not for ", name(t));
  }
}

DType result_dtype(const Call& in, DType common, Result rule) {
  switch (rule) {
    case Result::kCommon: return common;
    case Result::kFloat: return float_dtype(in, common);
    case Result::kBool: return DType::kBool;
    case Result::kReal: return real_dtype(common);
    case Result::kRealFloat: return real_dtype(float_dtype(in, common));
  }
  return common;
}

Arg iterate(Call& in, std::span<const Arg> operands, DType common, DType result, size_t kept) {
  const TensorList tensors = tensors_of(operands);
  if (tensors.empty()) in.unsupported("no tensor among the operands");
  bool with_scalar = false;
  for (const Arg& a : operands) with_scalar = with_scalar || a.is_number();
  TensorType out;
  out.dtype = result;
  out.device = common_device(in, tensors);
  out.shape = broadcast(in, tensors);
  std::vector<TensorType> converted;
  converted.reserve(tensors.size());
  SmallVec<const TensorType*, 8> types;
  for (const TensorProxy* t : tensors) {
    const TensorType* type = &t->type;
    if (types.size() < kept) {
      types.push_back(type);
      continue;
    }
    // On CPU, TensorIterator converts an operand by a copy before it looks at strides.
    if (type->dtype != common && out.device.type == DeviceType::kCPU) {
      converted.push_back(*type);
      converted.back().strides = preserved_strides(*type);
      type = &converted.back();
    }
    types.push_back(type);
  }
  out.strides = pointwise_strides(types, out.shape, with_scalar && !out.shape.empty());
  return in.make(std::move(out));
}

Arg elementwise(Call& in, uint8_t accept, Result rule) {
  const Args operands = operands_of(in);
  DType common = result_type(in, operands);
  require(in, common, accept);
  if (rule == Result::kFloat || rule == Result::kRealFloat) common = float_dtype(in, common);
  return iterate(in, operands, common, result_dtype(in, common, rule));
}

Arg elementwise_unpromoted(Call& in, uint8_t accept) {
  const Args operands = operands_of(in);
  const TensorList tensors = tensors_of(operands);
  if (tensors.empty()) in.unsupported("no tensor among the operands");
  const DType dtype = tensors[0]->type.dtype;
  for (const TensorProxy* t : tensors) {
    if (t->type.dtype != dtype) in.unsupported("operands of different dtypes");
  }
  require(in, dtype, accept);
  return iterate(in, operands, dtype, dtype);
}

}  // namespace fulmen::meta
