#include "jit/function.h"

#include <structmember.h>

#include <algorithm>
#include <chrono>
#include <cstring>

// The hot call path, on plain CPython.
namespace fulmen::jit {
namespace {

struct FunctionObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  std::vector<std::shared_ptr<Entry>>* entries;
  PyObject* on_miss;
  PyObject* fn;
  PyObject* dict;
  PyObject* weakrefs;
  uint64_t calls;
  uint64_t hits;
};

PyObject* call(PyObject* self_object, PyObject* const* args, size_t nargsf, PyObject* names);

PyObject* pack_kwargs(PyObject* const* values, PyObject* names) {
  PyObject* dict = PyDict_New();
  for (Py_ssize_t i = 0; dict && names && i < PyTuple_GET_SIZE(names); ++i) {
    if (PyDict_SetItem(dict, PyTuple_GET_ITEM(names, i), values[i]) < 0) Py_CLEAR(dict);
  }
  return dict;
}

// The outputs of the segments that ran, and what was observed of them: the acquisition that follows
// takes them as they are.
PyObject* replay(const Call& call) {
  PyObject* outputs = PyTuple_New(static_cast<Py_ssize_t>(call.outputs().size()));
  for (size_t i = 0; outputs && i < call.outputs().size(); ++i)
    PyTuple_SET_ITEM(outputs, static_cast<Py_ssize_t>(i), Py_NewRef(call.outputs()[i]));
  return outputs;
}

PyObject* ask_on_miss(FunctionObject* self, const Call* call, PyObject* const* args, Py_ssize_t n,
                      PyObject* names) {
  PyObject* positional = PyTuple_New(n);
  for (Py_ssize_t i = 0; positional && i < n; ++i)
    PyTuple_SET_ITEM(positional, i, Py_NewRef(args[i]));
  PyObject* kwargs = positional ? pack_kwargs(args + n, names) : nullptr;
  PyObject* ran = kwargs ? (call ? replay(*call) : Py_NewRef(Py_None)) : nullptr;
  PyObject* result =
      ran ? PyObject_CallFunctionObjArgs(self->on_miss, self, ran, positional, kwargs, nullptr)
          : nullptr;
  Py_XDECREF(positional);
  Py_XDECREF(kwargs);
  Py_XDECREF(ran);
  return result;
}

// The user's own function, with no frame of ours in a traceback.
PyObject* run_eagerly(FunctionObject* self, PyObject* const* args, Py_ssize_t n, PyObject* names) {
  return PyObject_Vectorcall(self->fn, args, static_cast<size_t>(n), names);
}

// The same after a program failed, whose error, which is set, has a note of where.
PyObject* run_again_eagerly(FunctionObject* self, PyObject* const* args, Py_ssize_t n,
                            PyObject* names) {
  PyObject *type, *first, *traceback;
  PyErr_Fetch(&type, &first, &traceback);
  PyErr_NormalizeException(&type, &first, &traceback);
  PyObject* result = run_eagerly(self, args, n, names);
  if (!result) {
    PyObject *new_type, *error, *new_traceback;
    PyErr_Fetch(&new_type, &error, &new_traceback);
    PyErr_NormalizeException(&new_type, &error, &new_traceback);
    PyObject* notes =
        Py_TYPE(error) == Py_TYPE(first) ? PyObject_GetAttrString(first, "__notes__") : nullptr;
    for (Py_ssize_t i = 0; notes && PyList_Check(notes) && i < PyList_GET_SIZE(notes); ++i) {
      PyObject* r = PyObject_CallMethod(error, "add_note", "O", PyList_GET_ITEM(notes, i));
      Py_XDECREF(r);
    }
    Py_XDECREF(notes);
    PyErr_Clear();
    PyErr_Restore(new_type, error, new_traceback);
  }
  Py_XDECREF(type);
  Py_XDECREF(first);
  Py_XDECREF(traceback);
  return result;
}

// `refusal`, an exception of ours that says better what is wrong than the one that eager raised,
// takes its place.
void replace_error(PyObject* refusal) {
  PyObject *type, *error, *traceback;
  PyErr_Fetch(&type, &error, &traceback);
  PyErr_NormalizeException(&type, &error, &traceback);
  if (!PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
    PyErr_Restore(type, error, traceback);
    return;
  }
  if (traceback) PyException_SetTraceback(error, traceback);
  PyException_SetTraceback(refusal, traceback ? traceback : Py_None);
  PyException_SetCause(refusal, error);  // takes the reference
  Py_DECREF(type);
  PyErr_Restore(Py_NewRef(reinterpret_cast<PyObject*>(Py_TYPE(refusal))), Py_NewRef(refusal),
                traceback);
}

// Calls a method of the object that on_miss is bound to. False with an error set.
bool tell(FunctionObject* self, const char* method, PyObject* what) {
  PyObject* answer = PyObject_CallMethod(PyMethod_GET_SELF(self->on_miss), method, "O", what);
  Py_XDECREF(answer);
  return answer != nullptr;
}

// What on_miss says is a pair: ("done", result), ("again", None), or ("eager", the exception that
// explains why eager will raise, or None).
PyObject* miss(FunctionObject* self, Call* state, PyObject* const* args, Py_ssize_t n,
               PyObject* names) {
  PyObject* answer = ask_on_miss(self, state, args, n, names);
  const char* kind = nullptr;
  PyObject* value = nullptr;
  if (!answer || !PyArg_ParseTuple(answer, "sO", &kind, &value)) {
    Py_XDECREF(answer);
    if (state) state->undo();
    return nullptr;
  }
  PyObject* result = nullptr;
  if (std::strcmp(kind, "done") == 0) {
    result = Py_NewRef(value);
  } else {
    if (state) state->undo();
    if (std::strcmp(kind, "again") == 0) {
      result = call(reinterpret_cast<PyObject*>(self), args, static_cast<size_t>(n), names);
    } else {
      result = run_eagerly(self, args, n, names);
      if (value != Py_None && !result) replace_error(value);
      if (value != Py_None && result && !tell(self, "_survived", value)) Py_CLEAR(result);
    }
  }
  Py_DECREF(answer);
  return result;
}

PyObject* call(PyObject* self_object, PyObject* const* args, size_t nargsf, PyObject* names) {
  auto* self = reinterpret_cast<FunctionObject*>(self_object);
  const auto n = static_cast<size_t>(PyVectorcall_NARGS(nargsf));
  const size_t total = n + static_cast<size_t>(names ? PyTuple_GET_SIZE(names) : 0);
  ++self->calls;
  const bridge::AmbientState ambient = bridge::ambient_state();
  auto& entries = *self->entries;
  if (!entries.empty() && entries.front()->plain >= 0) {
    const std::shared_ptr<Entry> entry = entries.front();  // another thread may add entries
    if (entry->takes(n, names) && entry->fits(ambient)) {
      bool failed_clean = false;
      if (PyObject* result = call_plain(*entry, args, total, entry->plain, &failed_clean)) {
        ++self->hits;
        return result;
      }
      if (failed_clean) {
        return run_again_eagerly(self, args, static_cast<Py_ssize_t>(n), names);
      }
      if (PyErr_Occurred()) return nullptr;
    }
  }
  const bool grad = bridge::grad_enabled(), inference = bridge::inference_mode();
  const auto restore = [&] {  // a segment that ran may have left other modes
    if (bridge::inference_mode() != inference) bridge::set_inference_mode(inference);
    bridge::set_grad_enabled(grad);
  };
  Call state(args, total);
  for (size_t i = 0; i < entries.size(); ++i) {
    const std::shared_ptr<Entry> entry = entries[i];  // calls of other threads may reorder them
    if (!entry->takes(n, names) || !entry->fits(ambient)) continue;
    if (state.segments_run() > 0 && !state.continues(*entry)) continue;
    if (!state.accepts(*entry, nullptr)) continue;
    if (entry->refused) {
      if (!tell(self, "_left_again", entry->refused)) return nullptr;
      return run_eagerly(self, args, static_cast<Py_ssize_t>(n), names);
    }
    if (state.segments_run() == 0 && i > 0 && entries[i] == entry)
      std::rotate(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(i),
                  entries.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    if (state.run(*entry)) {
      ++self->hits;
      return state.finish(*entry);
    }
    if (PyErr_Occurred()) {
      const bool taken_back = PyErr_ExceptionMatches(PyExc_Exception) && state.undo();
      restore();
      if (!taken_back) return nullptr;
      return run_again_eagerly(self, args, static_cast<Py_ssize_t>(n), names);
    }
    i = static_cast<size_t>(-1);  // another answer: look for the entry that goes on from here
  }
  restore();
  return miss(self, state.segments_run() > 0 ? &state : nullptr, args, static_cast<Py_ssize_t>(n),
              names);
}

PyObject* make(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject *on_miss = nullptr, *fn = nullptr;
  if (!PyArg_ParseTuple(args, "O!O", &PyMethod_Type, &on_miss, &fn)) return nullptr;
  auto* self = reinterpret_cast<FunctionObject*>(type->tp_alloc(type, 0));
  if (!self) return nullptr;
  self->vectorcall = call;
  self->entries = new std::vector<std::shared_ptr<Entry>>;
  self->on_miss = Py_NewRef(on_miss);
  self->fn = Py_NewRef(fn);
  return reinterpret_cast<PyObject*>(self);
}

int traverse(PyObject* o, visitproc visit, void* arg) {
  auto* self = reinterpret_cast<FunctionObject*>(o);
  Py_VISIT(Py_TYPE(o));
  Py_VISIT(self->on_miss);
  Py_VISIT(self->fn);
  Py_VISIT(self->dict);
  return 0;
}

int clear(PyObject* o) {
  auto* self = reinterpret_cast<FunctionObject*>(o);
  Py_CLEAR(self->on_miss);
  Py_CLEAR(self->fn);
  Py_CLEAR(self->dict);
  if (self->entries) self->entries->clear();
  return 0;
}

void dealloc(PyObject* o) {
  auto* self = reinterpret_cast<FunctionObject*>(o);
  PyObject_GC_UnTrack(o);
  if (self->weakrefs) PyObject_ClearWeakRefs(o);
  clear(o);
  delete self->entries;
  PyTypeObject* type = Py_TYPE(o);
  type->tp_free(o);
  Py_DECREF(type);
}

// explain(*args, **kwargs): the first guard that fails, one string an entry.
PyObject* explain(PyObject* o, PyObject* args, PyObject* kwargs) {
  auto* self = reinterpret_cast<FunctionObject*>(o);
  std::vector<PyObject*> all;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); ++i) all.push_back(PyTuple_GET_ITEM(args, i));
  const size_t n = all.size();
  PyObject* names = kwargs ? PyDict_Keys(kwargs) : nullptr;
  if (names) {
    PyObject* tuple = PyList_AsTuple(names);
    Py_SETREF(names, tuple);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); ++i)
      all.push_back(PyDict_GetItem(kwargs, PyTuple_GET_ITEM(names, i)));
  }
  PyObject* list = PyList_New(0);
  const bridge::AmbientState ambient = bridge::ambient_state();
  for (const auto& entry : *self->entries) {
    if (entry->refused) continue;
    std::string why;
    Call state(all.data(), all.size());
    if (!entry->takes(n, names)) {
      why = "other arguments: their number or their names";
    } else if (!(entry->ambient == ambient)) {
      why = bridge::ambient_difference(entry->ambient, ambient);
    } else if (state.accepts(*entry, &why)) {
      continue;
    }
    PyObject* text = PyUnicode_FromStringAndSize(why.data(), static_cast<Py_ssize_t>(why.size()));
    if (text) PyList_Append(list, text);
    Py_XDECREF(text);
  }
  Py_XDECREF(names);
  return list;
}

// time_guards(rounds, *args): the least seconds that one check of the newest specialization took,
// with the number of its instructions and of the words that it looks at.
PyObject* time_guards(PyObject* o, PyObject* const* args, Py_ssize_t n) {
  auto* self = reinterpret_cast<FunctionObject*>(o);
  const Py_ssize_t rounds = n > 0 ? PyLong_AsSsize_t(args[0]) : -1;
  if (rounds < 0 || self->entries->empty()) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "time_guards(): nothing to time");
    return nullptr;
  }
  const std::shared_ptr<Entry> entry = self->entries->front();
  constexpr int kInner = 100;
  double least = 1e9;
  for (Py_ssize_t r = 0; r < rounds; ++r) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kInner; ++i) {
      if (!PlainCall(*entry).accepts(args + 1, static_cast<size_t>(n - 1))) {
        PyErr_SetString(PyExc_ValueError, "time_guards(): a guard does not hold");
        return nullptr;
      }
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    least = std::min(least, took.count() / kInner);
  }
  return Py_BuildValue("(dnn)", least, static_cast<Py_ssize_t>(entry->guards.num_instructions()),
                       static_cast<Py_ssize_t>(entry->guards.num_epochs()));
}

PyObject* counts(PyObject* o, void*) {
  auto* self = reinterpret_cast<FunctionObject*>(o);
  const auto& entries = *self->entries;
  const auto compiled = std::count_if(entries.begin(), entries.end(),
                                      [](const auto& entry) { return !entry->refused; });
  return Py_BuildValue("(KKn)", self->calls, self->hits, static_cast<Py_ssize_t>(compiled));
}

PyMethodDef methods[] = {
    {"explain", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(explain)),
     METH_VARARGS | METH_KEYWORDS,
     "explain(*args, **kwargs): the guard that fails, for each specialization that refuses them."},
    {"time_guards", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(time_guards)),
     METH_FASTCALL,
     "time_guards(rounds, *args): (seconds, instructions, words) of a check of the guards alone."},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef getset[] = {
    {"counts", counts, nullptr, "(calls, hits, specializations)", nullptr},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(FunctionObject, vectorcall), READONLY, nullptr},
    {"__dictoffset__", T_PYSSIZET, offsetof(FunctionObject, dict), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(FunctionObject, weakrefs), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};
PyObject* bind(PyObject* self, PyObject* object, PyObject*) {
  return object && object != Py_None ? PyMethod_New(self, object) : Py_NewRef(self);
}
PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(make)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
                       {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
                       {Py_tp_clear, reinterpret_cast<void*>(clear)},
                       {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                       {Py_tp_descr_get, reinterpret_cast<void*>(bind)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, getset},
                       {Py_tp_members, members},
                       {0, nullptr}};
PyType_Spec spec = {"fulmen._core.JitFunction", sizeof(FunctionObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                        Py_TPFLAGS_METHOD_DESCRIPTOR,
                    slots};
PyTypeObject* function_type = nullptr;

}  // namespace

void add_function_type(nanobind::module_& m) {
  const nanobind::object type = nanobind::steal(PyType_FromSpec(&spec));
  function_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  m.attr("JitFunction") = type;
}

void add_entry(PyObject* function, std::shared_ptr<Entry> entry) {
  if (!PyObject_TypeCheck(function, function_type))
    throw nanobind::type_error("expected a JitFunction");
  auto& entries = *reinterpret_cast<FunctionObject*>(function)->entries;
  entry->plain = entry->plain_output();
  std::vector<int32_t> wanted = entry->recipe.slots();
  for (const Segment& s : entry->segments) {
    for (const int input : s.inputs) {
      if (input >= 0) wanted.push_back(input);
    }
  }
  entry->guards.set_wanted(std::move(wanted));
  const std::vector<int>& first = entry->segments.front().inputs;
  entry->guards.set_inputs({first.begin(), first.end()});
  entry->guards.set_argument_names(entry->argument_names);
  if (entry->trusted) entry->guards.trust();
  entries.insert(entry->refused ? entries.end() : entries.begin(), std::move(entry));
}

}  // namespace fulmen::jit
