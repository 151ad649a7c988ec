#pragma once

#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/cpu/llvm_api.h"

namespace fulmen::codegen::cpu {

using Value = ValueRef;
using Values = std::vector<Value>;

// Writes one module of LLVM IR whose values are vectors of `width` lanes, or scalars.
class VectorBuilder {
 public:
  VectorBuilder(const LlvmApi& api, int width);
  ~VectorBuilder();
  VectorBuilder(const VectorBuilder&) = delete;
  VectorBuilder& operator=(const VectorBuilder&) = delete;

  const LlvmApi& api() const { return api_; }
  ContextRef context() const { return context_; }
  ModuleRef module() const { return module_; }
  int width() const { return width_; }

  TypeRef i1, i8, i16, i32, i64, f16, f32, f64, ptr;
  TypeRef vec(TypeRef element) const { return api_.VectorType(element, width_); }
  TypeRef vec(TypeRef element, int lanes) const { return api_.VectorType(element, lanes); }

  // Opens a function; code goes to its first block.
  Value begin_function(const char* name, std::span<const TypeRef> params);
  void end_function() { api_.BuildRetVoid(builder_); }

  // Constants: scalars, and vectors with the same element everywhere.
  Value integer(TypeRef type, int64_t v) const {
    return api_.ConstInt(type, static_cast<unsigned long long>(v), 1);
  }
  Value index(int64_t v) const { return integer(i64, v); }
  Value splat_integer(TypeRef element, int64_t v) const;
  Value splat_real(TypeRef element, double v) const;
  Value real(double v) const { return splat_real(f32, v); }
  Value bits(int64_t v) const { return splat_integer(i32, v); }
  Value truth(bool v) const { return splat_integer(i1, v); }
  Value lane_numbers(TypeRef element) const;  // 0, 1, 2, …
  Value splat(Value scalar) const;

#define X(name) \
  Value name(Value a, Value b) const { return api_.Build##name(builder_, a, b, ""); }
  FULMEN_LLVM_BINARY(X)
#undef X
#define X(name) \
  Value name(Value a, TypeRef t) const { return api_.Build##name(builder_, a, t, ""); }
  FULMEN_LLVM_CASTS(X)
#undef X
  Value FNeg(Value a) const { return api_.BuildFNeg(builder_, a, ""); }
  Value Neg(Value a) const { return api_.BuildNeg(builder_, a, ""); }
  Value Not(Value a) const { return api_.BuildNot(builder_, a, ""); }
  Value Select(Value c, Value a, Value b) const { return api_.BuildSelect(builder_, c, a, b, ""); }

  // As LLVM numbers them.
  enum class FloatCompare {
    kOeq = 1,
    kOgt,
    kOge,
    kOlt,
    kOle,
    kOne,
    kOrd,
    kUno,
    kUeq,
    kUgt,
    kUge,
    kUlt,
    kUle,
    kUne
  };
  enum class IntCompare { kEq = 32, kNe, kUgt, kUge, kUlt, kUle, kSgt, kSge, kSlt, kSle };
  Value FCmp(FloatCompare how, Value a, Value b) const {
    return api_.BuildFCmp(builder_, static_cast<int>(how), a, b, "");
  }
  Value ICmp(IntCompare how, Value a, Value b) const {
    return api_.BuildICmp(builder_, static_cast<int>(how), a, b, "");
  }
  Value is_nan(Value a) const { return FCmp(FloatCompare::kUno, a, a); }

  // `llvm.NAME` overloaded on the type of the first argument.
  Value intrinsic(std::string_view name, std::initializer_list<Value> args) const;
  // `llvm.NAME` of one type only.
  Value target_intrinsic(std::string_view name, std::initializer_list<Value> args) const;
  Value fma(Value a, Value b, Value c) const { return intrinsic("llvm.fma", {a, b, c}); }
  Value fabs(Value a) const { return intrinsic("llvm.fabs", {a}); }
  Value copysign(Value a, Value sign) const { return intrinsic("llvm.copysign", {a, sign}); }
  Value min_index(Value a, Value b) const;  // of scalars

  // An external function, found by name when the kernel is loaded.
  Value call(const std::string& name, TypeRef result, std::span<const Value> args);

  Value address(Value base, TypeRef element, Value index) const;
  Value load(TypeRef type, Value address, int alignment) const;
  void store(Value v, Value address, int alignment) const;
  // Past the caches. What was stored so is seen by other threads after a fence_streams().
  void stream(Value v, Value address, int alignment) const;
  void fence_streams() const { target_intrinsic("llvm.x86.sse.sfence", {}); }
  Value slot(TypeRef type) const;  // stack memory; at the start of the function only
  Value extract(Value vector, int lane) const;
  Value insert(Value vector, Value scalar, int lane) const;
  // Lanes of `a` and `b`, seen as one after the other.
  Value shuffle(Value a, Value b, std::span<const int> lanes) const;

  // for (i = begin; i < end; i += step), with values that every turn passes on to the next; returns
  // the last ones.
  using Body = std::function<Values(Value i, const Values& carried)>;
  Values loop(Value begin, Value end, Value step, const Values& initial, const Body& body);
  // if (condition) carried = body(carried)
  Values when(Value condition, const Values& initial,
              const std::function<Values(const Values&)>& body);

 private:
  Values merged(const Values& a, BasicBlockRef from_a, const Values& b, BasicBlockRef from_b) const;
  Value call_intrinsic(std::string_view name, std::span<const TypeRef> overload,
                       std::initializer_list<Value> args) const;

  const LlvmApi& api_;
  int width_;
  ContextRef context_;
  ModuleRef module_;
  BuilderRef builder_;
  Value function_ = nullptr;
};

}  // namespace fulmen::codegen::cpu
