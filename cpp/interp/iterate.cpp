// Iteration and unpacking.
#include <alloca.h>

#include "interp/protocol.h"
#include "interp/slots.h"
#include "interp/steps.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

bool runs_python(PyObject* iterator) {
  PyTypeObject* type = Py_TYPE(iterator);
  return type == &PyGen_Type || type->tp_iternext == python_slots.all.tp_iternext || has_step(type);
}

bool get_iter(Frame& frame, Val iterable, Val* result) {
  PyTypeObject* type = Py_TYPE(iterable.o);
  if (frame.hooks && !frame.hooks->contents(frame, iterable)) return false;
  result->p = iterable.p;
  if (is_heap_type(type) && type->tp_iter == python_slots.all.tp_iter) {
    PyObject* method = type_lookup(frame, type, names::__iter__);
    if (method && method != Py_None) {
      const int has = call_special(frame, iterable, names::__iter__, {}, result);
      if (has < 0) return false;
      if (PyIter_Check(result->o)) return true;
      PyErr_Format(PyExc_TypeError, "iter() returned non-iterator of type '%.100s'",
                   Py_TYPE(result->o)->tp_name);
      Py_CLEAR(result->o);
      return false;
    }
  }
  result->o = PyObject_GetIter(iterable.o);
  return result->o != nullptr;
}

int next(Frame& frame, Val iterator, Val* result) {
  PyTypeObject* type = Py_TYPE(iterator.o);
  result->p = nullptr;
  if (type == &PyGen_Type && is_generator(iterator.o)) {
    const Sent sent = resume(frame, iterator.o, {}, false, result);
    if (sent == Sent::kNext) return 1;
    if (sent == Sent::kReturn) {
      Py_DECREF(result->o);
      return 0;
    }
  } else if (type->tp_iternext == python_slots.all.tp_iternext) {
    const int has = call_special(frame, iterator, names::__next__, {}, result);
    if (has > 0) return 1;
    if (has == 0) {
      result->o = type->tp_iternext(iterator.o);
      if (result->o) return 1;
    }
  } else if (const Step step = has_step(type)) {
    const int more = step(frame, iterator, result);
    if (more >= 0) return more;
  } else {
    result->o = type->tp_iternext(iterator.o);
    if (result->o) {
      if (frame.hooks && !frame.hooks->read(frame, Read::kNext, iterator, nullptr, result)) {
        Py_CLEAR(result->o);
        return -1;
      }
      return 1;
    }
    if (!PyErr_Occurred()) return 0;
  }
  if (!PyErr_ExceptionMatches(PyExc_StopIteration)) return -1;
  PyErr_Clear();
  return 0;
}

namespace {

// list.extend(), which no function of libpython offers under one name in every version.
PyObject* native_extend(PyObject* list, PyObject* iterable) {
  return PyList_CheckExact(iterable) || PyTuple_CheckExact(iterable)
             ? (PyList_SetSlice(list, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, iterable) < 0
                    ? nullptr
                    : Py_NewRef(Py_None))
             : PyObject_CallMethodOneArg(list, py::names::extend, iterable);
}

// Appends the rest of `iterator`.
bool append_rest(Frame& frame, PyObject* list, Val iterator) {
  Val item;
  int more;
  while ((more = next(frame, iterator, &item)) > 0) {
    const int failed = PyList_Append(list, item.o);
    Py_DECREF(item.o);
    if (failed) return false;
  }
  return more == 0;
}

}  // namespace

bool extend_list(Frame& frame, PyObject* list, Val iterable) {
  if (frame.hooks && !frame.hooks->contents(frame, iterable)) return false;
  if (!PyList_CheckExact(iterable.o) && !PyTuple_CheckExact(iterable.o)) {
    if (!Py_TYPE(iterable.o)->tp_iter && !PySequence_Check(iterable.o)) {
      PyErr_Format(PyExc_TypeError, "Value after * must be an iterable, not %.200s",
                   Py_TYPE(iterable.o)->tp_name);
      return false;
    }
    Val iterator;
    if (!get_iter(frame, iterable, &iterator)) return false;
    if (runs_python(iterator.o)) {
      // CPython asks for a hint of the length, which the program may see.
      const bool ok = PyObject_LengthHint(iterable.o, 8) >= 0 && append_rest(frame, list, iterator);
      Py_DECREF(iterator.o);
      return ok;
    }
    py::Ref none = py::Ref::steal(native_extend(list, iterator.o));
    Py_DECREF(iterator.o);
    return static_cast<bool>(none);
  }
  py::Ref none = py::Ref::steal(native_extend(list, iterable.o));
  return static_cast<bool>(none);
}

bool to_list(Frame& frame, Val iterable, Val* result) {
  *result = {PyList_New(0), nullptr};
  if (!result->o) return false;
  if (extend_list(frame, result->o, iterable)) return true;
  Py_CLEAR(result->o);
  return false;
}

bool update_set(Frame& frame, PyObject* set, Val iterable) {
  if (frame.hooks && !frame.hooks->contents(frame, iterable)) return false;
  if (PyAnySet_Check(iterable.o) || PyDict_CheckExact(iterable.o)) {
    return _PySet_Update(set, iterable.o) == 0;
  }
  Val iterator, item;
  if (!get_iter(frame, iterable, &iterator)) return false;
  int more;
  while ((more = next(frame, iterator, &item)) > 0) {
    const int failed = PySet_Add(set, item.o);
    Py_DECREF(item.o);
    if (failed) {
      more = -1;
      break;
    }
  }
  Py_DECREF(iterator.o);
  return more == 0;
}

namespace {

// Items of an exact tuple or list: 1 if the number fits.
int unpack_array(Frame& frame, Val sequence, int count, PyObject** items, Prov** provs) {
  if (PySequence_Fast_GET_SIZE(sequence.o) != count) return 0;
  for (int i = 0; i < count; i++) {
    Val item{Py_NewRef(PySequence_Fast_GET_ITEM(sequence.o, i)), nullptr};
    if (frame.hooks) {
      py::Ref index = py::Ref::steal(PyLong_FromLong(i));
      if (!index || !frame.hooks->read(frame, Read::kItem, sequence, index.get(), &item)) {
        Py_XDECREF(item.o);
        while (i-- > 0) Py_DECREF(items[count - 1 - i]);
        return -1;
      }
      provs[count - 1 - i] = item.p;
    }
    items[count - 1 - i] = item.o;
  }
  return 1;
}

bool unpack_iterator(Frame& frame, Val iterator, int before, int after, PyObject** items,
                     Prov** provs, int total, int* filled) {
  Val item;
  const auto put = [&](Val value) {
    const int slot = total - 1 - (*filled)++;
    items[slot] = value.o;
    if (provs) provs[slot] = value.p;
  };
  for (int i = 0; i < before; i++) {
    const int more = next(frame, iterator, &item);
    if (more < 0) return false;
    if (more == 0) {
      if (after < 0) {
        PyErr_Format(PyExc_ValueError, "not enough values to unpack (expected %d, got %d)", before,
                     i);
      } else {
        PyErr_Format(PyExc_ValueError, "not enough values to unpack (expected at least %d, got %d)",
                     before + after, i);
      }
      return false;
    }
    put(item);
  }
  if (after < 0) {
    const int more = next(frame, iterator, &item);
    if (more <= 0) return more == 0;
    Py_DECREF(item.o);
    PyErr_Format(PyExc_ValueError, "too many values to unpack (expected %d)", before);
    return false;
  }
  py::Ref list = py::Ref::steal(PyList_New(0));
  if (!list || !append_rest(frame, list.get(), iterator)) return false;
  const Py_ssize_t rest = PyList_GET_SIZE(list.get());
  if (rest < after) {
    PyErr_Format(PyExc_ValueError, "not enough values to unpack (expected at least %d, got %zd)",
                 before + after, before + rest);
    return false;
  }
  put({py::Ref(list).release(), nullptr});
  for (Py_ssize_t i = rest - after; i < rest; i++) {
    put({Py_NewRef(PyList_GET_ITEM(list.get(), i)), nullptr});
  }
  return PyList_SetSlice(list.get(), rest - after, rest, nullptr) == 0;
}

}  // namespace

bool unpack(Frame& frame, Val iterable, int before, int after, PyObject** slots, Prov** provs) {
  const int total = before + (after < 0 ? 0 : after + 1);
  auto** items = static_cast<PyObject**>(alloca(sizeof(PyObject*) * (total + 1)));
  Prov** item_provs = nullptr;
  if (provs) {
    item_provs = static_cast<Prov**>(alloca(sizeof(Prov*) * (total + 1)));
    for (int i = 0; i < total; i++) item_provs[i] = nullptr;
  }
  int done = 0;
  if (after < 0 && (PyTuple_CheckExact(iterable.o) || PyList_CheckExact(iterable.o))) {
    if (frame.hooks && !frame.hooks->contents(frame, iterable)) return false;
    done = unpack_array(frame, iterable, total, items, item_provs);
    if (done < 0) return false;
  }
  if (!done) {
    Val iterator;
    if (!get_iter(frame, iterable, &iterator)) {
      if (PyErr_ExceptionMatches(PyExc_TypeError) && !Py_TYPE(iterable.o)->tp_iter &&
          !PySequence_Check(iterable.o)) {
        PyErr_Format(PyExc_TypeError, "cannot unpack non-iterable %.200s object",
                     Py_TYPE(iterable.o)->tp_name);
      }
      return false;
    }
    int filled = 0;
    const bool ok =
        unpack_iterator(frame, iterator, before, after, items, item_provs, total, &filled);
    Py_DECREF(iterator.o);
    if (!ok) {
      while (filled-- > 0) Py_DECREF(items[total - 1 - filled]);
      return false;
    }
  }
  for (int i = 0; i < total; i++) {
    slots[i] = items[i];
    if (provs) provs[i] = item_provs[i];
  }
  return true;
}

}  // namespace fulmen::interp
