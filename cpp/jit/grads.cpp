// What a call does to `.grad`.
#include "bindings/tensor_proxy.h"
#include "bridge/bridge.h"
#include "jit/acquisition.h"

namespace fulmen::jit {

using interp::Prov;
using interp::Val;

namespace {

PyObject* grad_name() {
  static PyObject* const name = PyUnicode_InternFromString("grad");
  return name;
}

}  // namespace

PyObject* Acquisition::grad_of(PyObject* proxy) {
  PyObject* tensor = recorder_->tensor_of(proxy);
  // A tensor that the call made has none: backward() leaves that to hooks and retain_grad().
  if (!tensor || segment_source_.contains(tensor)) return Py_NewRef(Py_None);
  const auto set = grad_at_.find(tensor);
  if (set != grad_at_.end()) return Py_NewRef(grads_[set->second].second);
  Prov* p = known(tensor);
  if (!p) p = constant(tensor, "(tensor)");
  PyObject* value = PyObject_GetAttr(tensor, grad_name());
  if (!value) return nullptr;
  Val v{value,
        track(entry_->guards.fetch(Fetch::kAttr, static_cast<int>(p->id), grad_name()), value)};
  if (to_proxy(&v)) return v.o;
  Py_DECREF(v.o);
  return nullptr;
}

bool Acquisition::set_grad(PyObject* proxy, PyObject* value) {
  PyObject* tensor = recorder_->tensor_of(proxy);
  const auto* own = bindings::tensor_proxy_state(value);
  if (!tensor || segment_source_.contains(tensor) || !(value == Py_None || own))
    return refuse("assigning to .grad of a tensor that the call made");
  if (own) {
    const TensorType& a = as_tensor(bindings::tensor_proxy_state(proxy)->p)->type;
    const TensorType& b = as_tensor(own->p)->type;
    if (!(a.shape == b.shape) || a.dtype != b.dtype || !(a.device == b.device))
      return refuse("assigning to .grad a tensor of another type");
  }
  if (!known(tensor)) constant(tensor, "(tensor)");
  Py_INCREF(value);
  const auto [set, first] = grad_at_.emplace(tensor, grads_.size());
  if (first) {
    grads_.emplace_back(tensor, value);
  } else {
    Py_SETREF(grads_[set->second].second, value);
  }
  return true;
}

}  // namespace fulmen::jit
