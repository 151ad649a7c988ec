// Builtins that run through an iterable or call a function for each item.
#include "interp/lookaside.h"
#include "interp/slots.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

PyTypeObject* partial_type = nullptr;

namespace {

// Calls `each(item)` for the items until it returns something else than kDecline.
template <class Each>
Looked for_each(Frame& frame, Val iterable, Each each) {
  Val iterator, item;
  if (!get_iter(frame, iterable, &iterator)) return Looked::kError;
  Looked looked = Looked::kDecline;
  while (looked == Looked::kDecline) {
    const int more = next(frame, iterator, &item);
    if (more <= 0) {
      if (more < 0) looked = Looked::kError;
      break;
    }
    looked = each(item);
    Py_DECREF(item.o);
  }
  Py_DECREF(iterator.o);
  return looked;
}

Looked any_or_all(Frame& frame, const Args& args, int stop_at, Val* result) {
  if (args.names || args.count != 1) return Looked::kDecline;
  const Looked looked = for_each(frame, args.at(0), [&](Val item) {
    const int t = truth(frame, item);
    return t < 0 ? Looked::kError : t == stop_at ? Looked::kDone : Looked::kDecline;
  });
  if (looked == Looked::kError) return looked;
  const bool answer = (looked == Looked::kDone) == (stop_at == 1);
  *result = {Py_NewRef(answer ? Py_True : Py_False), nullptr};
  return Looked::kDone;
}

Looked any(Frame& frame, Val, const Args& args, Val* result) {
  return any_or_all(frame, args, 1, result);
}

Looked all(Frame& frame, Val, const Args& args, Val* result) {
  return any_or_all(frame, args, 0, result);
}

Looked iter(Frame& frame, Val, const Args& args, Val* result) {
  if (args.names || args.count != 1) return Looked::kDecline;
  return done(get_iter(frame, args.at(0), result));
}

Looked next_item(Frame& frame, Val, const Args& args, Val* result) {
  if (args.names || args.count < 1 || args.count > 2) return Looked::kDecline;
  const Val iterator = args.at(0);
  PyTypeObject* type = Py_TYPE(iterator.o);
  // What StopIteration carries gets lost in next(); a default replaces it anyway.
  if (args.count == 1 || !PyIter_Check(iterator.o)) {
    if (type != &PyGen_Type || !is_generator(iterator.o)) {
      if (type->tp_iternext != python_slots.all.tp_iternext) return Looked::kDecline;
      const int has = call_special(frame, iterator, names::__next__, {}, result);
      return has == 0 ? Looked::kDecline : done(has > 0);
    }
    const Sent sent = resume(frame, iterator.o, {}, false, result);
    if (sent == Sent::kNext) return Looked::kDone;
    if (sent == Sent::kReturn) {
      if (result->o == Py_None) {
        PyErr_SetNone(PyExc_StopIteration);
      } else {
        _PyGen_SetStopIterationValue(result->o);
      }
      Py_CLEAR(result->o);
    }
    return Looked::kError;
  }
  const int more = next(frame, iterator, result);
  if (more == 0) {
    *result = args.at(1);
    Py_INCREF(result->o);
  }
  return done(more >= 0);
}

// sum() adds numbers of C in ways of its own (floats with compensation since 3.12); only a trace
// has to see each addition.
Looked sum(Frame& frame, Val, const Args& args, Val* result) {
  if (!frame.hooks || args.names || args.count < 1 || args.count > 2) return Looked::kDecline;
  if (args.count == 2 && (PyUnicode_Check(args.objects[1]) || PyBytes_Check(args.objects[1]) ||
                          PyByteArray_Check(args.objects[1]))) {
    return Looked::kDecline;
  }
  Val total{args.count == 2 ? Py_NewRef(args.objects[1]) : PyLong_FromLong(0), nullptr};
  const Looked looked = for_each(frame, args.at(0), [&](Val item) {
    Val added;
    if (!binary_op(frame, 0, total, item, &added)) return Looked::kError;
    Py_DECREF(total.o);
    total = added;
    return Looked::kDecline;
  });
  if (looked == Looked::kError) {
    Py_DECREF(total.o);
    return looked;
  }
  *result = total;
  return Looked::kDone;
}

Looked reduce(Frame& frame, Val, const Args& args, Val* result) {
  if (args.names || args.count < 2 || args.count > 3) return Looked::kDecline;
  if (!Py_TYPE(args.objects[1])->tp_iter && !PySequence_Check(args.objects[1])) {
    return Looked::kDecline;
  }
  Val total = args.count == 3 ? args.at(2) : Val{};
  Py_XINCREF(total.o);
  const Looked looked = for_each(frame, args.at(1), [&](Val item) {
    if (!total.o) {
      total = item;
      Py_INCREF(total.o);
      return Looked::kDecline;
    }
    Val combined;
    if (!call_with(frame, args.at(0), {total, item}, &combined)) return Looked::kError;
    Py_DECREF(total.o);
    total = combined;
    return Looked::kDecline;
  });
  if (looked != Looked::kError && total.o) {
    *result = total;
    return Looked::kDone;
  }
  Py_XDECREF(total.o);
  if (looked != Looked::kError) {
    PyErr_SetString(PyExc_TypeError, "reduce() of empty iterable with no initial value");
  }
  return Looked::kError;
}

// list(x) and tuple(x) of something that Python code yields.
Looked make_sequence(Frame& frame, const Args& args, bool tuple, Val* result) {
  if (args.names || args.count != 1 || !runs_python(args.objects[0])) return Looked::kDecline;
  Val list;
  if (!to_list(frame, args.at(0), &list)) return Looked::kError;
  if (tuple) {
    *result = {PyList_AsTuple(list.o), nullptr};
    Py_DECREF(list.o);
  } else {
    *result = list;
  }
  return done(result->o != nullptr);
}

Looked make_list(Frame& frame, Val, const Args& args, Val* result) {
  return make_sequence(frame, args, false, result);
}

Looked make_tuple(Frame& frame, Val, const Args& args, Val* result) {
  return make_sequence(frame, args, true, result);
}

}  // namespace

bool call_partial(Frame& frame, Val partial, const Args& args, Val* result) {
  py::Ref function = py::Ref::steal(PyObject_GetAttr(partial.o, names::func));
  py::Ref first = py::Ref::steal(PyObject_GetAttr(partial.o, names::args));
  py::Ref named = py::Ref::steal(PyObject_GetAttr(partial.o, names::keywords));
  if (!function || !first || !named) return false;
  const Py_ssize_t before = PyTuple_GET_SIZE(first.get());
  py::Ref positional = py::Ref::steal(PyTuple_New(before + args.count));
  if (!positional) return false;
  for (Py_ssize_t i = 0; i < before; i++) {
    PyTuple_SET_ITEM(positional.get(), i, Py_NewRef(PyTuple_GET_ITEM(first.get(), i)));
  }
  for (Py_ssize_t i = 0; i < args.count; i++) {
    PyTuple_SET_ITEM(positional.get(), before + i, Py_NewRef(args.objects[i]));
  }
  py::Ref keywords;
  if (args.named() || PyDict_GET_SIZE(named.get())) {
    keywords = py::Ref::steal(PyDict_Copy(named.get()));
    if (!keywords) return false;
    for (Py_ssize_t i = 0, n = args.named(); i < n; i++) {
      if (PyDict_SetItem(keywords.get(), PyTuple_GET_ITEM(args.names, i),
                         args.objects[args.count + i]) < 0) {
        return false;
      }
    }
  }
  return call_unpacked(frame, {function.get(), nullptr}, {positional.get(), nullptr},
                       {keywords.get(), nullptr}, result);
}

bool init_iteration_lookasides() {
  py::Ref functools = py::Ref::steal(PyImport_ImportModule("_functools"));
  if (!functools) return false;
  PyObject* partial = PyObject_GetAttrString(functools.get(), "partial");
  py::Ref reduce_function = py::Ref::steal(PyObject_GetAttrString(functools.get(), "reduce"));
  if (!partial || !reduce_function) return false;
  partial_type = reinterpret_cast<PyTypeObject*>(partial);  // kept for good
  register_lookaside(reduce_function.get(), reduce);
  register_lookaside(reinterpret_cast<PyObject*>(&PyList_Type), make_list);
  register_lookaside(reinterpret_cast<PyObject*>(&PyTuple_Type), make_tuple);
  return register_builtin("any", any) && register_builtin("all", all) &&
         register_builtin("iter", iter) && register_builtin("next", next_item) &&
         register_builtin("sum", sum);
}

}  // namespace fulmen::interp
