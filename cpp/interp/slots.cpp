#include "interp/slots.h"

#include "py/ref.h"

namespace fulmen::interp {

PythonSlots python_slots;

namespace {

constexpr const char* kEverySpecialMethod =
    "def m(*args): pass\n"
    "names = '''add radd iadd sub rsub isub mul rmul imul matmul rmatmul imatmul truediv rtruediv\n"
    "itruediv floordiv rfloordiv ifloordiv mod rmod imod pow rpow ipow lshift rlshift ilshift\n"
    "rshift rrshift irshift and rand iand or ror ior xor rxor ixor divmod rdivmod neg pos abs\n"
    "invert bool int float index len getitem setitem delitem contains iter next call repr str "
    "hash\n"
    "eq ne lt le gt ge get set delete init new getattr getattribute setattr delattr await aiter\n"
    "anext'''.split()\n"
    "Every = type('Every', (), {f'__{n}__': m for n in names})\n"
    "Hidden = type('Hidden', (), {'__getattribute__': m})\n";

}  // namespace

bool init_slots() {
  if (python_slots.getattr_hook) return true;
  py::Ref space = py::Ref::steal(PyDict_New());
  if (!space) return false;
  py::Ref done =
      py::Ref::steal(PyRun_String(kEverySpecialMethod, Py_file_input, space.get(), space.get()));
  if (!done) return false;
  auto* every = reinterpret_cast<PyTypeObject*>(PyDict_GetItemString(space.get(), "Every"));
  auto* hidden = reinterpret_cast<PyTypeObject*>(PyDict_GetItemString(space.get(), "Hidden"));
  PythonSlots& slots = python_slots;
  slots.all = *every;
  slots.number = *every->tp_as_number;
  slots.sequence = *every->tp_as_sequence;
  slots.mapping = *every->tp_as_mapping;
  slots.async = *every->tp_as_async;
  slots.getattribute = hidden->tp_getattro;
  slots.property_get = PyProperty_Type.tp_descr_get;
  slots.property_set = PyProperty_Type.tp_descr_set;
  slots.type_getattr = PyType_Type.tp_getattro;
  slots.super_getattr = PySuper_Type.tp_getattro;
  slots.module_getattr = PyModule_Type.tp_getattro;
  slots.getattr_hook = every->tp_getattro;
  return true;
}

}  // namespace fulmen::interp
