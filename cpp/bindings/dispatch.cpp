#include "bindings/dispatch.h"

#include <memory>
#include <vector>

#include "bindings/program_object.h"
#include "bridge/bridge.h"

// The hot call path, on plain CPython: Dispatch(on_miss) keeps compiled programs with their input
// checks. A call runs the first program whose check accepts the arguments; without one it calls
// on_miss(dispatch, *args), which compiles (and adds an entry), and returns its result.
namespace fulmen::bindings {
namespace {

struct Entry {
  std::shared_ptr<const exec::Program> program;
  std::unique_ptr<bridge::InputCheck> check;
  std::vector<nanobind::object>
      captured;  // inputs after the arguments: tensors that the program holds
};

struct DispatchObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  std::vector<std::shared_ptr<Entry>>* entries;
  PyObject* on_miss;
  PyObject* dict;
  PyObject* weakrefs;
  uint64_t calls;
  uint64_t hits;
};

// The arguments of a call followed by what the entry captured.
struct Arguments {
  Arguments(const Entry& entry, PyObject* const* args, size_t n) : data(args), size(n) {
    if (entry.captured.empty()) return;
    buffer.assign(args, args + n);
    for (const auto& c : entry.captured) buffer.push_back(c.ptr());
    data = buffer.data();
    size = buffer.size();
  }
  PyObject* const* data;
  size_t size;
  std::vector<PyObject*> buffer;
};

PyObject* call(PyObject* self_object, PyObject* const* args, size_t nargsf, PyObject* kwnames) {
  auto* self = reinterpret_cast<DispatchObject*>(self_object);
  const auto n = static_cast<size_t>(PyVectorcall_NARGS(nargsf));
  if (kwnames && PyTuple_GET_SIZE(kwnames) != 0) {
    PyErr_SetString(PyExc_TypeError, "a compiled program takes positional arguments only");
    return nullptr;
  }
  ++self->calls;
  auto& entries = *self->entries;
  for (size_t i = 0; i < entries.size(); ++i) {
    Arguments all(*entries[i], args, n);
    if (!entries[i]->check->accepts(all.data, all.size, nullptr)) continue;
    ++self->hits;
    const std::shared_ptr<Entry> entry = entries[i];  // another thread may add entries meanwhile
    if (i > 0) std::swap(entries[0], entries[i]);
    return bridge::call_program(*entry->program, all.data, all.size);
  }
  std::vector<PyObject*> forwarded{self_object};
  forwarded.insert(forwarded.end(), args, args + n);
  return PyObject_Vectorcall(self->on_miss, forwarded.data(), forwarded.size(), nullptr);
}

PyObject* make(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject* on_miss = nullptr;
  if (!PyArg_ParseTuple(args, "O", &on_miss)) return nullptr;
  auto* self = reinterpret_cast<DispatchObject*>(type->tp_alloc(type, 0));
  if (!self) return nullptr;
  self->vectorcall = call;
  self->entries = new std::vector<std::shared_ptr<Entry>>;
  Py_INCREF(on_miss);
  self->on_miss = on_miss;
  return reinterpret_cast<PyObject*>(self);
}

int traverse(PyObject* o, visitproc visit, void* arg) {
  auto* self = reinterpret_cast<DispatchObject*>(o);
  Py_VISIT(Py_TYPE(o));
  Py_VISIT(self->on_miss);
  Py_VISIT(self->dict);
  return 0;
}

int clear(PyObject* o) {
  auto* self = reinterpret_cast<DispatchObject*>(o);
  Py_CLEAR(self->on_miss);
  Py_CLEAR(self->dict);
  return 0;
}

void dealloc(PyObject* o) {
  auto* self = reinterpret_cast<DispatchObject*>(o);
  PyObject_GC_UnTrack(o);
  if (self->weakrefs) PyObject_ClearWeakRefs(o);
  clear(o);
  delete self->entries;
  PyTypeObject* type = Py_TYPE(o);
  type->tp_free(o);
  Py_DECREF(type);
}

// add(program, number_values, captured): number_values are the constants of the inputs that are
// numbers (None for the others), captured the tensors that are inputs after the arguments.
PyObject* add(PyObject* o, PyObject* args) {
  auto* self = reinterpret_cast<DispatchObject*>(o);
  PyObject *program_object = nullptr, *values = nullptr, *captured = nullptr;
  if (!PyArg_ParseTuple(args, "OO!O!", &program_object, &PyTuple_Type, &values, &PyTuple_Type,
                        &captured)) {
    return nullptr;
  }
  auto program = program_of(program_object);
  if (!program) {
    PyErr_SetString(PyExc_TypeError, "expected a Program");
    return nullptr;
  }
  std::vector<PyObject*> numbers;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(values); ++i) {
    PyObject* v = PyTuple_GET_ITEM(values, i);
    numbers.push_back(v == Py_None ? nullptr : v);
  }
  try {
    auto check = bridge::make_input_check(program->trace(), numbers);
    auto entry = std::make_shared<Entry>(Entry{program, std::move(check), {}});
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(captured); ++i) {
      entry->captured.push_back(nanobind::borrow(PyTuple_GET_ITEM(captured, i)));
    }
    self->entries->push_back(std::move(entry));
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
    return nullptr;
  }
  Py_RETURN_NONE;
}

// explain(*args): why no entry accepts the arguments, one string an entry.
PyObject* explain(PyObject* o, PyObject* args) {
  auto* self = reinterpret_cast<DispatchObject*>(o);
  PyObject* list = PyList_New(0);
  for (const auto& entry : *self->entries) {
    std::string why;
    const Arguments all(*entry, reinterpret_cast<PyTupleObject*>(args)->ob_item,
                        static_cast<size_t>(PyTuple_GET_SIZE(args)));
    if (entry->check->accepts(all.data, all.size, &why)) continue;
    PyObject* text = PyUnicode_FromStringAndSize(why.data(), static_cast<Py_ssize_t>(why.size()));
    PyList_Append(list, text);
    Py_XDECREF(text);
  }
  return list;
}

PyObject* counts(PyObject* o, void*) {
  auto* self = reinterpret_cast<DispatchObject*>(o);
  return Py_BuildValue("(KKn)", self->calls, self->hits,
                       static_cast<Py_ssize_t>(self->entries->size()));
}

PyMethodDef methods[] = {
    {"add", add, METH_VARARGS, "add(program, number_values, captured): adds an entry."},
    {"explain", explain, METH_VARARGS, "explain(*args): why each entry refuses the arguments."},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef getset[] = {
    {"counts", counts, nullptr, "(calls, hits, entries)", nullptr},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(DispatchObject, vectorcall), READONLY, nullptr},
    {"__dictoffset__", T_PYSSIZET, offsetof(DispatchObject, dict), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(DispatchObject, weakrefs), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};
PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(make)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
                       {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
                       {Py_tp_clear, reinterpret_cast<void*>(clear)},
                       {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, getset},
                       {Py_tp_members, members},
                       {0, nullptr}};
PyType_Spec spec = {"fulmen._core.Dispatch", sizeof(DispatchObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL, slots};

}  // namespace

void add_dispatch_type(nanobind::module_& m) {
  m.attr("Dispatch") = nanobind::steal(PyType_FromSpec(&spec));
}

}  // namespace fulmen::bindings
