#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bindings/bind.h"
#include "bindings/bind_ir.h"
#include "bindings/recorder.h"
#include "bridge/bridge.h"
#include "ops/autocast.h"

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
      .def_prop_ro("source_suffix", &Recorder::ambient_suffix,
                   "Where the part of the program is, in the user's source.")
      .def("gradient_of", &Recorder::gradient_of, nb::arg("proxy"),
           nb::sig("def gradient_of(self, proxy: object) -> typing.Any"))
      .def("enter", &Recorder::enter)
      .def("exit", &Recorder::exit)
      .def("add_tensor_input", &Recorder::add_tensor_input, nb::arg("tensor"), nb::arg("name"),
           nb::sig("def add_tensor_input(self, tensor: object, name: str) -> typing.Any"))
      .def("add_number_input", &Recorder::add_number_input, nb::arg("value"), nb::arg("name"),
           nb::sig("def add_number_input(self, value: object, name: str) -> typing.Any"))
      .def("record", nb::overload_cast<nb::handle, nb::tuple, nb::dict>(&Recorder::record),
           nb::arg("callable"), nb::arg("args"), nb::arg("kwargs"),
           nb::sig("def record(self, callable: object, args: tuple, kwargs: dict) -> typing.Any"))
      .def(
          "record_symbol",
          [](Recorder& r, const PySymbol& s, nb::tuple args, nb::dict kwargs) {
            return r.record_symbol(*s.symbol, args, kwargs);
          },
          nb::arg("symbol"), nb::arg("args"), nb::arg("kwargs"),
          nb::sig(
              "def record_symbol(self, symbol: Symbol, args: tuple, kwargs: dict) -> typing.Any"))
      .def("record_opaque", &Recorder::record_opaque, nb::arg("name"), nb::arg("args"),
           nb::arg("kwargs"), nb::arg("spec").none(), nb::arg("mutates"),
           nb::sig("def record_opaque(self, name: str, args: tuple, kwargs: dict, "
                   "spec: object | None, mutates: bool) -> typing.Any"))
      .def("getitem", &Recorder::getitem, nb::arg("target"), nb::arg("index").none(),
           nb::sig("def getitem(self, target: object, index: object | None) -> typing.Any"))
      .def("setitem", &Recorder::setitem, nb::arg("target"), nb::arg("index").none(),
           nb::arg("value"))
      .def("finish", &Recorder::finish, nb::arg("output").none(), nb::arg("name"))
      .def("set_source", [](Recorder& r, const std::string& file, int line,
                            const std::string& function) { r.set_source(file, line, function); })
      .def("name_tensor", &Recorder::name_tensor)
      .def(
          "lift", [](Recorder& r, nb::handle tensor) { return r.input_for(tensor); },
          nb::arg("tensor"), nb::sig("def lift(self, tensor: object) -> typing.Any"))
      .def_prop_ro(
          "lifted",
          [](const Recorder& r) {
            nb::list list;
            for (const nb::object& tensor : r.lifted_tensors()) list.append(tensor);
            return list;
          },
          nb::sig("def lifted(self) -> list[typing.Any]"))
      .def("leading_to", &Recorder::leading_to, nb::arg("outputs"),
           nb::arg("candidates").none() = nb::none(),
           "The inputs that require grad, or those of `candidates`, that lead to an output.",
           nb::sig("def leading_to(self, outputs: list[typing.Any], "
                   "candidates: list[typing.Any] | None = None) -> list[typing.Any]"))
      .def("gradient_strides", &Recorder::gradient_strides, nb::arg("outputs"), nb::arg("seeds"),
           nb::arg("inputs"),
           "The strides that the gradients of `inputs` will have; None where that can't be said.",
           nb::sig("def gradient_strides(self, outputs: list[typing.Any], seeds: "
                   "list[typing.Any], inputs: list[typing.Any]) -> list[list[int] | None]"))
      .def_prop_ro("grad_enabled", &Recorder::grad_enabled)
      .def("clear_cast_cache", &Recorder::clear_cast_cache)
      .def("enter_checkpoint", &Recorder::enter_checkpoint)
      .def("leave_checkpoint", &Recorder::leave_checkpoint, nb::arg("redraws"))
      .def("try_truncate", &Recorder::try_truncate)
      .def(
          "set_levels",
          [](Recorder& r, bool values, bool active) {
            r.set_levels(active   ? Recorder::Levels::kActive
                         : values ? Recorder::Levels::kValues
                                  : Recorder::Levels::kNone);
          },
          nb::arg("values"), nb::arg("active"))
      .def("describe", &Recorder::describe, nb::arg("spec"),
           nb::sig("def describe(self, spec: object) -> typing.Any"))
      .def_prop_ro("num_recorded", &Recorder::num_recorded);
  m.def("set_grad_enabled", bridge::set_grad_enabled, nb::arg("enabled"),
        "Sets PyTorch's grad mode, past any mode of torch functions.");
  m.def("set_inference_mode", bridge::set_inference_mode, nb::arg("enabled"),
        "Sets PyTorch's inference mode, and grad mode to the opposite.");
  m.def(
      "autocast_rules",
      [](const std::string& device) {
        const auto d = device_from_string(device);
        nb::dict rules;
        if (!d) throw nb::value_error("not a device");
        for (const ops::CastRule& r : ops::cast_rules(d->type)) {
          const std::string_view policy = ops::policy_name(r.policy);
          rules[nb::str(r.op.data(), r.op.size())] = nb::str(policy.data(), policy.size());
        }
        return rules;
      },
      nb::arg("device"), nb::sig("def autocast_rules(device: str) -> dict[str, str]"),
      "ATen operator → what PyTorch's autocast does with it on `device`.");
  m.def(
      "rows_of",
      [](nb::handle callable) {
        nb::list list;
        for (const Symbol* s : overloads_of(callable)) list.append(nb::cast(PySymbol{s}));
        return list;
      },
      nb::arg("callable"), nb::sig("def rows_of(callable: typing.Any) -> list[Symbol]"),
      "The symbols that a torch callable is; empty if it has no row.");
  m.def("has_row", [](nb::handle callable) { return !overloads_of(callable).empty(); });
}

}  // namespace fulmen::bindings
