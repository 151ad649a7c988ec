// Comparison and membership.
#include "interp/protocol.h"
#include "interp/slots.h"
#include "py/names.h"
#include "py/private_api.h"

namespace fulmen::interp {

namespace names = py::names;

namespace {

PyObject* const* const kNames[6] = {&names::__lt__, &names::__le__, &names::__eq__,
                                    &names::__ne__, &names::__gt__, &names::__ge__};
constexpr const char* kSigns[6] = {"<", "<=", "==", "!=", ">", ">="};
constexpr int kSwapped[6] = {Py_GT, Py_GE, Py_EQ, Py_NE, Py_LT, Py_LE};

bool is_python(PyObject* object) {
  return Py_TYPE(object)->tp_richcompare == python_slots.all.tp_richcompare;
}

// tp_richcompare of `a`; NotImplemented where it has none.
bool half(Frame& frame, int op, Val a, Val b, Val* result) {
  result->p = nullptr;
  if (is_python(a.o)) {
    PyObject* method = type_lookup(frame, Py_TYPE(a.o), *kNames[op]);
    if (method && PyType_HasFeature(Py_TYPE(method), Py_TPFLAGS_METHOD_DESCRIPTOR)) {
      return call_special(frame, a, *kNames[op], {b}, result) > 0;
    }
    Val bound;
    if (lookup_special(frame, a, *kNames[op], &bound) <= 0) {
      PyErr_Clear();  // as CPython does, even when binding the method raised
      result->o = Py_NewRef(Py_NotImplemented);
      return true;
    }
    const bool ok = call_with(frame, bound, {b}, result);
    Py_DECREF(bound.o);
    return ok;
  }
  const richcmpfunc slot = Py_TYPE(a.o)->tp_richcompare;
  result->o = slot ? slot(a.o, b.o, op) : Py_NewRef(Py_NotImplemented);
  return result->o != nullptr;
}

bool compare_python(Frame& frame, int op, Val a, Val b, Val* result) {
  PyTypeObject *left = Py_TYPE(a.o), *right = Py_TYPE(b.o);
  bool reflected_done = false;
  if (left != right && PyType_IsSubtype(right, left) && right->tp_richcompare) {
    reflected_done = true;
    if (!half(frame, kSwapped[op], b, a, result)) return false;
    if (result->o != Py_NotImplemented) return true;
    Py_DECREF(result->o);
  }
  if (!half(frame, op, a, b, result)) return false;
  if (result->o != Py_NotImplemented) return true;
  Py_DECREF(result->o);
  if (!reflected_done && right->tp_richcompare) {
    if (!half(frame, kSwapped[op], b, a, result)) return false;
    if (result->o != Py_NotImplemented) return true;
    Py_DECREF(result->o);
  }
  result->p = nullptr;
  if (op == Py_EQ || op == Py_NE) {
    result->o = Py_NewRef((a.o == b.o) == (op == Py_EQ) ? Py_True : Py_False);
    return true;
  }
  result->o = nullptr;
  PyErr_Format(PyExc_TypeError, "'%s' not supported between instances of '%.100s' and '%.100s'",
               kSigns[op], left->tp_name, right->tp_name);
  return false;
}

}  // namespace

bool compare(Frame& frame, int op, Val a, Val b, Val* result) {
  if (frame.hooks) {
    const Answer answer = frame.hooks->operate(frame, 100 + op, a, b, result);
    if (answer != Answer::kNotHandled) return answer == Answer::kDone;
  }
  if (!is_python(a.o) && !is_python(b.o)) {
    *result = {PyObject_RichCompare(a.o, b.o, op), nullptr};
    return result->o != nullptr;
  }
  if (Py_EnterRecursiveCall(" in comparison")) return false;
  const bool ok = compare_python(frame, op, a, b, result);
  Py_LeaveRecursiveCall();
  return ok;
}

int contains(Frame& frame, Val container, Val item) {
  PyTypeObject* type = Py_TYPE(container.o);
  if (frame.hooks && PyDict_Check(container.o)) item.o = frame.hooks->key_of(item.o);
  if (frame.hooks && !PyDict_Check(container.o)) frame.hooks->search(frame, container, item);
  if (frame.hooks && !(PyDict_Check(container.o) ? frame.hooks->member(frame, container, item.o)
                                                 : frame.hooks->contents(frame, container))) {
    return -1;
  }
  if (!is_heap_type(type) || !type->tp_as_sequence ||
      type->tp_as_sequence->sq_contains != python_slots.sequence.sq_contains) {
    if (!is_heap_type(type) && !runs_python(container.o)) {
      return PySequence_Contains(container.o, item.o);
    }
    if (type->tp_as_sequence && type->tp_as_sequence->sq_contains) {
      return PySequence_Contains(container.o, item.o);
    }
  } else {
    PyObject* method = type_lookup(frame, type, names::__contains__);
    if (method == Py_None) return PySequence_Contains(container.o, item.o);  // raises
    Val answer;
    const int has = call_special(frame, container, names::__contains__, {item}, &answer);
    if (has < 0) return -1;
    if (has > 0) {
      const int found = truth(frame, answer);
      Py_DECREF(answer.o);
      return found;
    }
  }
  // By iteration.
  Val iterator;
  if (!get_iter(frame, container, &iterator)) {
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
      PyErr_Format(PyExc_TypeError, "argument of type '%.200s' is not iterable", type->tp_name);
    }
    return -1;
  }
  int found = 0;
  Val candidate, equal;
  while (!found) {
    const int more = next(frame, iterator, &candidate);
    if (more <= 0) {
      found = more;
      break;
    }
    if (candidate.o == item.o) {
      found = 1;
    } else if (compare(frame, Py_EQ, candidate, item, &equal)) {
      found = truth(frame, equal);
      Py_DECREF(equal.o);
    } else {
      found = -1;
    }
    Py_DECREF(candidate.o);
  }
  Py_DECREF(iterator.o);
  return found;
}

}  // namespace fulmen::interp
