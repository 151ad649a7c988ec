#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bindings/bind.h"
#include "bindings/convert.h"
#include "bindings/symbolic_number.h"
#include "bindings/tensor_proxy.h"
#include "support/error.h"

namespace fulmen::bindings {
namespace {

std::string repr(const PyProxy& proxy) {
  std::string s = cat(proxy.p->name, ": ");
  append_type(s, *proxy.p);
  return s;
}

nb::object number_hint(const PyNumberProxy& n) {
  const NumberProxy* p = as_number(n.p);
  if (p->type != NumberType::kInt || !p->value.is_concrete()) return nb::none();
  return nb::int_(p->value.value());
}

}  // namespace

void bind_proxies(nb::module_& m) {
  add_tensor_proxy_type(m);
  add_symbolic_number_type(m);
  nb::class_<PyNumberProxy>(m, "NumberProxy", nb::dynamic_attr(),
                            "A Python number that a trace computes.")
      .def_prop_ro("name", [](const PyNumberProxy& n) { return std::string(n.p->name); })
      .def_prop_ro("value", number_hint, nb::sig("def value(self) -> int | None"))
      .def("__repr__", [](const PyNumberProxy& n) { return repr(n); });
  nb::class_<PyOtherProxy>(m, "ObjectProxy", "A string, collection or object of a trace.")
      .def_prop_ro("name", [](const PyOtherProxy& n) { return std::string(n.p->name); })
      .def("__repr__", [](const PyOtherProxy& n) { return repr(n); });
}

}  // namespace fulmen::bindings
