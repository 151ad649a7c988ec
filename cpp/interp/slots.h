// How to tell that a type's slot runs a method written in Python.
//
// CPython fills a type's slots with functions of its own which look up and call `__add__` and the
// like. A class that defines every special method, made once, shows these functions; a slot that
// holds one of them is then known to run Python code.
#pragma once
#include "interp/protocol.h"

namespace fulmen::interp {

struct PythonSlots {
  PyTypeObject all;  // the slots of the class with every special method; only slots are valid
  PyNumberMethods number;
  PySequenceMethods sequence;
  PyMappingMethods mapping;
  PyAsyncMethods async;
  getattrofunc getattr_hook;  // __getattr__ defined
  getattrofunc getattribute;  // only __getattribute__ defined
  descrgetfunc property_get;
  descrsetfunc property_set;
  getattrofunc type_getattr;
  getattrofunc super_getattr;
  getattrofunc module_getattr;
};
extern PythonSlots python_slots;

bool init_slots();

// The pointer of type F at `offset` in a slot table.
template <class F>
F slot_at(const void* table, size_t offset) {
  return table ? *reinterpret_cast<F const*>(static_cast<const char*>(table) + offset) : nullptr;
}

inline bool is_heap_type(PyTypeObject* type) { return type->tp_flags & Py_TPFLAGS_HEAPTYPE; }

}  // namespace fulmen::interp
