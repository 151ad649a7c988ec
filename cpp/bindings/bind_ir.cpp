#include "bindings/bind_ir.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/bind.h"
#include "bindings/convert.h"
#include "ir/builder.h"
#include "ir/hash.h"
#include "ir/parser.h"
#include "ir/printer.h"
#include "ops/registry.h"

namespace fulmen::bindings {
namespace {

constexpr std::pair<uint32_t, const char*> kTagNames[] = {
    {kPure, "pure"},
    {kPointwise, "pointwise"},
    {kReduction, "reduction"},
    {kView, "view"},
    {kRandom, "random"},
    {kEffect, "effect"},
    {kInplace, "inplace"},
    {kNonDifferentiable, "non_differentiable"},
    {kFirstDifferentiable, "first_differentiable"},
    {kOthersAreLike, "others_are_like"},
    {kKeepsOperands, "keeps_operands"},
    {kOpaque, "opaque"},
    {kCreation, "creation"},
    {kFloatResult, "float_result"},
    {kMatmul, "matmul"}};

nb::list tags(const PySymbol& s) {
  nb::list names;
  for (const auto& [tag, name] : kTagNames) {
    if (s.symbol->has(tag)) names.append(name);
  }
  return names;
}

nb::object args_tuple(const PyBoundSymbol& b) {
  nb::object tuple = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(b.bsym->args.size())));
  for (size_t i = 0; i < b.bsym->args.size(); ++i) {
    PyTuple_SET_ITEM(tuple.ptr(), static_cast<Py_ssize_t>(i),
                     to_object(b.bsym->args[i], b.ctx).release().ptr());
  }
  return tuple;
}

nb::object call_arguments(const PyBoundSymbol& b) {
  const auto& params = b.bsym->symbol->info->schema.params;
  nb::list positional;
  nb::dict named;
  bool by_name = b.bsym->symbol->info->schema.variadic;
  for (size_t i = 0; i < params.size(); ++i) {
    const Param& p = params[i];
    const bool omitted = p.default_value && *p.default_value == b.bsym->args[i];
    by_name = by_name || p.keyword_only || omitted;
    if (omitted) continue;
    nb::object value = to_object(b.bsym->args[i], b.ctx);
    if (by_name) {
      named[nb::str(p.name.c_str())] = value;
    } else {
      positional.append(value);
    }
  }
  return nb::make_tuple(nb::tuple(positional), named);
}

nb::object source(const PyBoundSymbol& b) {
  if (!b.bsym->source) return nb::none();
  return nb::make_tuple(std::string(b.bsym->source->file), b.bsym->source->line,
                        std::string(b.bsym->source->function));
}

nb::list bound_symbols(const std::shared_ptr<TraceContext>& ctx,
                       const std::vector<const BoundSymbol*>& body) {
  nb::list list;
  for (const BoundSymbol* b : body) list.append(nb::cast(PyBoundSymbol{ctx, b}));
  return list;
}

void add_constants(nb::dict& constants, const Arg& a) {
  if (a.is_collection()) {
    for (const Arg& item : a.items()) add_constants(constants, item);
  } else if (a.kind() == Arg::Kind::kOpaque && a.opaque()->object) {
    constants[nb::str(a.opaque()->name.data(), a.opaque()->name.size())] =
        nb::borrow(static_cast<PyObject*>(a.opaque()->object));
  }
}

nb::dict constants(const Trace& t) {
  nb::dict found;
  for (const BoundSymbol* b : t.body) {
    for (const Arg& a : b->args) add_constants(found, a);
    add_constants(found, b->output);
  }
  add_constants(found, t.output);
  return found;
}

Trace parse(const std::string& text, const std::optional<nb::dict>& constants) {
  if (!constants) return parse_trace(text, registry_resolver());
  return parse_trace(
      text, registry_resolver(), [&](TraceContext& ctx, std::string_view name) -> const Opaque* {
        PyObject* object =
            PyDict_GetItem(constants->ptr(), nb::str(name.data(), name.size()).ptr());
        return object ? make_opaque(object, ctx, name) : nullptr;
      });
}

}  // namespace

void bind_ir(nb::module_& m) {
  nb::class_<PySymbol>(m, "Symbol", "An operation, declared once.")
      .def_prop_ro("name", [](const PySymbol& s) { return s.symbol->name(); })
      .def_prop_ro("schema", [](const PySymbol& s) { return std::string(s.symbol->schema); })
      .def_prop_ro("torch_names", [](const PySymbol& s) { return s.symbol->info->torch_names; })
      .def_prop_ro("tags", tags, nb::sig("def tags(self) -> list[str]"))
      .def_prop_ro("has_meta", [](const PySymbol& s) { return s.symbol->meta != nullptr; })
      .def_prop_ro("has_decomposition",
                   [](const PySymbol& s) {
                     return s.symbol->decompose ||
                            (s.symbol->info->rules && s.symbol->info->rules->has_decomposition());
                   })
      .def_prop_ro("has_vjp", [](const PySymbol& s) { return s.symbol->vjp != nullptr; })
      .def_prop_ro("has_augmented",
                   [](const PySymbol& s) { return s.symbol->augmented != nullptr; })
      .def_prop_ro(
          "functional",
          [](const PySymbol& s) -> nb::object {
            if (!s.symbol->info->functional) return nb::none();
            return nb::cast(PySymbol{s.symbol->info->functional});
          },
          nb::sig("def functional(self) -> Symbol | None"))
      .def_prop_ro("param_names",
                   [](const PySymbol& s) {
                     std::vector<std::string> names;
                     for (const Param& p : s.symbol->info->schema.params) names.push_back(p.name);
                     return names;
                   })
      .def(
          "__eq__", [](const PySymbol& a, const PySymbol& b) { return a.symbol == b.symbol; },
          nb::is_operator(), nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__hash__", [](const PySymbol& s) { return reinterpret_cast<uintptr_t>(s.symbol) >> 4; })
      .def("__repr__", [](const PySymbol& s) {
        return s.symbol->schema.empty() ? s.symbol->name() : std::string(s.symbol->schema);
      });

  nb::class_<PyBoundSymbol>(m, "BoundSymbol", "The use of a symbol on given inputs and outputs.")
      .def_prop_ro("symbol", [](const PyBoundSymbol& b) { return PySymbol{b.bsym->symbol}; })
      .def_prop_ro("arguments", call_arguments,
                   nb::sig("def arguments(self) -> tuple[tuple[typing.Any, ...], dict[str, "
                           "typing.Any]]"),
                   "(positional, by name), without what is the default.")
      .def_prop_ro("sym", [](const PyBoundSymbol& b) { return PySymbol{b.bsym->symbol}; })
      .def_prop_ro("args", args_tuple, nb::sig("def args(self) -> tuple[typing.Any, ...]"),
                   "One argument per schema parameter, defaults filled in.")
      .def_prop_ro(
          "output", [](const PyBoundSymbol& b) { return to_object(b.bsym->output, b.ctx); },
          nb::sig("def output(self) -> typing.Any"))
      .def_prop_ro("source", source, nb::sig("def source(self) -> tuple[str, int, str] | None"),
                   "(file, line, function) of the user's call, or None.")
      .def_prop_ro("executor", [](const PyBoundSymbol& b) { return std::string(b.bsym->executor); })
      .def_prop_ro(
          "subsymbols",
          [](const PyBoundSymbol& b) { return bound_symbols(b.ctx, subsymbols(b.ctx, *b.bsym)); },
          nb::sig("def subsymbols(self) -> list[BoundSymbol]"),
          "The decomposition one level down; empty for a prim.");

  nb::class_<Trace>(m, "Trace", "A program: bound symbols in order.")
      .def_prop_ro("name", [](const Trace& t) { return t.name; })
      .def_prop_ro("provenance", [](const Trace& t) { return t.provenance; })
      .def_prop_ro("functional", [](const Trace& t) { return t.functional; })
      .def_prop_ro(
          "inputs",
          [](const Trace& t) {
            nb::list list;
            for (const Proxy* p : t.inputs) list.append(wrap_proxy(p, t.ctx));
            return list;
          },
          nb::sig("def inputs(self) -> list[typing.Any]"))
      .def_prop_ro(
          "output", [](const Trace& t) { return to_object(t.output, t.ctx); },
          nb::sig("def output(self) -> typing.Any"))
      .def_prop_ro(
          "bound_symbols", [](const Trace& t) { return bound_symbols(t.ctx, t.body); },
          nb::sig("def bound_symbols(self) -> list[BoundSymbol]"))
      .def(
          "python", [](const Trace& t) { return to_python(t); },
          "The trace as a Python program that runs on plain PyTorch.")
      .def(
          "equals",
          [](const Trace& a, const Trace& b, bool names) {
            return equal(a, b, names ? CompareNames::kYes : CompareNames::kNo);
          },
          nb::arg("other"), nb::kw_only(), nb::arg("names") = false,
          "Whether both compute the same in the same way; with names, by the same names.")
      .def(
          "hash", [](const Trace& t) { return hash(t); },
          "The same for traces that are equal without names, in every process.")
      .def_prop_ro("constants", constants, nb::sig("def constants(self) -> dict[str, typing.Any]"),
                   "The objects that have no text of their own, by the names that stand for them: "
                   "the program runs where these names are defined.")
      .def("__str__", [](const Trace& t) { return to_python(t); })
      .def("__repr__", [](const Trace& t) { return to_python(t); })
      .def("__len__", [](const Trace& t) { return t.body.size(); });

  m.def(
      "parse_trace", parse, nb::arg("text"), nb::arg("constants") = nb::none(),
      nb::sig("def parse_trace(text: str, constants: dict[str, typing.Any] | None = None) -> "
              "Trace"),
      "Reads a printed trace. The objects behind its free names are looked up in `constants`; "
      "without these the trace can't be run where it has any. Raises UserValueError for malformed "
      "text.");
  m.def(
      "symbols",
      [] {
        nb::list list;
        for (const Symbol* s : Registry::get().symbols()) list.append(nb::cast(PySymbol{s}));
        return list;
      },
      nb::sig("def symbols() -> list[Symbol]"), "All rows and in-place twins.");
  m.def(
      "defined_symbols", [] { return Registry::get().defined(); },
      "The names of operators that were registered.");
  m.def(
      "find_symbol",
      [](const std::string& name) -> nb::object {
        const Symbol* s = Registry::get().find(name);
        return s ? nb::cast(PySymbol{s}) : nb::none();
      },
      nb::arg("name"), nb::sig("def find_symbol(name: str) -> Symbol | None"));
}

}  // namespace fulmen::bindings
