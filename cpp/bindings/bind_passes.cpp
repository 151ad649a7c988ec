#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/bind.h"
#include "bindings/executor_object.h"
#include "bridge/bridge.h"
#include "codegen/cpu/compiled_region.h"
#include "exec/claim.h"
#include "ir/verify.h"
#include "passes/autodiff.h"
#include "passes/pipeline.h"
#include "support/cat.h"
#include "support/error.h"

namespace fulmen::bindings {

namespace nb = nanobind;

namespace {

// A transform written in Python: an object with the methods of fulmen.Transform.
class PythonTransform final : public passes::Transform {
 public:
  explicit PythonTransform(nb::object object)
      : object_(std::move(object)), name_(Py_TYPE(object_.ptr())->tp_name) {}

  std::string_view name() const override { return name_; }

  passes::Phases transform_traces_pre_prologue(const passes::Phases& phases) override {
    const nb::object result = object_.attr("transform_traces_pre_prologue")(
        phases.prologue, phases.computation, phases.epilogue);
    if (!PyTuple_Check(result.ptr()) || nb::len(result) != 3) {
      refuse("transform_traces_pre_prologue returned no tuple of three traces");
    }
    return {trace(result[0]), trace(result[1]), trace(result[2])};
  }

  Trace transform_trace_post_optimization(const Trace& t) override {
    return trace(object_.attr("transform_trace_post_optimization")(t));
  }

 private:
  [[noreturn]] void refuse(std::string_view problem) const {
    throw UserError(ErrorKind::kValue, "broken-transform",
                    cat("transform ", name_, " returned a broken trace: ", problem));
  }
  Trace trace(nb::handle object) const {
    if (!nb::isinstance<Trace>(object)) {
      refuse(cat("got ", Py_TYPE(object.ptr())->tp_name, "; expected a Trace"));
    }
    return nb::cast<Trace>(object);
  }

  nb::object object_;
  std::string name_;
};

// The passes of one compilation, with what they report.
class Pipeline {
 public:
  Pipeline(nb::sequence transforms, const PyCompilation* compilation,
           std::optional<double> memory_budget)
      : ctx_(passes::context_from_flags()),
        compilation_(compilation ? compilation->compilation : bridge::make_compilation()) {
    ctx_.stages = &stages_;
    ctx_.options.fused = !compilation_->fusions().empty();
    ctx_.fuses_loss = bridge::fuses_loss_for(*compilation_);
    if (memory_budget) ctx_.options.memory_budget = *memory_budget;
    if (compilation && compilation_->fuel()) ctx_.fuel = compilation_->fuel();
    if (compilation_->has_own_gradients()) {
      ctx_.own_gradients = [this](const Trace& trace, passes::PassContext& ctx) {
        return exec::claim_gradients(trace, *compilation_, ctx);
      };
    }
    for (nb::handle t : transforms) {
      transforms_.push_back(std::make_shared<PythonTransform>(nb::borrow(t)));
    }
  }

  Trace run(const Trace& trace) { return passes::run_pipeline(trace, ctx_, transforms_); }
  Trace post_optimization(const Trace& trace) {
    return passes::apply_post_optimization(transforms_, trace, ctx_);
  }
  // Regions for the CPU's fusion executor. `single`: also of one operation.
  Trace fuse(const Trace& trace, bool single) {
    passes::FusionRules rules = codegen::cpu::fusion_rules(trace.ctx);
    rules.single_operations = single;
    ctx_.fusion = &rules;
    Trace out = passes::run_pass(passes::partition_pass(), trace, ctx_);
    ctx_.fusion = nullptr;
    return out;
  }
  Trace reuse(const Trace& trace) { return passes::run_pass(passes::reuse_pass(), trace, ctx_); }
  Trace transform_for_execution(const Trace& trace, exec::ClaimReport& report) {
    return exec::transform_for_execution(trace, *compilation_, ctx_, report);
  }
  // Only what the chosen operator executors take; the rest stays unclaimed.
  Trace claim_operators(const Trace& trace, exec::ClaimReport& report) {
    return exec::claim_operators(trace, *compilation_, ctx_, report);
  }
  Trace run_last(const Trace& trace) { return passes::run_pass(passes::last_pass(), trace, ctx_); }

  nb::list stages() const {
    nb::list list;
    for (const Trace& t : stages_) list.append(t);
    return list;
  }
  nb::list notes() const {
    nb::list list;
    for (const auto& n : ctx_.notes) list.append(nb::make_tuple(std::string(n.pass), n.text));
    return list;
  }
  nb::list timings() const {
    nb::list list;
    for (const auto& t : ctx_.timings) {
      list.append(nb::make_tuple(std::string(t.pass), t.microseconds, t.changed));
    }
    return list;
  }

 private:
  std::vector<Trace> stages_;
  passes::PassContext ctx_;
  std::shared_ptr<const exec::Compilation> compilation_;
  passes::Transforms transforms_;
};

const passes::Pass& find_pass(const std::string& name) {
  for (const passes::Pass& pass : passes::pipeline()) {
    if (pass.name == name) return pass;
  }
  if (passes::reuse_pass().name == name) return passes::reuse_pass();
  if (passes::last_pass().name == name) return passes::last_pass();
  throw UserError(ErrorKind::kValue, "unknown-pass", cat("there is no pass named '", name, "'"));
}

std::vector<std::string> pass_names() {
  std::vector<std::string> names;
  for (const passes::Pass& pass : passes::pipeline()) names.emplace_back(pass.name);
  names.emplace_back(passes::reuse_pass().name);
  names.emplace_back(passes::last_pass().name);
  return names;
}

nb::list passes_table() {
  nb::list list;
  for (const passes::Pass& p : passes::pipeline()) {
    list.append(nb::make_tuple(std::string(p.name), std::string(p.title), std::string(p.why)));
  }
  return list;
}

}  // namespace

void bind_passes(nb::module_& m) {
  nb::class_<Pipeline>(m, "Pipeline", "The passes of one compilation.")
      .def(nb::init<nb::sequence, const PyCompilation*, std::optional<double>>(),
           nb::arg("transforms"), nb::arg("compilation").none() = nb::none(),
           nb::arg("memory_budget") = nb::none())
      .def("claim_operators", &Pipeline::claim_operators, nb::arg("trace"), nb::arg("report"),
           "Hands to the chosen operator executors what they take.")
      .def("transform_for_execution", &Pipeline::transform_for_execution, nb::arg("trace"),
           nb::arg("report"), "Hands every bound symbol to an executor.")
      .def("run", &Pipeline::run, "Every pass up to the executors, transforms included.")
      .def("fuse", &Pipeline::fuse, nb::arg("trace"), nb::arg("single") = false,
           "Makes regions of what generated kernels can run.")
      .def("post_optimization", &Pipeline::post_optimization)
      .def("reuse", &Pipeline::reuse, "Lets operations write into operands that die.")
      .def("run_last", &Pipeline::run_last, "Inserts the deletions.")
      .def_prop_ro("stages", &Pipeline::stages, nb::sig("def stages(self) -> list[Trace]"),
                   "Every changed trace, in order.")
      .def_prop_ro("notes", &Pipeline::notes, nb::sig("def notes(self) -> list[tuple[str, str]]"),
                   "(pass, why it left something as it was).")
      .def_prop_ro("timings", &Pipeline::timings,
                   nb::sig("def timings(self) -> list[tuple[str, float, bool]]"),
                   "(pass, microseconds, changed).");
  m.def("passes", &passes_table, nb::sig("def passes() -> list[tuple[str, str, str]]"),
        "(name, title, why) of every pass, in order.");
  m.def("pass_names", &pass_names, "The passes in the order of the pipeline.");
  m.def(
      "run_passes",
      [](Trace trace, const std::vector<std::string>& names, int64_t fuel) {
        passes::PassContext ctx;
        std::vector<Trace> stages;
        ctx.stages = &stages;
        ctx.fuel = std::make_shared<Fuel>(fuel);
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
      nb::sig("def run_passes(trace: Trace, names: collections.abc.Sequence[str], fuel: int = -1) "
              "-> tuple[Trace, "
              "list[Trace], list[tuple[str, float, bool]], list[tuple[str, str]]]"),
      "(trace, changed stages, [(pass, microseconds, changed)], [(pass, what it left and why)])");
  m.def(
      "differentiate",
      [](const Trace& trace, const std::vector<bool>& given) {
        std::vector<passes::NoRule> missing;
        passes::Differentiated d = passes::differentiate(trace, {given, {}, {}}, missing);
        if (missing.empty()) return std::make_pair(std::move(d.forward), std::move(d.backward));
        std::string text;
        for (const passes::NoRule& m : missing) {
          append(text, cat(text.empty() ? "" : "; ", m.bsym->symbol->name(), ": ", m.why));
        }
        throw Unsupported(text);
      },
      nb::arg("trace"), nb::arg("given") = std::vector<bool>(),
      "(forward, backward) of a trace without in-place operations. The forward returns its results "
      "and the saved values; the backward takes these, then a gradient for each differentiable "
      "result (those of `given`), and returns one for each input. Raises Unsupported, with the "
      "symbols that have no rule.");
  m.def(
      "verify_problem",
      [](const Trace& trace) -> std::string {
        try {
          verify(trace);
          return {};
        } catch (const InternalError& e) {
          return e.what();
        }
      },
      "What is wrong with a trace, or an empty string.");
}

}  // namespace fulmen::bindings
