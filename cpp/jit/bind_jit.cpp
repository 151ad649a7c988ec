#include "jit/bind_jit.h"

#include <nanobind/stl/string.h>

#include <set>

#include "bindings/bind.h"
#include "bindings/program_object.h"
#include "interp/interpreter.h"
#include "interp/protocol.h"
#include "jit/acquisition.h"
#include "jit/call_rules.h"
#include "jit/function.h"
#include "support/error.h"

namespace nb = nanobind;

namespace fulmen::jit {
namespace {

// What following one call gave: its trace, and an entry that lacks only the program.
struct Acquired {
  Trace trace;
  std::shared_ptr<Entry> entry;
  std::vector<nb::object> outputs;  // of the segments that have run
  bridge::Undo undo;                // what they wrote
  interp::Counters counters;
};

// The arguments of a call in the layout of the vectorcall protocol.
struct FlatArgs {
  FlatArgs(nb::tuple args, nb::dict kwargs) {
    for (nb::handle a : args) objects.push_back(a.ptr());
    count = objects.size();
    if (kwargs.size() == 0) return;
    names = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(kwargs.size())));
    Py_ssize_t i = 0;
    for (auto [key, value] : kwargs) {
      PyTuple_SET_ITEM(names.ptr(), i++, Py_NewRef(key.ptr()));
      objects.push_back(value.ptr());
    }
  }
  std::vector<PyObject*> objects;
  size_t count = 0;
  nb::object names;
};

std::vector<std::string> argument_names(nb::handle fn, const FlatArgs& flat) {
  std::vector<std::string> names;
  nb::handle callee = fn;
  nb::object forward;
  size_t skip = PyMethod_Check(fn.ptr()) ? 1 : 0;
  if (!nb::hasattr(fn, "__code__") && nb::hasattr(fn, "forward")) {
    forward = fn.attr("forward");
    callee = forward;
    skip = 1;
  }
  const nb::object code = nb::getattr(callee, "__code__", nb::none());
  for (size_t i = 0; i < flat.count; ++i) {
    std::string name = cat("args_", i);
    if (!code.is_none()) {
      const nb::object known = code.attr("co_varnames");
      const auto limit = nb::cast<size_t>(code.attr("co_argcount"));
      if (i + skip < limit) name = nb::cast<std::string>(nb::object(known[i + skip]));
    }
    names.push_back(name);
  }
  for (size_t i = flat.count; i < flat.objects.size(); ++i)
    names.push_back(nb::cast<std::string>(nb::object(flat.names[i - flat.count])));
  return names;
}

// A context manager, entered.
class Entered {
 public:
  explicit Entered(nb::object manager) : manager_(std::move(manager)) {
    manager_.attr("__enter__")();
  }
  ~Entered() {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject* r = PyObject_CallMethod(manager_.ptr(), "__exit__", "OOO", Py_None, Py_None, Py_None);
    Py_XDECREF(r);
    PyErr_Restore(type, value, traceback);
  }
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;

 private:
  nb::object manager_;
};

// Without collections: a finalizer that one runs is no part of the user's call.
class NoCollection {
 public:
  NoCollection() : was_enabled_(PyGC_Disable() != 0) {}
  ~NoCollection() {
    if (was_enabled_) PyGC_Enable();
  }
  NoCollection(const NoCollection&) = delete;
  NoCollection& operator=(const NoCollection&) = delete;

 private:
  bool was_enabled_;
};

// Follows fn(*args, **kwargs) with the tracer's recorder. Raises what the user's code raises.
Acquired acquire(nb::object fn, nb::tuple args, nb::dict kwargs, nb::object tracer,
                 nb::object compile, nb::object ran) {
  const NoCollection no_collection;
  const FlatArgs flat(args, kwargs);
  Acquisition acquisition(tracer.ptr(), compile.ptr(), ran.ptr());
  Entry& entry = acquisition.entry();
  entry.num_args = flat.count;
  if (flat.names.is_valid()) entry.kwnames = nb::object(flat.names).release().ptr();
  const Entered recording(tracer);
  // Catches what is made by Python code that C code calls.
  const Entered mode(nb::module_::import_("fulmen.tracer").attr("TraceMode")(tracer));
  std::vector<PyObject*> objects = flat.objects;
  std::vector<interp::Prov*> provs;
  std::vector<nb::object> owned;
  const std::vector<std::string> names = argument_names(fn, flat);
  for (size_t i = 0; i < objects.size(); ++i) {
    provs.push_back(acquisition.argument(&objects[i], static_cast<int64_t>(i), names[i].c_str()));
    if (!provs.back()) throw nb::python_error();
    owned.push_back(nb::steal(objects[i]));
  }
  interp::Prov* root = acquisition.constant(fn.ptr(), "fn");
  interp::Val result;
  const interp::Args call{objects.data(), provs.data(), static_cast<Py_ssize_t>(flat.count),
                          flat.names.is_valid() ? flat.names.ptr() : nullptr, false};
  if (!interp::init()) throw nb::python_error();
  interp::Session session(&acquisition, /*intercept=*/true);
  const bool good = interp::call(session.frame(), {fn.ptr(), root}, call, &result);
  const nb::object value = nb::steal(good ? result.o : nullptr);
  if (PyObject* refusal = acquisition.refusal()) {
    PyErr_Clear();
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(refusal)), refusal);
    throw nb::python_error();
  }
  Acquired acquired;
  if (!acquisition.finish(good ? value.ptr() : nullptr, &acquired.trace)) throw nb::python_error();
  acquired.entry = acquisition.take_entry();
  acquired.undo = acquisition.take_undo();
  acquired.counters = session.counters();
  for (PyObject* o : acquisition.segment_outputs()) acquired.outputs.push_back(nb::borrow(o));
  return acquired;
}

// Gives the entry its program and makes it the function's first specialization.
void install(nb::handle function, Acquired& acquired, nb::handle program) {
  Segment& s = acquired.entry->segments.back();
  s.program = bindings::program_of(program.ptr());
  if (!s.program) throw nb::type_error("expected a Program");
  s.check = bridge::make_input_check(s.program->trace(), {});
  s.effects = bridge::effects_of(s.program->trace());
  add_entry(function.ptr(), acquired.entry);
}

// The call that was acquired, run: its result in a tuple of one; an empty one if a program failed
// and PyTorch is to run the call, of which nothing has happened then.
nb::tuple run(Acquired& acquired, nb::tuple args, nb::dict kwargs) {
  const FlatArgs flat(args, kwargs);
  Call call(flat.objects.data(), flat.objects.size());
  std::vector<PyObject*> outputs;
  for (const nb::object& o : acquired.outputs) outputs.push_back(o.ptr());
  call.adopt(*acquired.entry, outputs);
  std::string failed;
  if (!call.accepts(*acquired.entry, &failed))
    internal_error(cat("a guard does not hold for the call that it was made from: ", failed));
  if (!call.run(*acquired.entry)) {
    if (!call.undo()) throw nb::python_error();
    PyErr_Clear();
    acquired.undo.restore();
    return nb::make_tuple();
  }
  PyObject* result = call.finish(*acquired.entry);
  if (!result) throw nb::python_error();
  return nb::make_tuple(nb::steal(result));
}

}  // namespace

void bind_jit(nb::module_& m) {
  add_function_type(m);
  nb::class_<Acquired>(m, "Acquired", "What following one call of a function gave.")
      .def_ro("trace", &Acquired::trace)
      .def_prop_ro(
          "guards",
          [](const Acquired& a) { return a.entry->guards.python(a.entry->argument_names); },
          "The guards, one assertion a line.")
      .def_prop_ro("num_guards",
                   [](const Acquired& a) { return a.entry->guards.num_instructions(); })
      .def_prop_ro(
          "counters",
          [](const Acquired& a) {
            nb::dict d;
            d["frames"] = a.counters.frames;
            d["lookasides"] = a.counters.lookasides;
            d["opaque"] = a.counters.opaque;
            d["refused"] = a.counters.refused;
            return d;
          },
          "What the interpreter did: frames followed, calls left to CPython, and so on.")
      .def_prop_ro("num_writes", [](const Acquired& a) { return a.entry->writes.size(); })
      .def("run", run)
      .def(
          "undo", [](Acquired& a) { a.undo.restore(); },
          "Takes back what the programs that ran while the call was followed wrote.");
  m.def("acquire", acquire, nb::arg("fn"), nb::arg("args"), nb::arg("kwargs"), nb::arg("tracer"),
        nb::arg("compile").none(), nb::arg("ran").none(),
        "Follows one call of `fn` without running it.");
  m.def(
      "can_ask", [] { return Acquisition::current() != nullptr; },
      "Whether this thread follows a call that may ask for the value of a tensor.");
  m.def(
      "ask",
      [](nb::handle proxy, const std::string& method) {
        static auto* names = new std::set<std::string>;  // entries refer to the text
        const char* how = names->insert(method).first->c_str();
        PyObject* answer = Acquisition::current()->ask_for(proxy.ptr(), how);
        if (!answer) throw nb::python_error();
        return nb::steal(answer);
      },
      nb::arg("proxy"), nb::arg("method"),
      "The value of a traced tensor as `method` gives it; needs can_ask().");
  m.def("install", install, nb::arg("function"), nb::arg("acquired"), nb::arg("program"));
  m.def(
      "add_call_rule",
      [](nb::handle callable, const std::string& rule, nb::handle replacement) {
        if (!add_call_rule(callable.ptr(), rule.c_str(), replacement.ptr()))
          throw nb::python_error();
      },
      nb::arg("callable"), nb::arg("rule"), nb::arg("replacement").none() = nb::none());
}

}  // namespace fulmen::jit
