#include "codegen/cpu/vector_builder.h"

#include "support/error.h"

namespace fulmen::codegen::cpu {

VectorBuilder::VectorBuilder(const LlvmApi& api, int width)
    : api_(api), width_(width), context_(api.ContextCreate()) {
  module_ = api.ModuleCreateWithNameInContext("fulmen", context_);
  builder_ = api.CreateBuilderInContext(context_);
  i1 = api.IntTypeInContext(context_, 1);
  i8 = api.IntTypeInContext(context_, 8);
  i16 = api.IntTypeInContext(context_, 16);
  i32 = api.IntTypeInContext(context_, 32);
  i64 = api.IntTypeInContext(context_, 64);
  f16 = api.HalfTypeInContext(context_);
  f32 = api.FloatTypeInContext(context_);
  f64 = api.DoubleTypeInContext(context_);
  ptr = api.PointerTypeInContext(context_, 0);
}

VectorBuilder::~VectorBuilder() {
  api_.DisposeBuilder(builder_);
  api_.DisposeModule(module_);
  api_.ContextDispose(context_);
}

Value VectorBuilder::begin_function(const char* name, std::span<const TypeRef> params) {
  std::vector<TypeRef> types(params.begin(), params.end());
  const TypeRef type = api_.FunctionType(api_.VoidTypeInContext(context_), types.data(),
                                         static_cast<unsigned>(types.size()), 0);
  function_ = api_.AddFunction(module_, name, type);
  api_.PositionBuilderAtEnd(builder_, api_.AppendBasicBlockInContext(context_, function_, ""));
  return function_;
}

Value VectorBuilder::splat_integer(TypeRef element, int64_t v) const {
  const Values lanes(width_, integer(element, v));
  return api_.ConstVector(const_cast<Value*>(lanes.data()), width_);
}

Value VectorBuilder::splat_real(TypeRef element, double v) const {
  const Values lanes(width_, api_.ConstReal(element, v));
  return api_.ConstVector(const_cast<Value*>(lanes.data()), width_);
}

Value VectorBuilder::lane_numbers(TypeRef element) const {
  Values lanes;
  for (int i = 0; i < width_; ++i) lanes.push_back(integer(element, i));
  return api_.ConstVector(lanes.data(), width_);
}

Value VectorBuilder::splat(Value scalar) const {
  const TypeRef type = vec(api_.TypeOf(scalar));
  const Value poison = api_.GetPoison(type);
  const std::vector<int> lanes(width_, 0);
  return shuffle(insert(poison, scalar, 0), poison, lanes);
}

Value VectorBuilder::call_intrinsic(std::string_view name, std::span<const TypeRef> overload,
                                    std::initializer_list<Value> args) const {
  const unsigned id = api_.LookupIntrinsicID(name.data(), name.size());
  if (!id) internal_error("LLVM has no intrinsic ", name);
  const Value f = api_.GetIntrinsicDeclaration(module_, id, const_cast<TypeRef*>(overload.data()),
                                               overload.size());
  Values list(args);
  return api_.BuildCall2(builder_, api_.GlobalGetValueType(f), f, list.data(),
                         static_cast<unsigned>(list.size()), "");
}

Value VectorBuilder::intrinsic(std::string_view name, std::initializer_list<Value> args) const {
  const TypeRef type = api_.TypeOf(*args.begin());
  return call_intrinsic(name, {&type, 1}, args);
}

Value VectorBuilder::target_intrinsic(std::string_view name,
                                      std::initializer_list<Value> args) const {
  return call_intrinsic(name, {}, args);
}

Value VectorBuilder::min_index(Value a, Value b) const {
  return Select(ICmp(IntCompare::kSlt, a, b), a, b);
}

Value VectorBuilder::call(const std::string& name, TypeRef result, std::span<const Value> args) {
  Value f = api_.GetNamedFunction(module_, name.c_str());
  Values list(args.begin(), args.end());
  if (!f) {
    std::vector<TypeRef> types;
    for (const Value a : args) types.push_back(api_.TypeOf(a));
    f = api_.AddFunction(
        module_, name.c_str(),
        api_.FunctionType(result, types.data(), static_cast<unsigned>(types.size()), 0));
  }
  return api_.BuildCall2(builder_, api_.GlobalGetValueType(f), f, list.data(),
                         static_cast<unsigned>(list.size()), "");
}

Value VectorBuilder::address(Value base, TypeRef element, Value index) const {
  return api_.BuildGEP2(builder_, element, base, &index, 1, "");
}

Value VectorBuilder::load(TypeRef type, Value address, int alignment) const {
  const Value v = api_.BuildLoad2(builder_, type, address, "");
  api_.SetAlignment(v, static_cast<unsigned>(alignment));
  return v;
}

void VectorBuilder::store(Value v, Value address, int alignment) const {
  api_.SetAlignment(api_.BuildStore(builder_, v, address), static_cast<unsigned>(alignment));
}

void VectorBuilder::stream(Value v, Value address, int alignment) const {
  const Value store = api_.BuildStore(builder_, v, address);
  api_.SetAlignment(store, static_cast<unsigned>(alignment));
  constexpr std::string_view kName = "nontemporal";
  MetadataRef one = api_.ValueAsMetadata(integer(i32, 1));
  const MetadataRef node = api_.MDNodeInContext2(context_, &one, 1);
  api_.SetMetadata(store, api_.GetMDKindIDInContext(context_, kName.data(), kName.size()),
                   api_.MetadataAsValue(context_, node));
}

Value VectorBuilder::slot(TypeRef type) const { return api_.BuildAlloca(builder_, type, ""); }

Value VectorBuilder::extract(Value vector, int lane) const {
  return api_.BuildExtractElement(builder_, vector, integer(i32, lane), "");
}

Value VectorBuilder::insert(Value vector, Value scalar, int lane) const {
  return api_.BuildInsertElement(builder_, vector, scalar, integer(i32, lane), "");
}

Value VectorBuilder::shuffle(Value a, Value b, std::span<const int> lanes) const {
  Values mask;
  for (const int lane : lanes) mask.push_back(integer(i32, lane));
  return api_.BuildShuffleVector(
      builder_, a, b, api_.ConstVector(mask.data(), static_cast<unsigned>(mask.size())), "");
}

Values VectorBuilder::loop(Value begin, Value end, Value step, const Values& initial,
                           const Body& body) {
  BasicBlockRef before = api_.GetInsertBlock(builder_);
  BasicBlockRef turn = api_.AppendBasicBlockInContext(context_, function_, "");
  const Value enter = ICmp(IntCompare::kSlt, begin, end);
  // The block after the loop is appended when the body's own blocks are there: code stays in order.
  api_.PositionBuilderAtEnd(builder_, turn);
  Value i = api_.BuildPhi(builder_, i64, "");
  api_.AddIncoming(i, &begin, &before, 1);
  Values carried;
  for (Value v : initial) {
    carried.push_back(api_.BuildPhi(builder_, api_.TypeOf(v), ""));
    api_.AddIncoming(carried.back(), &v, &before, 1);
  }
  Values last = body(i, carried);
  BasicBlockRef end_of_turn = api_.GetInsertBlock(builder_);
  BasicBlockRef after = api_.AppendBasicBlockInContext(context_, function_, "");
  Value next = Add(i, step);
  api_.AddIncoming(i, &next, &end_of_turn, 1);
  for (size_t k = 0; k < carried.size(); ++k) {
    api_.AddIncoming(carried[k], &last[k], &end_of_turn, 1);
  }
  api_.BuildCondBr(builder_, ICmp(IntCompare::kSlt, next, end), turn, after);
  api_.PositionBuilderAtEnd(builder_, before);
  api_.BuildCondBr(builder_, enter, turn, after);
  api_.PositionBuilderAtEnd(builder_, after);
  return merged(initial, before, last, end_of_turn);
}

// At the start of a block that is reached from two others: the values that come from each.
Values VectorBuilder::merged(const Values& a, BasicBlockRef from_a, const Values& b,
                             BasicBlockRef from_b) const {
  Values results;
  for (size_t k = 0; k < a.size(); ++k) {
    Value first = a[k], second = b[k];
    results.push_back(api_.BuildPhi(builder_, api_.TypeOf(first), ""));
    api_.AddIncoming(results.back(), &first, &from_a, 1);
    api_.AddIncoming(results.back(), &second, &from_b, 1);
  }
  return results;
}

Values VectorBuilder::when(Value condition, const Values& initial,
                           const std::function<Values(const Values&)>& body) {
  BasicBlockRef before = api_.GetInsertBlock(builder_);
  BasicBlockRef inside = api_.AppendBasicBlockInContext(context_, function_, "");
  api_.PositionBuilderAtEnd(builder_, inside);
  Values last = body(initial);
  BasicBlockRef end = api_.GetInsertBlock(builder_);
  BasicBlockRef after = api_.AppendBasicBlockInContext(context_, function_, "");
  api_.BuildBr(builder_, after);
  api_.PositionBuilderAtEnd(builder_, before);
  api_.BuildCondBr(builder_, condition, inside, after);
  api_.PositionBuilderAtEnd(builder_, after);
  return merged(initial, before, last, end);
}

}  // namespace fulmen::codegen::cpu
