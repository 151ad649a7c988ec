#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/bind.h"
#include "bindings/bind_ir.h"
#include "bindings/executor_object.h"
#include "bindings/recorder.h"
#include "bindings/user_executor.h"
#include "bridge/bridge.h"
#include "exec/compilation.h"
#include "ops/registry.h"
#include "passes/pass.h"
#include "support/cat.h"
#include "support/flags.h"

namespace fulmen::bindings {
namespace {

exec::ExecutorPtr builtin_executor(const std::string& name) {
  if (name == "aten") return bridge::aten_executor();
  if (name == "fusion") return bridge::fusion_executor(/*makes_regions=*/true);
  if (name == "products") return bridge::products_executor();
  if (name == "custom_op") return bridge::custom_op_executor();
  throw UserError(ErrorKind::kValue, "unknown-executor",
                  cat("no executor '", name, "' is built in"));
}

nb::list decisions(const exec::ClaimReport& report) {
  nb::list list;
  for (const exec::Decision& d : report.decisions) {
    nb::list refusals;
    for (const auto& [executor, why] : d.refusals) refusals.append(nb::make_tuple(executor, why));
    list.append(
        nb::make_tuple(passes::describe(*d.bsym), d.bsym->symbol->name(), d.executor, refusals));
  }
  return list;
}

std::shared_ptr<PyCompilation> make_compilation(const std::vector<PyExecutor>& executors,
                                                std::shared_ptr<Fuel> fuel) {
  std::vector<exec::ExecutorPtr> chosen;
  for (const PyExecutor& e : executors) chosen.push_back(e.executor);
  return std::make_shared<PyCompilation>(
      PyCompilation{bridge::make_compilation(std::move(chosen), std::move(fuel))});
}

}  // namespace

void bind_executors(nb::module_& m) {
  nb::class_<Fuel>(m, "Fuel", "How many rewrites and claims may still be made; negative: any.")
      .def(nb::init<int64_t>(), nb::arg("limit") = -1)
      .def_prop_ro("taken", &Fuel::taken)
      .def_prop_ro("last", &Fuel::last, "What the last one was taken for.");
  m.def(
      "fuel_from_flags", [] { return std::make_shared<Fuel>(flag_int(Flag::kFuel)); },
      "What FULMEN_FUEL says.");
  nb::class_<PyExecutor>(m, "Executor", "Who runs operations; see fulmen.extend.")
      .def_prop_ro("name", [](const PyExecutor& e) { return std::string(e.executor->name()); })
      .def_prop_ro("makes_regions", [](const PyExecutor& e) { return e.executor->is_fusion(); })
      .def("add_symbol",
           [](const PyExecutor& e, const PySymbol& s) { add_symbol(*e.executor, *s.symbol); });
  nb::class_<exec::ClaimReport>(m, "ClaimReport", "Which executor took how many bound symbols.")
      .def(nb::init<>())
      .def_ro("claimed", &exec::ClaimReport::claimed)
      .def_ro("refusals", &exec::ClaimReport::refusals)
      .def_prop_ro("decisions", &decisions,
                   nb::sig("def decisions(self) -> list[tuple[str, str, str, list[tuple[str, "
                           "str]]]]"),
                   "(operation, symbol, executor, [(executor, why it refused)])");
  nb::class_<PyCompilation>(m, "Compilation", "The executors that programs are compiled for.")
      .def_prop_ro("executors",
                   [](const PyCompilation& c) {
                     std::vector<std::string> names;
                     for (const auto& e : c.compilation->executors()) names.emplace_back(e->name());
                     return names;
                   })
      .def_prop_ro(
          "later", [](const PyCompilation& c) { return c.compilation->later(); },
          "What became of the bound symbols of backwards, so far.");
  m.def("make_compilation", &make_compilation, nb::arg("executors"),
        nb::arg("fuel").none() = nb::none());
  m.def("builtin_executor",
        [](const std::string& name) { return PyExecutor{builtin_executor(name)}; });
  m.def("load_plugin",
        [](const std::string& path) { return PyExecutor{bridge::load_plugin(path)}; });
  m.def(
      "operator_executor",
      [](const std::string& name, nb::object face) {
        return PyExecutor{make_operator_executor(name, std::move(face))};
      },
      nb::arg("name"), nb::arg("face"), "An executor whose decisions `face` makes.");
  m.def(
      "fusion_executor",
      [](const std::string& name, nb::object face, size_t smallest) {
        return PyExecutor{make_fusion_executor(name, std::move(face), smallest)};
      },
      nb::arg("name"), nb::arg("face"), nb::arg("smallest"));
  m.def(
      "define_symbol",
      [](const std::string& schema, const std::string& executor,
         const std::vector<std::string>& tags, nb::object face) {
        return PySymbol{&define_operator(schema, executor, tags, std::move(face))};
      },
      nb::arg("schema"), nb::arg("executor"), nb::arg("tags"), nb::arg("face"),
      "A symbol whose rules `face` has.");
  m.def(
      "implementation_of",
      [](const PySymbol& s) -> nb::object {
        PyObject* o = bridge::implementation_of(*s.symbol);
        return o ? nb::borrow(o) : nb::none();
      },
      nb::arg("symbol"), nb::sig("def implementation_of(symbol: Symbol) -> typing.Any"),
      "The Python function behind an operator of the user's; None for other symbols.");
  m.def(
      "call_python",
      [](const Trace& trace, nb::callable callable) {
        return program_of_python(trace, std::move(callable));
      },
      nb::arg("trace"), nb::arg("callable"),
      "A trace that calls `callable` for the trace's outputs that are no inputs, each once, in "
      "order.");
}

}  // namespace fulmen::bindings
