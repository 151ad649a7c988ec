#include "jit/call_rules.h"

#include <cstring>
#include <string_view>
#include <unordered_map>

#include "bindings/recorder.h"
#include "support/cat.h"

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

// Modules written in C that look at the process, the machine or the clock, or change them. `only`:
// the functions that do, `but`: those that do not; names between spaces.
struct ImpureModule {
  const char *name, *only, *but;
};
constexpr ImpureModule kImpure[] = {
    {"time", "", " mktime "},
    {"posix", "",
     " fspath _path_normpath strerror cpu_count sysconf confstr device_encoding major minor "
     "makedev waitstatus_to_exitcode WCOREDUMP WEXITSTATUS WIFCONTINUED WIFEXITED WIFSIGNALED "
     "WIFSTOPPED WSTOPSIG WTERMSIG "},
    {"_io", " open open_code ", ""},
    {"_socket", "", ""},
    {"select", "", ""},
    {"_posixsubprocess", "", ""},
    {"_uuid", "", ""},
    {"gc", "", ""},
    {"resource", "", ""},
    {"fcntl", "", ""},
    {"signal", "", ""},
    {"_signal", "", ""},
    {"atexit", "", ""},
    {"decimal", " getcontext setcontext localcontext ", ""},
    {"_contextvars", "", ""},
    {"_thread", " get_ident get_native_id start_new_thread start_new interrupt_main _count ", ""},
    {"sys",
     " getrecursionlimit setrecursionlimit getrefcount getswitchinterval setswitchinterval "
     "settrace setprofile gettrace getprofile getallocatedblocks _current_frames ",
     ""}};

bool is_impure(const char* module, const char* function) {
  const std::string name = cat(" ", function, " ");
  const auto holds = [&](const char* list) {
    return std::string_view(list).find(name) != std::string_view::npos;
  };
  for (const ImpureModule& m : kImpure) {
    if (std::strcmp(m.name, module) == 0) return m.only[0] ? holds(m.only) : !holds(m.but);
  }
  return false;
}

// Class methods of C: a new object at each look-up.
bool reads_clock(PyObject* callable) {
  PyObject* self = PyCFunction_GET_SELF(callable);
  if (!self || !PyType_Check(self)) return false;
  const std::string_view method = reinterpret_cast<PyCFunctionObject*>(callable)->m_ml->ml_name;
  if (method != "now" && method != "utcnow" && method != "today") return false;
  for (auto* type = reinterpret_cast<PyTypeObject*>(self); type; type = type->tp_base) {
    if (std::strncmp(type->tp_name, "datetime.", 9) == 0) return true;
  }
  return false;
}

// Functions of torch that are written in C, by where they live; and what is impure.
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
    const char* function = reinterpret_cast<PyCFunctionObject*>(callable)->m_ml->ml_name;
    if ((name && is_impure(name, function)) || reads_clock(callable)) return CallRule::kRefuse;
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
  for (const PyTypeObject* t = Py_TYPE(callable); t; t = t->tp_base) {
    if (std::strncmp(t->tp_name, "_ctypes.", 8) == 0) return CallRule::kRefuse;  // a function of C
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
      {"effect", CallRule::kEffect},       {"refuse", CallRule::kRefuse}};
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
