#include "bindings/tensor_proxy.h"

#include <structmember.h>

#include <algorithm>

#include "bindings/recorder.h"
#include "bridge/bridge.h"
#include "support/error.h"

namespace fulmen::bindings {
namespace {

// What the slot `_state` of a TensorProxy refers to.
struct State {
  PyObject_HEAD PyProxy proxy;
  PyObject* owner;         // borrowed: it holds this
  State *previous, *next;  // all states, in the order they were made; the GIL guards the list
};
State* newest_state = nullptr;

PyTypeObject* proxy_type = nullptr;  // set once, when the module is imported
PyTypeObject* state_type = nullptr;
Py_ssize_t state_offset = 0;

void state_dealloc(PyObject* o) {
  PyTypeObject* type = Py_TYPE(o);
  auto* state = reinterpret_cast<State*>(o);
  if (state->next) state->next->previous = state->previous;
  if (state->previous) state->previous->next = state->next;
  if (newest_state == state) newest_state = state->previous;
  state->proxy.~PyProxy();
  type->tp_free(o);
  Py_DECREF(type);
}

PyType_Slot state_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(state_dealloc)}, {0, nullptr}};
PyType_Spec state_spec = {"fulmen._core._TensorProxyState", sizeof(State), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, state_slots};

const TensorProxy* tensor_of(PyObject* self) {
  const PyProxy* state = tensor_proxy_state(self);
  return state ? as_tensor(state->p) : nullptr;
}

// A getter of the metadata; errors of C++ become Python's.
template <nb::object (*kGet)(const TensorProxy&)>
PyObject* getter(PyObject* self, void*) {
  const TensorProxy* t = tensor_of(self);
  if (!t) {
    PyErr_SetString(PyExc_TypeError, "a TensorProxy is made by a trace, not by calling its type");
    return nullptr;
  }
  try {
    return kGet(*t).release().ptr();
  } catch (nb::python_error& e) {
    e.restore();
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  }
  return nullptr;
}

nb::object constant(const Arg& a) {
  nb::object o = nb::steal(bridge::constant_to_python(a));
  if (!o.is_valid()) throw nb::python_error();
  return o;
}

nb::object name(const TensorProxy& t) { return nb::str(std::string(t.name).c_str()); }
nb::object shape(const TensorProxy& t) { return dims_to_tuple(t.type.shape); }
nb::object strides(const TensorProxy& t) { return dims_to_tuple(t.type.strides); }
nb::object dtype(const TensorProxy& t) { return constant(Arg(t.type.dtype)); }
nb::object device(const TensorProxy& t) { return constant(Arg(t.type.device)); }
nb::object ndim(const TensorProxy& t) { return nb::int_(t.type.ndim()); }
nb::object requires_grad(const TensorProxy& t) {
  const Recorder* recorder = Recorder::current();
  return nb::bool_(recorder ? recorder->requires_grad(t) : t.type.requires_grad);
}
nb::object contiguous(const TensorProxy& t) { return nb::bool_(is_contiguous(t.type)); }
nb::object is_leaf_input(const TensorProxy& t) { return nb::bool_(t.is_leaf); }
nb::object is_inference(const TensorProxy& t) { return nb::bool_(t.is_inference); }
nb::object proxy_id(const TensorProxy& t) { return nb::int_(t.id); }

PyObject* view_of(PyObject* self, void*) {
  const PyProxy* state = tensor_proxy_state(self);
  const TensorProxy* base = state ? as_tensor(state->p)->alias_of : nullptr;
  if (!base) Py_RETURN_NONE;
  return make_tensor_proxy(base, state->ctx).release().ptr();
}

PyObject* repr(PyObject* self) {
  const TensorProxy* t = tensor_of(self);
  if (!t) return PyUnicode_FromString("TensorProxy of no trace");
  std::string s = cat(t->name, ": ");
  append_type(s, *t);
  return PyUnicode_FromStringAndSize(s.data(), static_cast<Py_ssize_t>(s.size()));
}
PyObject* repr_method(PyObject* self, PyObject*) { return repr(self); }

PyObject* rebind(PyObject* self, PyObject* other) {
  PyProxy* to = tensor_proxy_state(self);
  const PyProxy* from = tensor_proxy_state(other);
  if (!to || !from) {
    PyErr_SetString(PyExc_TypeError, "_rebind: expected two TensorProxy");
    return nullptr;
  }
  to->p = from->p;
  Py_RETURN_NONE;
}

PyObject* set_requires_grad(PyObject* self, PyObject* value) {
  const int on = PyObject_IsTrue(value);
  if (on < 0) return nullptr;
  const_cast<TensorProxy*>(tensor_of(self))->type.requires_grad = on;
  Py_RETURN_NONE;
}

PyObject* is_same(PyObject* self, PyObject* other) {
  const PyProxy *a = tensor_proxy_state(self), *b = tensor_proxy_state(other);
  return PyBool_FromLong(a && b && a->p == b->p);
}

PyGetSetDef getset[] = {{"name", getter<name>, nullptr, nullptr, nullptr},
                        {"shape", getter<shape>, nullptr, nullptr, nullptr},
                        {"strides", getter<strides>, nullptr, nullptr, nullptr},
                        {"dtype", getter<dtype>, nullptr, nullptr, nullptr},
                        {"device", getter<device>, nullptr, nullptr, nullptr},
                        {"ndim", getter<ndim>, nullptr, nullptr, nullptr},
                        {"_requires_grad", getter<requires_grad>, nullptr, nullptr, nullptr},
                        {"is_contiguous_default", getter<contiguous>, nullptr, nullptr, nullptr},
                        {"is_leaf_input", getter<is_leaf_input>, nullptr, nullptr, nullptr},
                        {"_is_inference", getter<is_inference>, nullptr, nullptr, nullptr},
                        {"view_of", view_of, nullptr, nullptr, nullptr},
                        {"proxy_id", getter<proxy_id>, nullptr, nullptr, nullptr}};
PyMethodDef methods[] = {{"__repr__", repr_method, METH_NOARGS, nullptr},
                         {"_rebind", rebind, METH_O, nullptr},
                         {"_set_requires_grad", set_requires_grad, METH_O, nullptr},
                         {"_is_same", is_same, METH_O, nullptr}};

void set(nb::handle target, const char* name, PyObject* value) {
  const nb::object owned = nb::steal(value);
  if (!value || PyObject_SetAttrString(target.ptr(), name, value) < 0) throw nb::python_error();
}

}  // namespace

void add_tensor_proxy_type(nb::module_& m) {
  state_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&state_spec));
  if (!state_type) throw nb::python_error();
  const nb::object tensor = nb::module_::import_("torch").attr("Tensor");
  nb::dict members;
  members["__slots__"] = nb::make_tuple("_state");
  members["__module__"] = "fulmen";
  members["__doc__"] = "A tensor of a trace: metadata without data.";
  // Code that compares x.__class__ sees what eager shows.
  members["__class__"] =
      nb::module_::import_("builtins").attr("property")(nb::cpp_function([tensor](nb::handle) {
        return tensor;
      }));
  nb::object type = nb::handle(reinterpret_cast<PyObject*>(Py_TYPE(tensor.ptr())))(
      "TensorProxy", nb::make_tuple(tensor), members);
  // Python code has no business in the slot.
  state_offset = reinterpret_cast<PyMemberDescrObject*>(nb::object(type.attr("_state")).ptr())
                     ->d_member->offset;
  nb::delattr(type, "_state");
  proxy_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  for (PyGetSetDef& def : getset) set(type, def.name, PyDescr_NewGetSet(proxy_type, &def));
  for (PyMethodDef& def : methods) set(type, def.ml_name, PyDescr_NewMethod(proxy_type, &def));
  m.attr("TensorProxy") = type;
}

nb::object make_tensor_proxy(const Proxy* p, const std::shared_ptr<TraceContext>& ctx) {
  nb::object state = nb::steal(state_type->tp_alloc(state_type, 0));
  if (!state.is_valid()) throw nb::python_error();
  auto* fields = reinterpret_cast<State*>(state.ptr());
  new (&fields->proxy) PyProxy{ctx, p};
  fields->previous = newest_state;
  if (newest_state) newest_state->next = fields;
  newest_state = fields;
  nb::object proxy = nb::steal(bridge::new_undefined_tensor(proxy_type));
  if (!proxy.is_valid()) throw nb::python_error();
  *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(proxy.ptr()) + state_offset) =
      state.release().ptr();
  fields->owner = proxy.ptr();
  return proxy;
}

std::vector<nb::object> live_tensor_proxies(const TraceContext* ctx) {
  std::vector<nb::object> found;
  for (State* s = newest_state; s; s = s->previous) {
    if (s->owner && s->proxy.ctx.get() == ctx) found.push_back(nb::borrow(s->owner));
  }
  std::reverse(found.begin(), found.end());
  return found;
}

PyProxy* tensor_proxy_state(PyObject* object) {
  if (!PyObject_TypeCheck(object, proxy_type)) return nullptr;
  auto* state = *reinterpret_cast<State**>(reinterpret_cast<char*>(object) + state_offset);
  return state ? &state->proxy : nullptr;
}

}  // namespace fulmen::bindings
