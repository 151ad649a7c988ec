#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bindings/bind.h"
#include "bindings/convert.h"
#include "bridge/bridge.h"
#include "support/error.h"

namespace fulmen::bindings {
namespace {

const TensorType& type_of(const PyTensorProxy& t) { return as_tensor(t.p)->type; }

nb::object constant(const Arg& a) {
  nb::object o = nb::steal(bridge::constant_to_python(a));
  if (!o.is_valid()) throw nb::python_error();
  return o;
}

std::string repr(const PyProxy& proxy) {
  std::string s = cat(proxy.p->name, ": ");
  append_type(s, *proxy.p);
  return s;
}

// isinstance(proxy, torch.Tensor) asks for __class__.
PyObject* tensor_class(PyObject*, void*) {
  static PyObject* cls = bridge::resolve_torch_name("torch.Tensor");
  Py_XINCREF(cls);
  return cls;
}
PyGetSetDef tensor_getset[] = {{"__class__", tensor_class, nullptr, nullptr, nullptr},
                               {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot tensor_slots[] = {{Py_tp_getset, tensor_getset}, {0, nullptr}};

nb::object number_hint(const PyNumberProxy& n) {
  const NumberProxy* p = as_number(n.p);
  if (p->type != NumberType::kInt || !p->value.is_concrete()) return nb::none();
  return nb::int_(p->value.value());
}

}  // namespace

void bind_proxies(nb::module_& m) {
  nb::class_<PyTensorProxy>(m, "TensorProxy", nb::dynamic_attr(), nb::is_weak_referenceable(),
                            nb::type_slots(tensor_slots),
                            "A tensor of a trace: metadata without data.")
      .def_prop_ro("name", [](const PyTensorProxy& t) { return std::string(t.p->name); })
      .def_prop_ro("shape", [](const PyTensorProxy& t) { return dims_to_tuple(type_of(t).shape); })
      .def_prop_ro("strides",
                   [](const PyTensorProxy& t) { return dims_to_tuple(type_of(t).strides); })
      .def_prop_ro("dtype", [](const PyTensorProxy& t) { return constant(Arg(type_of(t).dtype)); })
      .def_prop_ro("device",
                   [](const PyTensorProxy& t) { return constant(Arg(type_of(t).device)); })
      .def_prop_ro("ndim", [](const PyTensorProxy& t) { return type_of(t).ndim(); })
      .def_prop_ro("requires_grad", [](const PyTensorProxy& t) { return type_of(t).requires_grad; })
      .def_prop_ro("is_contiguous_default",
                   [](const PyTensorProxy& t) { return is_contiguous(type_of(t)); })
      .def_prop_ro("is_leaf_input", [](const PyTensorProxy& t) { return as_tensor(t.p)->is_leaf; })
      .def_prop_ro("view_of",
                   [](const PyTensorProxy& t) -> nb::object {
                     const TensorProxy* base = as_tensor(t.p)->alias_of;
                     return base ? wrap_proxy(base, t.ctx) : nb::none();
                   })
      .def_prop_ro("proxy_id", [](const PyTensorProxy& t) { return t.p->id; })
      .def("_rebind", [](PyTensorProxy& t, const PyTensorProxy& other) { t.p = other.p; })
      .def("_set_requires_grad",
           [](PyTensorProxy& t, bool v) {
             const_cast<TensorProxy*>(as_tensor(t.p))->type.requires_grad = v;
           })
      .def("_is_same", [](const PyTensorProxy& a, const PyTensorProxy& b) { return a.p == b.p; })
      .def("__repr__", [](const PyTensorProxy& t) { return repr(t); });
  nb::class_<PyNumberProxy>(m, "NumberProxy", nb::dynamic_attr(),
                            "A Python number that a trace computes.")
      .def_prop_ro("name", [](const PyNumberProxy& n) { return std::string(n.p->name); })
      .def_prop_ro("value", number_hint)
      .def("__repr__", [](const PyNumberProxy& n) { return repr(n); });
  nb::class_<PyOtherProxy>(m, "ObjectProxy", "A string, collection or object of a trace.")
      .def_prop_ro("name", [](const PyOtherProxy& n) { return std::string(n.p->name); })
      .def("__repr__", [](const PyOtherProxy& n) { return repr(n); });
}

}  // namespace fulmen::bindings
