#include "interp/steps.h"

#include <utility>

#include "interp/slots.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace {

// The heads of the iterators. init_steps() compares them with live objects.
struct MapHead {
  PyObject_HEAD PyObject* iterators;
  PyObject* function;
};
struct FilterHead {
  PyObject_HEAD PyObject* function;
  PyObject* iterator;
};
struct EnumerateHead {
  PyObject_HEAD Py_ssize_t index;
  PyObject* iterator;
  PyObject* result;
  PyObject* long_index;
};
struct ZipHead {
  PyObject_HEAD Py_ssize_t count;
  PyObject* iterators;
  PyObject* result;
  int strict;
};

int map_step(Frame& frame, Val iterator, Val* result) {
  const auto* head = reinterpret_cast<MapHead*>(iterator.o);
  py::Ref iterators = py::Ref::borrow(head->iterators);
  py::Ref function = py::Ref::borrow(head->function);
  const Py_ssize_t count = PyTuple_GET_SIZE(iterators.get());
  py::Ref items = py::Ref::steal(PyTuple_New(count));
  if (!items) return -1;
  for (Py_ssize_t i = 0; i < count; i++) {
    Val item;
    const int more = next(frame, {PyTuple_GET_ITEM(iterators.get(), i), iterator.p}, &item);
    if (more <= 0) return more;
    PyTuple_SET_ITEM(items.get(), i, item.o);
    if (count == 1) {
      return call_with(frame, {function.get(), nullptr}, {item}, result) ? 1 : -1;
    }
  }
  return call_unpacked(frame, {function.get(), nullptr}, {items.get(), nullptr}, {}, result) ? 1
                                                                                             : -1;
}

int filter_step(Frame& frame, Val iterator, Val* result) {
  const auto* head = reinterpret_cast<FilterHead*>(iterator.o);
  py::Ref inner = py::Ref::borrow(head->iterator);
  py::Ref function = py::Ref::borrow(head->function);
  const bool plain =
      function.get() == Py_None || function.get() == reinterpret_cast<PyObject*>(&PyBool_Type);
  for (;;) {
    Val item, answer;
    const int more = next(frame, {inner.get(), iterator.p}, &item);
    if (more <= 0) return more;
    int keep = -1;
    if (plain) {
      keep = truth(frame, item);
    } else if (call_with(frame, {function.get(), nullptr}, {item}, &answer)) {
      keep = truth(frame, answer);
      Py_DECREF(answer.o);
    }
    if (keep > 0) {
      *result = item;
      return 1;
    }
    Py_DECREF(item.o);
    if (keep < 0) return -1;
  }
}

int enumerate_step(Frame& frame, Val iterator, Val* result) {
  auto* head = reinterpret_cast<EnumerateHead*>(iterator.o);
  if (head->index == PY_SSIZE_T_MAX) {  // counts in Python ints: leave that to CPython
    *result = {Py_TYPE(iterator.o)->tp_iternext(iterator.o), nullptr};
    return result->o ? 1 : PyErr_Occurred() ? -1 : 0;
  }
  py::Ref inner = py::Ref::borrow(head->iterator);
  Val item;
  const int more = next(frame, {inner.get(), iterator.p}, &item);
  if (more <= 0) return more;
  py::Ref value = py::Ref::steal(item.o);
  py::Ref index = py::Ref::steal(PyLong_FromSsize_t(head->index));
  if (!index) return -1;
  head->index++;
  *result = {PyTuple_Pack(2, index.get(), value.get()), nullptr};
  return result->o ? 1 : -1;
}

int raise_unequal(Py_ssize_t i, const char* how) {
  PyErr_Format(PyExc_ValueError, "zip() argument %d is %s than argument%s%d",
               static_cast<int>(i + 1), how, i == 1 ? " " : "s 1-", static_cast<int>(i));
  return -1;
}

int zip_step(Frame& frame, Val iterator, Val* result) {
  const auto* head = reinterpret_cast<ZipHead*>(iterator.o);
  const Py_ssize_t count = head->count;
  const bool strict = head->strict;
  if (count == 0) return 0;
  py::Ref iterators = py::Ref::borrow(head->iterators);
  py::Ref items = py::Ref::steal(PyTuple_New(count));
  if (!items) return -1;
  Val item;
  for (Py_ssize_t i = 0; i < count; i++) {
    const int more = next(frame, {PyTuple_GET_ITEM(iterators.get(), i), iterator.p}, &item);
    if (more > 0) {
      PyTuple_SET_ITEM(items.get(), i, item.o);
      continue;
    }
    if (more < 0 || !strict) return more;
    if (i) return raise_unequal(i, "shorter");
    for (i = 1; i < count; i++) {
      const int rest = next(frame, {PyTuple_GET_ITEM(iterators.get(), i), iterator.p}, &item);
      if (rest < 0) return -1;
      if (rest > 0) {
        Py_DECREF(item.o);
        return raise_unequal(i, "longer");
      }
    }
    return 0;
  }
  *result = {items.release(), nullptr};
  return 1;
}

bool steps_are_known = false;

bool same_layout() {
  py::Ref list = py::Ref::steal(PyList_New(0));
  py::Ref function = py::Ref::borrow(reinterpret_cast<PyObject*>(&PyBool_Type));
  const auto make = [](PyTypeObject* type, PyObject* a, PyObject* b) {
    return py::Ref::steal(
        PyObject_CallFunctionObjArgs(reinterpret_cast<PyObject*>(type), a, b, nullptr));
  };
  py::Ref map = make(&PyMap_Type, function.get(), list.get());
  py::Ref filter = make(&PyFilter_Type, function.get(), list.get());
  py::Ref zip = make(&PyZip_Type, list.get(), list.get());
  py::Ref start = py::Ref::steal(PyLong_FromLong(41));
  py::Ref count = make(&PyEnum_Type, list.get(), start.get());
  if (!map || !filter || !zip || !count) return false;
  const auto* m = reinterpret_cast<MapHead*>(map.get());
  const auto* f = reinterpret_cast<FilterHead*>(filter.get());
  const auto* z = reinterpret_cast<ZipHead*>(zip.get());
  const auto* e = reinterpret_cast<EnumerateHead*>(count.get());
  return m->function == function.get() && PyTuple_CheckExact(m->iterators) &&
         PyTuple_GET_SIZE(m->iterators) == 1 && f->function == function.get() &&
         Py_IS_TYPE(f->iterator, &PyListIter_Type) && z->count == 2 &&
         PyTuple_CheckExact(z->iterators) && PyTuple_GET_SIZE(z->iterators) == 2 &&
         z->strict == 0 && e->index == 41 && Py_IS_TYPE(e->iterator, &PyListIter_Type) &&
         !e->long_index;
}

}  // namespace

bool init_steps() {
  steps_are_known = same_layout();
  return !PyErr_Occurred();
}

Step has_step(PyTypeObject* type) {
  if (!steps_are_known) return nullptr;
  if (type == &PyMap_Type) return map_step;
  if (type == &PyFilter_Type) return filter_step;
  if (type == &PyZip_Type) return zip_step;
  if (type == &PyEnum_Type) return enumerate_step;
  return nullptr;
}

}  // namespace fulmen::interp
