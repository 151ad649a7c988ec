// The attribute protocol.
//
// What CPython looks up itself stays with CPython; only where a lookup runs Python code (a
// property, a descriptor or __getattr__ written in Python, ...) its steps are taken here one by
// one.
#include "interp/protocol.h"
#include "interp/slots.h"
#include "py/exception.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

PyObject* type_lookup(Frame& frame, PyTypeObject* type, PyObject* name) {
  PyObject* found = _PyType_Lookup(type, name);
  if (frame.hooks) frame.hooks->looked_up(frame, type, name, found);
  return found;
}

namespace {

// The head of property objects.
struct PropertyHead {
  PyObject_HEAD PyObject* get;
  PyObject* set;
  PyObject* del;
};

bool is_property(PyObject* descriptor) {
  return Py_TYPE(descriptor)->tp_descr_get == python_slots.property_get;
}

// A descriptor whose __get__ can run Python code.
bool gets_by_python(PyObject* descriptor) {
  const descrgetfunc get = Py_TYPE(descriptor)->tp_descr_get;
  return get == python_slots.property_get || get == python_slots.all.tp_descr_get ||
         get == PyClassMethod_Type.tp_descr_get;
}

bool sets_by_python(PyObject* descriptor) {
  const descrsetfunc set = Py_TYPE(descriptor)->tp_descr_set;
  return set == python_slots.property_set || set == python_slots.all.tp_descr_set;
}

bool found(Frame& frame, Val object, PyObject* name, Val* result) {
  if (!frame.hooks || frame.hooks->read(frame, Read::kAttr, object, name, result)) return true;
  Py_CLEAR(result->o);
  return false;
}

bool native_attr(Frame& frame, Val object, PyObject* name, Val* result) {
  *result = {PyObject_GetAttr(object.o, name), nullptr};
  return result->o && found(frame, object, name, result);
}

// The value of `name` in the object's own dictionary: 1, 0, -1. New reference.
int instance_value(PyObject* object, PyObject* name, PyObject** value) {
  PyObject** dict = _PyObject_GetDictPtr(object);
  *value = dict && *dict ? PyDict_GetItemWithError(*dict, name) : nullptr;
  if (*value) {
    Py_INCREF(*value);
    return 1;
  }
  return PyErr_Occurred() ? -1 : 0;
}

// The object has no such attribute, and the program goes on knowing that.
bool note_absent(Frame& frame, Val object, PyObject* name) {
  return !frame.hooks || frame.hooks->absent(frame, Read::kAttr, object, name);
}

// PyObject_GenericGetAttr for an object whose class has a descriptor that runs Python.
bool generic_attr(Frame& frame, Val object, PyObject* name, Val* result) {
  PyTypeObject* type = Py_TYPE(object.o);
  PyObject* descriptor = _PyType_Lookup(type, name);
  if (!descriptor || !gets_by_python(descriptor)) {
    *result = {PyObject_GenericGetAttr(object.o, name), nullptr};
    return result->o && found(frame, object, name, result);
  }
  py::Ref keep = py::Ref::borrow(descriptor);
  if (frame.hooks) frame.hooks->looked_up(frame, type, name, descriptor);
  if (!Py_TYPE(descriptor)->tp_descr_set) {
    PyObject* value;
    const int has = instance_value(object.o, name, &value);
    if (has < 0) return false;
    if (has) {
      *result = {value, nullptr};
      return found(frame, object, name, result);
    }
    if (!note_absent(frame, object, name)) return false;
  }
  return descriptor_get(frame, descriptor, object, reinterpret_cast<PyObject*>(type), result);
}

bool call_attr_method(Frame& frame, Val object, PyObject* function, PyObject* name, Val* result) {
  py::Ref keep = py::Ref::borrow(function);
  if (PyType_HasFeature(Py_TYPE(function), Py_TPFLAGS_METHOD_DESCRIPTOR)) {
    return call_with(frame, {function, nullptr}, {object, {name, nullptr}}, result);
  }
  Val bound{function, nullptr};
  if (Py_TYPE(function)->tp_descr_get) {
    if (!descriptor_get(frame, function, object, reinterpret_cast<PyObject*>(Py_TYPE(object.o)),
                        &bound)) {
      return false;
    }
  } else {
    Py_INCREF(bound.o);
  }
  const bool ok = call_with(frame, bound, {{name, nullptr}}, result);
  Py_DECREF(bound.o);
  return ok;
}

bool type_attr(Frame& frame, Val object, PyObject* name, Val* result);

// `method` is what `function`, a slot of a class in C, looks like in Python.
bool is_wrapper_of(PyObject* method, getattrofunc function) {
  return Py_IS_TYPE(method, &PyWrapperDescr_Type) &&
         reinterpret_cast<PyWrapperDescrObject*>(method)->d_wrapped ==
             reinterpret_cast<void*>(function);
}

// An attribute of an object whose class defines __getattr__ or __getattribute__ in Python.
bool hooked_attr(Frame& frame, Val object, PyObject* name, Val* result) {
  PyTypeObject* type = Py_TYPE(object.o);
  PyObject* fallback = _PyType_Lookup(type, names::__getattr__);
  PyObject* getattribute = type_lookup(frame, type, names::__getattribute__);
  if (!getattribute) return native_attr(frame, object, name, result);
  py::Ref keep = fallback ? py::Ref::borrow(fallback) : py::Ref();
  const bool is_generic = is_wrapper_of(getattribute, PyObject_GenericGetAttr);
  bool ok;
  if (is_generic && fallback) {
    PyObject* descriptor = _PyType_Lookup(type, name);
    if (descriptor && gets_by_python(descriptor)) {
      ok = generic_attr(frame, object, name, result);
    } else {
      *result = {_PyObject_GenericGetAttrWithDict(object.o, name, nullptr, 1), nullptr};
      if (result->o) return found(frame, object, name, result);
      if (PyErr_Occurred() || !note_absent(frame, object, name)) return false;
      type_lookup(frame, type, names::__getattr__);
      return call_attr_method(frame, object, fallback, name, result);
    }
  } else if (is_generic) {
    return generic_attr(frame, object, name, result);
  } else if (is_wrapper_of(getattribute, PyType_Type.tp_getattro)) {
    ok = type_attr(frame, object, name, result);  // a metaclass with __getattr__
  } else {
    ok = call_attr_method(frame, object, getattribute, name, result);
  }
  if (ok || !fallback || !PyErr_ExceptionMatches(PyExc_AttributeError)) return ok;
  PyErr_Clear();
  if (!note_absent(frame, object, name)) return false;
  type_lookup(frame, type, names::__getattr__);
  return call_attr_method(frame, object, fallback, name, result);
}

// An attribute of a class.
bool type_attr(Frame& frame, Val object, PyObject* name, Val* result) {
  auto* type = reinterpret_cast<PyTypeObject*>(object.o);
  PyTypeObject* metatype = Py_TYPE(type);
  PyObject* meta = type_lookup(frame, metatype, name);
  py::Ref keep = meta ? py::Ref::borrow(meta) : py::Ref();
  const bool meta_is_data = meta && Py_TYPE(meta)->tp_descr_get && Py_TYPE(meta)->tp_descr_set;
  if (meta_is_data) {
    if (!gets_by_python(meta)) return native_attr(frame, object, name, result);
    return descriptor_get(frame, meta, object, reinterpret_cast<PyObject*>(metatype), result);
  }
  // Looked up once, as CPython does: looking can run the __eq__ of a key.
  PyObject* own = _PyType_Lookup(type, name);
  PyObject* chosen = own ? own : meta;
  if (!chosen) {
    *result = {PyType_Type.tp_getattro(object.o, name), nullptr};  // raises
    return result->o != nullptr;
  }
  py::Ref keep_chosen = py::Ref::borrow(chosen);
  const Val instance = own ? Val{} : object;
  PyObject* owner = own ? object.o : reinterpret_cast<PyObject*>(metatype);
  if (Py_TYPE(chosen)->tp_descr_get) {
    // A property found on a class is the property.
    if (!own || !is_property(own)) {
      if (own && gets_by_python(own)) type_lookup(frame, type, name);
      if (!descriptor_get(frame, chosen, instance, owner, result)) return false;
      return gets_by_python(chosen) || found(frame, object, name, result);
    }
  }
  *result = {Py_NewRef(chosen), nullptr};
  return found(frame, object, name, result);
}

// An attribute of a module, which may define __getattr__.
bool module_attr(Frame& frame, Val object, PyObject* name, Val* result) {
  *result = {_PyObject_GenericGetAttrWithDict(object.o, name, nullptr, 1), nullptr};
  if (result->o) return found(frame, object, name, result);
  if (PyErr_Occurred() || !note_absent(frame, object, name)) return false;
  PyObject* dict = PyModule_GetDict(object.o);
  PyObject* getattr = dict ? PyDict_GetItemWithError(dict, names::__getattr__) : nullptr;
  if (getattr && PyFunction_Check(getattr)) {
    py::Ref keep = py::Ref::borrow(getattr);
    Val function{Py_NewRef(getattr), nullptr};
    if (!found(frame, object, names::__getattr__, &function)) return false;
    const bool ok = call_with(frame, function, {{name, nullptr}}, result);
    Py_DECREF(function.o);
    return ok;
  }
  return native_attr(frame, object, name, result);
}

// The head of super objects.
struct SuperHead {
  PyObject_HEAD PyTypeObject* type;
  PyObject* object;
  PyTypeObject* object_type;
};

}  // namespace

bool load_super_attr(Frame& frame, Val super, PyObject* name, Val* result) {
  const auto* head = reinterpret_cast<SuperHead*>(super.o);
  PyTypeObject* start = head->object_type;
  if (start && start->tp_mro && name != names::__class__) {
    PyObject* mro = start->tp_mro;
    const Py_ssize_t n = PyTuple_GET_SIZE(mro);
    Py_ssize_t i = 0;
    while (i < n && PyTuple_GET_ITEM(mro, i) != reinterpret_cast<PyObject*>(head->type)) i++;
    for (i++; i < n; i++) {
      PyObject* base = PyTuple_GET_ITEM(mro, i);
      PyObject* dict =
          PyType_Check(base) ? py::type_dict(reinterpret_cast<PyTypeObject*>(base)) : nullptr;
      PyObject* value = dict ? PyDict_GetItemWithError(dict, name) : nullptr;
      if (frame.hooks && dict && !PyErr_Occurred()) {
        auto* type = reinterpret_cast<PyTypeObject*>(base);
        type_lookup(frame, type, name);
      }
      if (!value) {
        if (PyErr_Occurred()) return false;
        continue;
      }
      if (!gets_by_python(value)) break;
      py::Ref keep = py::Ref::borrow(value);
      py::Ref keep_type = py::Ref::borrow(reinterpret_cast<PyObject*>(start));
      const bool on_class = head->object == reinterpret_cast<PyObject*>(start);
      return descriptor_get(frame, value, {on_class ? nullptr : head->object, nullptr},
                            reinterpret_cast<PyObject*>(start), result);
    }
  }
  return native_attr(frame, super, name, result);
}

bool descriptor_get(Frame& frame, PyObject* descriptor, Val object, PyObject* type, Val* result) {
  const descrgetfunc get = Py_TYPE(descriptor)->tp_descr_get;
  if (get == python_slots.property_get && object.o && object.o != Py_None) {
    PyObject* getter = reinterpret_cast<PropertyHead*>(descriptor)->get;
    if (getter && getter != Py_None) {
      py::Ref keep = py::Ref::borrow(getter);
      return call_with(frame, {getter, nullptr}, {object}, result);
    }
  } else if (get == python_slots.all.tp_descr_get) {
    PyObject* method = type_lookup(frame, Py_TYPE(descriptor), names::__get__);
    if (method && PyFunction_Check(method)) {
      py::Ref keep = py::Ref::borrow(method);
      const Val instance = object.o ? object : Val{Py_None, nullptr};
      return call_with(frame, {method, nullptr},
                       {{descriptor, nullptr}, instance, {type ? type : Py_None, nullptr}}, result);
    }
  }
  *result = {get(descriptor, object.o, type), nullptr};
  return result->o != nullptr;
}

namespace {

// An AttributeError says whose attribute was missing, for the suggestions in tracebacks.
void annotate_error(PyObject* object, PyObject* name) {
  if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return;
  PyObject* error = py::fetch_exception();
  auto* fields = reinterpret_cast<PyAttributeErrorObject*>(error);
  if (PyErr_GivenExceptionMatches(error, PyExc_AttributeError) && !fields->name && !fields->obj) {
    fields->name = Py_NewRef(name);
    fields->obj = Py_NewRef(object);
  }
  py::restore_exception(error);
}

bool find_attr(Frame& frame, Val object, PyObject* name, Val* result) {
  PyTypeObject* type = Py_TYPE(object.o);
  const getattrofunc get = type->tp_getattro;
  if (get == PyObject_GenericGetAttr) {
    if (!is_heap_type(type)) return native_attr(frame, object, name, result);
    return generic_attr(frame, object, name, result);
  }
  if (get == python_slots.getattr_hook || get == python_slots.getattribute) {
    return hooked_attr(frame, object, name, result);
  }
  if (get == python_slots.type_getattr) return type_attr(frame, object, name, result);
  if (get == python_slots.module_getattr) return module_attr(frame, object, name, result);
  if (get == python_slots.super_getattr) return load_super_attr(frame, object, name, result);
  return native_attr(frame, object, name, result);
}

}  // namespace

bool load_attr(Frame& frame, Val object, PyObject* name, Val* result) {
  if (find_attr(frame, object, name, result)) return true;
  annotate_error(object.o, name);
  if (frame.hooks && PyErr_ExceptionMatches(PyExc_AttributeError)) {
    py::Ref error = py::Ref::steal(py::fetch_exception());
    const Answer answer = frame.hooks->missing(frame, object, name, result);
    if (answer != Answer::kNotHandled) return answer == Answer::kDone;
    if (note_absent(frame, object, name)) py::restore_exception(error.release());
  }
  return false;
}

int lookup_attr(Frame& frame, Val object, PyObject* name, Val* result) {
  if (load_attr(frame, object, name, result)) return 1;
  if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return -1;
  PyErr_Clear();
  return 0;
}

int load_method(Frame& frame, Val object, PyObject* name, Val* result) {
  PyTypeObject* type = Py_TYPE(object.o);
  if (type->tp_getattro != PyObject_GenericGetAttr) {
    return load_attr(frame, object, name, result) ? 0 : -1;
  }
  if (is_heap_type(type)) {
    PyObject* method = _PyType_Lookup(type, name);
    if (method && gets_by_python(method)) return load_attr(frame, object, name, result) ? 0 : -1;
  }
  result->p = nullptr;
  const int unbound = _PyObject_GetMethod(object.o, name, &result->o);
  if (!result->o) {
    if (frame.hooks && PyErr_ExceptionMatches(PyExc_AttributeError)) {
      PyErr_Clear();
      return load_attr(frame, object, name, result) ? 0 : -1;  // which notes it
    }
    return -1;
  }
  if (frame.hooks &&
      !frame.hooks->read(frame, unbound ? Read::kType : Read::kAttr, object, name, result)) {
    Py_CLEAR(result->o);
    return -1;
  }
  return unbound;
}

namespace {

bool store_by_descriptor(Frame& frame, PyObject* descriptor, Val object, Val value, bool* done) {
  *done = true;
  Val none;
  py::Ref keep = py::Ref::borrow(descriptor);
  if (Py_TYPE(descriptor)->tp_descr_set == python_slots.property_set) {
    const auto* property = reinterpret_cast<PropertyHead*>(descriptor);
    PyObject* function = value.o ? property->set : property->del;
    if (function && function != Py_None) {
      py::Ref keep_function = py::Ref::borrow(function);
      const bool ok = value.o ? call_with(frame, {function, nullptr}, {object, value}, &none)
                              : call_with(frame, {function, nullptr}, {object}, &none);
      if (ok) Py_DECREF(none.o);
      return ok;
    }
  } else {
    const Val self{descriptor, nullptr};
    const int has = value.o ? call_special(frame, self, names::__set__, {object, value}, &none)
                            : call_special(frame, self, names::__delete__, {object}, &none);
    if (has) {
      if (has > 0) Py_DECREF(none.o);
      return has > 0;
    }
  }
  *done = false;
  return true;
}

}  // namespace

bool store_attr(Frame& frame, Val object, PyObject* name, Val value) {
  PyTypeObject* type = Py_TYPE(object.o);
  const setattrofunc set = type->tp_setattro;
  if (set == python_slots.all.tp_setattro) {
    Val none;
    const Val name_value{name, nullptr};
    const int has =
        value.o ? call_special(frame, object, names::__setattr__, {name_value, value}, &none)
                : call_special(frame, object, names::__delattr__, {name_value}, &none);
    if (has) {
      if (has > 0) Py_DECREF(none.o);
      return has > 0;
    }
  } else if (set == PyObject_GenericSetAttr && is_heap_type(type)) {
    PyObject* descriptor = type_lookup(frame, type, name);
    if (descriptor && sets_by_python(descriptor)) {
      bool done;
      if (!store_by_descriptor(frame, descriptor, object, value, &done)) return false;
      if (done) return true;
    }
  } else if (set == PyType_Type.tp_setattro) {
    PyObject* descriptor = type_lookup(frame, type, name);
    if (descriptor && sets_by_python(descriptor)) {
      bool done;
      if (!store_by_descriptor(frame, descriptor, object, value, &done)) return false;
      if (done) return true;
    }
  }
  if (frame.hooks && !frame.hooks->write(frame, Write::kAttr, object, name, value)) return false;
  return PyObject_SetAttr(object.o, name, value.o) == 0;
}

int lookup_special(Frame& frame, Val object, PyObject* name, Val* result) {
  PyTypeObject* type = Py_TYPE(object.o);
  PyObject* descriptor = type_lookup(frame, type, name);
  if (!descriptor) return 0;
  if (!Py_TYPE(descriptor)->tp_descr_get) {
    *result = {Py_NewRef(descriptor), nullptr};
    return 1;
  }
  py::Ref keep = py::Ref::borrow(descriptor);
  return descriptor_get(frame, descriptor, object, reinterpret_cast<PyObject*>(type), result) ? 1
                                                                                              : -1;
}

int call_special(Frame& frame, Val object, PyObject* name, std::initializer_list<Val> args,
                 Val* result) {
  PyObject* method = type_lookup(frame, Py_TYPE(object.o), name);
  if (!method) return 0;
  if (PyType_HasFeature(Py_TYPE(method), Py_TPFLAGS_METHOD_DESCRIPTOR)) {
    py::Ref keep = py::Ref::borrow(method);
    const Val callee{method, nullptr};
    const Val* given = args.begin();
    switch (args.size()) {
      case 0: return call_with(frame, callee, {object}, result) ? 1 : -1;
      case 1: return call_with(frame, callee, {object, given[0]}, result) ? 1 : -1;
      case 2: return call_with(frame, callee, {object, given[0], given[1]}, result) ? 1 : -1;
      default:
        return call_with(frame, callee, {object, given[0], given[1], given[2]}, result) ? 1 : -1;
    }
  }
  Val bound;
  const int has = lookup_special(frame, object, name, &bound);
  if (has <= 0) return has;
  const bool ok = call_with(frame, bound, args, result);
  Py_DECREF(bound.o);
  return ok ? 1 : -1;
}

}  // namespace fulmen::interp
