#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bindings/bind.h"
#include "bindings/bind_ir.h"
#include "bindings/recorder.h"

namespace fulmen::bindings {

void bind_recorder(nb::module_& m) {
  nb::class_<Recorder>(m, "Recorder", "Records torch calls into a trace while entered.")
      .def(nb::init<>())
      .def_static(
          "for_trace", [](const Trace& t) { return Recorder::for_trace(t).release(); },
          nb::rv_policy::take_ownership)
      .def("substituted", &Recorder::substituted)
      .def("append", &Recorder::append)
      .def("replace", &Recorder::replace, nb::arg("output").none(), nb::arg("value").none())
      .def("finish_rewrite", &Recorder::finish_rewrite)
      .def("enter", &Recorder::enter)
      .def("exit", &Recorder::exit)
      .def("add_tensor_input", &Recorder::add_tensor_input)
      .def("add_number_input", &Recorder::add_number_input)
      .def("record", nb::overload_cast<nb::handle, nb::tuple, nb::dict>(&Recorder::record),
           nb::arg("callable"), nb::arg("args"), nb::arg("kwargs"))
      .def("record_symbol",
           [](Recorder& r, const PySymbol& s, nb::tuple args, nb::dict kwargs) {
             return r.record_symbol(*s.symbol, args, kwargs);
           })
      .def("record_opaque", &Recorder::record_opaque, nb::arg("name"), nb::arg("args"),
           nb::arg("kwargs"), nb::arg("spec").none(), nb::arg("mutates"))
      .def("getitem", &Recorder::getitem, nb::arg("tensor"), nb::arg("index").none())
      .def("setitem", &Recorder::setitem, nb::arg("tensor"), nb::arg("index").none(),
           nb::arg("value"))
      .def("finish", &Recorder::finish, nb::arg("output").none(), nb::arg("name"))
      .def("set_source", [](Recorder& r, const std::string& file, int line,
                            const std::string& function) { r.set_source(file, line, function); })
      .def("name_tensor", &Recorder::name_tensor)
      .def("lift", [](Recorder& r, nb::handle tensor) { return r.input_for(tensor); })
      .def_prop_ro("lifted",
                   [](const Recorder& r) {
                     nb::list list;
                     for (const nb::object& tensor : r.lifted_tensors()) list.append(tensor);
                     return list;
                   })
      .def_prop_rw("grad_enabled", &Recorder::grad_enabled, &Recorder::set_grad_enabled)
      .def("try_truncate", &Recorder::try_truncate)
      .def_prop_ro("num_recorded", &Recorder::num_recorded);
  m.def("has_row", [](nb::handle callable) { return !overloads_of(callable).empty(); });
}

}  // namespace fulmen::bindings
