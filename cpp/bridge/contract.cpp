#include "bridge/contract.h"

#include <ATen/ops/empty_strided.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/Exceptions.h>

#include "bridge/bridge.h"
#include "bridge/gil.h"
#include "bridge/ivalue.h"
#include "bridge/scalar_type.h"
#include "ir/builder.h"
#include "ir/proxy.h"

namespace fulmen::bridge {
namespace {

[[noreturn]] void throw_pending() {
  python_error error;
  error.persist();
  throw std::move(error);
}

int64_t version(const c10::IValue& v) {
  if (!v.isTensor() || !v.toTensor().defined() || v.toTensor().is_inference()) return 0;
  return v.toTensor()._version();
}

bool in_strides(const at::Tensor& t, const TensorType& type) {
  for (size_t d = 0; d < type.ndim(); ++d) {
    const int64_t expected = type.strides[d].value_or(-1);
    if (t.size(d) > 1 && expected >= 0 && t.stride(d) != expected) return false;
  }
  return true;
}

std::string described(const TensorType& type) {
  std::string text;
  TensorType plain = type;
  plain.requires_grad = false;
  plain.strides = contiguous_strides(plain.shape);
  append(text, plain);
  return text;
}

std::string described(const at::Tensor& t) {
  const auto dtype = t.defined() ? from_scalar_type(t.scalar_type()) : std::nullopt;
  if (!dtype || t.layout() != c10::kStrided) return "a tensor of another kind";
  TensorType type;
  type.dtype = *dtype;
  for (const int64_t d : t.sizes()) type.shape.push_back(Dim(d));
  std::string text = described(type);
  if (!t.is_cpu()) append(text, cat(" on ", t.device().str()));
  return text;
}

bool is_below_autograd() {
  return c10::impl::tls_is_dispatch_key_excluded(c10::DispatchKey::AutogradFunctionality);
}

}  // namespace

Contract::Contract(const BoundSymbol& bsym, const exec::SlotOf& slot_of)
    : name_(bsym.symbol->name()), where_(source_suffix(bsym.source)) {
  for (const Arg& a : bsym.args) {
    for_each_proxy(a, [&](const Proxy* p) {
      if (as_tensor(p)) arguments_.push_back(slot_of(p));
    });
  }
  for_each_proxy(bsym.output, [&](const Proxy* p) {
    if (const TensorProxy* t = as_tensor(p))
      results_.push_back({slot_of(p), t->type, t->alias_of != nullptr});
  });
}

std::vector<int64_t> Contract::before(exec::Slot* slots) const {
  std::vector<int64_t> versions;
  for (const uint32_t slot : arguments_) versions.push_back(version(value_of(slots[slot])));
  return versions;
}

void Contract::check(exec::Slot* slots, const std::vector<int64_t>& versions) const {
  for (size_t i = 0; i < arguments_.size(); ++i) {
    if (version(value_of(slots[arguments_[i]])) != versions[i])
      fail("wrote to an argument; an operator returns new tensors");
  }
  for (const Result& r : results_) {
    c10::IValue& value = value_of(slots[r.slot]);
    if (!value.isTensor()) fail("returned no tensor; its metadata says one");
    at::Tensor t = value.toTensor();
    bool fits = t.defined() && t.layout() == c10::kStrided &&
                t.scalar_type() == to_scalar_type(r.type.dtype) &&
                t.device() == to_c10(r.type.device) &&
                t.dim() == static_cast<int64_t>(r.type.ndim());
    for (size_t d = 0; fits && d < r.type.ndim(); ++d) {
      const int64_t size = r.type.shape[d].value_or(-1);
      fits = size < 0 || t.size(d) == size;
    }
    if (!fits) {
      fail(cat("returned ", described(t), "; its metadata says ", described(r.type)));
    }
    if (r.type.requires_grad && !t.requires_grad() && c10::GradMode::is_enabled() &&
        !is_below_autograd() && !t.is_inference()) {
      fail(
          "returned a tensor without a gradient, which is needed here; register it with "
          "grad_transform=, or with like= of functions that have gradients");
    }
    bool shares = false;
    for (const uint32_t slot : arguments_) {
      const c10::IValue& argument = value_of(slots[slot]);
      shares = shares || (!r.is_view && argument.isTensor() && argument.toTensor().is_alias_of(t));
    }
    if (!shares && (r.is_view || in_strides(t, r.type))) continue;
    c10::SmallVector<int64_t, 6> strides;
    for (size_t d = 0; d < r.type.ndim(); ++d)
      strides.push_back(r.type.strides[d].value_or(t.stride(static_cast<int64_t>(d))));
    at::Tensor copy = at::empty_strided(t.sizes(), strides, t.options());
    copy.copy_(t);
    value = std::move(copy);
  }
}

void Contract::refuse_structure(PyObject* value, Py_ssize_t expected) const {
  fail(expected < 0
           ? cat("returned ", Py_TYPE(value)->tp_name, "; its metadata says one tensor or number")
           : cat("returned ", Py_TYPE(value)->tp_name, "; its metadata says a sequence of ",
                 int64_t{expected}, " values"));
}

void Contract::blame() const {
  PyObject *type, *error, *traceback;
  PyErr_Fetch(&type, &error, &traceback);
  PyErr_NormalizeException(&type, &error, &traceback);
  if (traceback) PyException_SetTraceback(error, traceback);
  if (!PyErr_GivenExceptionMatches(error, PyExc_Exception)) {  // KeyboardInterrupt
    PyErr_Restore(type, error, traceback);
    throw_pending();
  }
  PyObject* make = resolve_torch_name("fulmen.errors.raised_by_executor");
  PyObject* blamed =
      make ? PyObject_CallFunction(make, "Oss", error, name_.c_str(), where_.c_str()) : nullptr;
  if (blamed) PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(blamed)), blamed);
  Py_XDECREF(make);
  Py_XDECREF(blamed);
  Py_XDECREF(type);
  Py_XDECREF(error);
  Py_XDECREF(traceback);
  throw_pending();
}

void Contract::fail(const std::string& what) const {
  throw_kernel_error(cat("the implementation of ", name_, "() ", what, where_));
}

void throw_kernel_error(const std::string& message) {
  const HoldGil gil;
  PyObject* cls = resolve_torch_name("fulmen.errors.UserRuntimeError");
  PyObject* error =
      cls ? PyObject_CallFunction(cls, "ss", message.c_str(), "executor-kernel") : nullptr;
  if (error) PyErr_SetObject(cls, error);
  Py_XDECREF(cls);
  Py_XDECREF(error);
  throw_pending();
}

}  // namespace fulmen::bridge
