#pragma once

#include <nanobind/nanobind.h>

#include <memory>

#include "ir/trace.h"

namespace fulmen::bindings {

namespace nb = nanobind;

// The Python face of a proxy. `p` moves on when an in-place operation gives the tensor a new value,
// so that every reference to the Python object sees it.
struct PyProxy {
  std::shared_ptr<TraceContext> ctx;
  const Proxy* p = nullptr;
};
struct PyNumberProxy : PyProxy {};
struct PyOtherProxy : PyProxy {};

// Turns a real tensor that meets a recorded call into a proxy (an input of the trace).
struct TensorLifter {
  virtual ~TensorLifter() = default;
  virtual const Proxy* lift(nb::handle tensor) = 0;
  // The same for a symbolic number; null: the call needs its value.
  virtual const Proxy* lift_number(nb::handle) { return nullptr; }
};

// Python → Arg. Proxies, numbers, strings, torch constants, slices, Ellipsis, lists, tuples and
// dicts of these; a tensor goes through `lifter` (null: Unsupported); anything else is kept as an
// opaque object. Throws Unsupported for an integer beyond 64 bits.
Arg to_arg(nb::handle object, TraceContext& ctx, TensorLifter* lifter);

// A constant that the printed trace names; holds a reference to `object`.
const Opaque* make_opaque(nb::handle object, TraceContext& ctx, std::string_view name);

// Arg → Python, proxies as fulmen.TensorProxy and its like.
nb::object to_object(const Arg& a, const std::shared_ptr<TraceContext>& ctx);
nb::object wrap_proxy(const Proxy* p, const std::shared_ptr<TraceContext>& ctx);
// Null if `object` is no proxy.
PyProxy* proxy_of(nb::handle object);

// An integer, or for a symbolic dimension its text.
nb::object dim_to_object(Dim d);
nb::object dims_to_tuple(std::span<const Dim> dims);

}  // namespace fulmen::bindings
