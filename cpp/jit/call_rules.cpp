#include "jit/call_rules.h"

#include <cstring>
#include <string_view>
#include <unordered_map>

#include "bindings/recorder.h"

namespace fulmen::jit {
namespace {

// Guarded by the GIL, as every use of it.
std::unordered_map<PyObject*, CallTarget>& table() {
  static auto* rules = new std::unordered_map<PyObject*, CallTarget>;
  return *rules;
}

bool is_torch_name(const char* name) {
  return name && (std::strcmp(name, "torch") == 0 || std::strncmp(name, "torch.", 6) == 0);
}

// Functions of torch that are written in C, by where they live.
CallRule builtin_rule(PyObject* callable) {
  if (PyCFunction_Check(callable)) {
    PyObject* self = PyCFunction_GET_SELF(callable);
    if (self && PyType_Check(self)) {
      const std::string_view owner = reinterpret_cast<PyTypeObject*>(self)->tp_name;
      if (owner == "torch._C._VariableFunctionsClass") return CallRule::kCreate;
    }
    if (self && PyModule_Check(self)) {
      const char* name = PyModule_GetName(self);
      if (!name) PyErr_Clear();
      if (is_torch_name(name)) return CallRule::kTorch;
    }
    PyObject* module = reinterpret_cast<PyCFunctionObject*>(callable)->m_module;
    const char* name = module && PyUnicode_Check(module) ? PyUnicode_AsUTF8(module) : nullptr;
    return is_torch_name(name) ? CallRule::kTorch : CallRule::kInterpret;
  }
  if (Py_IS_TYPE(callable, &PyMethodDescr_Type) || Py_IS_TYPE(callable, &PyWrapperDescr_Type)) {
    PyTypeObject* type = reinterpret_cast<PyDescrObject*>(callable)->d_type;
    return std::string_view(type->tp_name) == "torch._C.TensorBase" ? CallRule::kTorch
                                                                    : CallRule::kInterpret;
  }
  if (is_torch_name(Py_TYPE(callable)->tp_name)) {
    const std::string_view type = Py_TYPE(callable)->tp_name;
    return type.find("OpOverload") != type.npos ? CallRule::kTorch : CallRule::kInterpret;
  }
  const std::string_view type = Py_TYPE(callable)->tp_name;
  return type == "OpOverload" || type == "OpOverloadPacket" ? CallRule::kCreate
                                                            : CallRule::kInterpret;
}

}  // namespace

bool add_call_rule(PyObject* callable, const char* rule, PyObject* replacement) {
  static const std::pair<std::string_view, CallRule> kNames[] = {
      {"interpret", CallRule::kInterpret}, {"row", CallRule::kRow},
      {"torch", CallRule::kTorch},         {"create", CallRule::kCreate},
      {"same", CallRule::kSame},           {"constant", CallRule::kConstant},
      {"native", CallRule::kNative},       {"module", CallRule::kModule},
      {"refuse", CallRule::kRefuse}};
  for (const auto& [name, value] : kNames) {
    if (name != rule) continue;
    Py_INCREF(callable);
    table()[callable] = {value, Py_XNewRef(replacement)};
    return true;
  }
  PyErr_Format(PyExc_ValueError, "unknown call rule '%s'", rule);
  return false;
}

CallTarget call_target(PyObject* callable) {
  const auto it = table().find(callable);
  if (it != table().end()) return it->second;
  if (!bindings::overloads_of(callable).empty()) return {CallRule::kRow, nullptr};
  return {builtin_rule(callable), nullptr};
}

}  // namespace fulmen::jit
