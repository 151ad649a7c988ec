#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/bind.h"
#include "passes/pipeline.h"
#include "support/cat.h"
#include "support/error.h"

namespace fulmen::bindings {

namespace nb = nanobind;

namespace {

const passes::Pass& find_pass(const std::string& name) {
  for (const passes::Pass& pass : passes::pipeline()) {
    if (pass.name == name) return pass;
  }
  if (passes::last_pass().name == name) return passes::last_pass();
  throw UserError(ErrorKind::kValue, "unknown-pass", cat("there is no pass named '", name, "'"));
}

std::vector<std::string> pass_names() {
  std::vector<std::string> names;
  for (const passes::Pass& pass : passes::pipeline()) names.emplace_back(pass.name);
  names.emplace_back(passes::last_pass().name);
  return names;
}

}  // namespace

void bind_passes(nb::module_& m) {
  m.def("pass_names", &pass_names, "The passes in the order of the pipeline.");
  m.def(
      "run_passes",
      [](Trace trace, const std::vector<std::string>& names, int64_t fuel) {
        passes::PassContext ctx;
        std::vector<Trace> stages;
        ctx.stages = &stages;
        ctx.fuel = fuel;
        for (const std::string& name : names) {
          trace = passes::run_pass(find_pass(name), trace, ctx);
        }
        nb::list timings, notes, kept;
        for (const auto& t : ctx.timings) {
          timings.append(nb::make_tuple(std::string(t.pass), t.microseconds, t.changed));
        }
        for (const auto& n : ctx.notes) notes.append(nb::make_tuple(std::string(n.pass), n.text));
        for (const Trace& stage : stages) kept.append(nb::cast(stage));
        return nb::make_tuple(trace, kept, timings, notes);
      },
      nb::arg("trace"), nb::arg("names"), nb::arg("fuel") = -1,
      "(trace, changed stages, [(pass, microseconds, changed)], [(pass, what it left and why)])");
}

}  // namespace fulmen::bindings
