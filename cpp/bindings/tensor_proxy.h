#pragma once

#include <nanobind/nanobind.h>

#include <vector>

#include "bindings/convert.h"

namespace fulmen::bindings {

// fulmen.TensorProxy: a subclass of torch.Tensor around an undefined tensor, so that the argument
// parser of PyTorch takes a proxy wherever it takes a tensor, and hands the call to
// __torch_function__. What the proxy stands for is in a slot of its own.
void add_tensor_proxy_type(nb::module_& m);

nb::object make_tensor_proxy(const Proxy* p, const std::shared_ptr<TraceContext>& ctx);

// Null if `object` is no TensorProxy.
PyProxy* tensor_proxy_state(PyObject* object);

// All proxies of a trace that something still refers to, oldest first.
std::vector<nb::object> live_tensor_proxies(const TraceContext* ctx);

}  // namespace fulmen::bindings
