#include "jit/operators.h"

#include <string>
#include <unordered_map>

#include "bridge/bridge.h"
#include "interp/inst.h"
#include "support/cat.h"

namespace fulmen::jit {
namespace {

constexpr const char* kBinary[] = {"add", "and", "floordiv", "lshift", "matmul",  "mul", "mod",
                                   "or",  "pow", "rshift",   "sub",    "truediv", "xor"};
constexpr int kNumBinary = 13;
constexpr int kCompareBase = 100;  // as Hooks::operate numbers comparisons
constexpr const char* kCompare[] = {"lt", "le", "eq", "ne", "gt", "ge"};
constexpr const char* kSwapped[] = {"gt", "ge", "eq", "ne", "lt", "le"};

PyObject* tensor_method(const std::string& name) {
  static auto* found = new std::unordered_map<std::string, PyObject*>;
  const auto it = found->find(name);
  if (it != found->end()) return it->second;
  PyObject* method = bridge::resolve_torch_name(cat("torch.Tensor.", name));
  PyErr_Clear();
  return (*found)[name] = method;
}

std::string dunder(const char* prefix, const char* name) { return cat("__", prefix, name, "__"); }

const char* unary_name(interp::Op op) {
  switch (op) {
    case interp::Op::kUNARY_NEGATIVE: return "neg";
    case interp::Op::kUNARY_POSITIVE: return "pos";
    case interp::Op::kUNARY_INVERT: return "invert";
    default: return nullptr;
  }
}

}  // namespace

PyObject* operator_method(int op, bool reflected) {
  if (op < 0) {
    const char* name = unary_name(static_cast<interp::Op>(-op));
    return name ? tensor_method(dunder("", name)) : nullptr;
  }
  if (op >= kCompareBase)
    return tensor_method(dunder("", (reflected ? kSwapped : kCompare)[op - kCompareBase]));
  const char* name = kBinary[op % kNumBinary];
  if (op >= kNumBinary && !reflected) {
    if (PyObject* method = tensor_method(dunder("i", name))) return method;
  }
  return tensor_method(dunder(reflected ? "r" : "", name));
}

bool is_inplace_operator(int op) { return op >= kNumBinary && op < 2 * kNumBinary; }

}  // namespace fulmen::jit
