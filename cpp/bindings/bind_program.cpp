#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/bind.h"
#include "bindings/executor_object.h"
#include "bindings/program_object.h"
#include "bridge/bridge.h"
#include "bridge/memory.h"
#include "bridge/recycled_memory.h"
#include "codegen/cpu/isa.h"
#include "codegen/cpu/kernel_cache.h"
#include "codegen/cpu/llvm_api.h"
#include "exec/claim.h"
#include "support/flags.h"

namespace fulmen::bindings {

namespace nb = nanobind;

namespace {

struct PyProgram {
  std::shared_ptr<const exec::Program> program;
};

}  // namespace

std::shared_ptr<const exec::Program> program_of(PyObject* object) {
  if (!nb::isinstance<PyProgram>(nb::handle(object))) return nullptr;
  return nb::inst_ptr<PyProgram>(nb::handle(object))->program;
}

void bind_program(nb::module_& m) {
  nb::class_<PyProgram>(m, "Program", "A compiled trace.")
      .def_prop_ro("num_instructions",
                   [](const PyProgram& p) { return p.program->num_instructions(); })
      .def_prop_ro("num_inputs", [](const PyProgram& p) { return p.program->num_inputs(); })
      .def_prop_ro("trace", [](const PyProgram& p) { return p.program->trace(); });
  m.def("transform_for_execution", [](const Trace& trace, exec::ClaimReport& report) {
    passes::PassContext quiet;
    return exec::transform_for_execution(trace, *bridge::make_compilation(), quiet, report);
  });
  m.def(
      "build_program",
      [](const Trace& trace, const PyCompilation* compilation) {
        return PyProgram{exec::Program::build(
            trace, compilation ? compilation->compilation : bridge::make_compilation(),
            bridge::slot_ops())};
      },
      nb::arg("trace"), nb::arg("compilation").none() = nb::none());
  m.def(
      "predicted_memory",
      [](const Trace& trace, const PyCompilation& compilation) {
        nb::list list;
        for (const bridge::MemoryStage& s :
             bridge::predicted_memory(trace, *compilation.compilation))
          list.append(nb::make_tuple(s.name, s.peak, s.end));
        return list;
      },
      nb::sig("def predicted_memory(trace: Trace, compilation: Compilation) -> list[tuple[str, "
              "int, int]]"),
      "(program, peak, bytes at its end) of a claimed trace and its backwards; see "
      "fulmen.examine.memory.");

  m.def(
      "set_flag", [](const std::string& name, const std::string& value) { set_flag(name, value); },
      nb::arg("name"), nb::arg("value"), "Sets what an environment variable FULMEN_NAME would.");
  m.def("flag_text", [](const std::string& name) -> std::string {
    for (const FlagRow& row : flags()) {
      if (row.name == name) return flag_text(row.flag);
    }
    return {};
  });
  m.def("flag_has", [](const std::string& name, const std::string& word) {
    for (const FlagRow& row : flags()) {
      if (row.name == name) return flag_has(row.flag, word);
    }
    return false;
  });
  m.def("suggest_llvm", &codegen::cpu::suggest_llvm,
        "A libLLVM to try before the system's, until one is loaded.");
  m.def("llvm_problem", &codegen::cpu::llvm_problem,
        "Why no kernels can be generated, or an empty string.");
  m.def("instruction_sets", &codegen::cpu::known_isas,
        "The instruction sets of this CPU that kernels can be generated for.");
  m.def("llvm_path", [] { return codegen::cpu::llvm() ? codegen::cpu::llvm()->path : ""; });
  m.def(
      "kernel_counts",
      [] {
        const auto c = codegen::cpu::kernel_counts();
        return nb::make_tuple(c.compiled, c.shared, c.microseconds, c.failed);
      },
      nb::sig("def kernel_counts() -> tuple[int, int, int, int]"),
      "(kernels compiled, found in memory, microseconds that compiling took, regions without a "
      "kernel) in this process.");
  m.def(
      "memory_counts",
      [] {
        const auto c = bridge::memory_counts();
        return nb::make_tuple(c.used, c.kept, c.fresh, c.recycled);
      },
      nb::sig("def memory_counts() -> tuple[int, int, int, int]"),
      "(bytes that tensors hold, bytes that are kept free, blocks that came from the system, "
      "blocks "
      "that were used again) of recycled memory.");
  m.def("release_kept_memory", &bridge::release_kept_memory,
        "Gives free blocks of recycled memory back to the system.");
  m.def(
      "resolve_torch_name",
      [](const std::string& name) {
        nb::object o = nb::steal(bridge::resolve_torch_name(name));
        if (!o.is_valid()) throw nb::python_error();
        return o;
      },
      nb::arg("name"), nb::sig("def resolve_torch_name(name: str) -> typing.Any"));
}

}  // namespace fulmen::bindings
