#include "jit/bind_jit.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <set>

#include "bindings/bind.h"
#include "bindings/program_object.h"
#include "interp/interpreter.h"
#include "interp/protocol.h"
#include "jit/acquisition.h"
#include "jit/call_rules.h"
#include "jit/function.h"
#include "support/error.h"
#include "support/flags.h"

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
  nb::object method;
  size_t skip = PyMethod_Check(fn.ptr()) ? 1 : 0;
  if (!nb::hasattr(fn, "__code__")) {
    method = nb::hasattr(fn, "forward") ? fn.attr("forward") : fn.type().attr("__call__");
    callee = method;
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

// Attribute of an exception that refused a call: what was acquired until then.
constexpr const char* kAcquired = "acquired";

void keep_refused(Acquisition& acquisition, nb::handle refusal) {
  try {
    Acquired acquired;
    if (!acquisition.finish_refused(&acquired.trace)) return;
    acquired.entry = acquisition.take_entry();
    refusal.attr(kAcquired) = nb::cast(std::move(acquired));
  } catch (...) {
    PyErr_Clear();  // the call is refused all the same
  }
}

// Follows fn(*args, **kwargs) with the tracer's recorder. Raises what the user's code raises.
Acquired acquire(nb::object fn, nb::tuple args, nb::dict kwargs, nb::object tracer,
                 nb::object compile, nb::object ran, bool symbolic) {
  const NoCollection no_collection;
  const FlatArgs flat(args, kwargs);
  Acquisition acquisition(tracer.ptr(), compile.ptr(), ran.ptr(), symbolic);
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
    if (ran.is_none()) keep_refused(acquisition, refusal);
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

// Gives the entry its program and makes it the first specialization of the function, if there is
// one.
void install(nb::handle function, Acquired& acquired, nb::handle program, bool trusted) {
  acquired.entry->trusted = trusted;
  Segment& s = acquired.entry->segments.back();
  s.program = bindings::program_of(program.ptr());
  if (!s.program) throw nb::type_error("expected a Program");
  s.check = bridge::make_input_check(s.program->trace(), {});
  s.effects = bridge::effects_of(s.program->trace());
  if (!function.is_none()) add_entry(function.ptr(), acquired.entry);
}

// Lets the function leave calls like the acquired one, which was refused, to eager PyTorch.
void install_refusal(nb::handle function, Acquired& acquired, nb::str reason) {
  Segment& s = acquired.entry->segments.back();
  s.check = bridge::make_input_check(acquired.trace, {});
  acquired.entry->refused = reason.release().ptr();
  add_entry(function.ptr(), acquired.entry);
}

// Names that Python takes as parameters, each once.
std::vector<std::string> parameter_names(const Entry& entry) {
  std::vector<std::string> names;
  for (const std::string& name : entry.argument_names) {
    const bool taken = std::find(names.begin(), names.end(), name) != names.end();
    names.push_back(taken ? cat(name, "_", names.size()) : name);
  }
  return names;
}

std::string tensor_condition(const std::string& path, const TensorType& type) {
  const auto ints = [](const Dims& dims) {
    std::string text;
    for (const Dim d : dims) append(text, cat(d.value(), ", "));
    if (dims.size() > 1) text.resize(text.size() - 2);
    if (dims.size() == 1) text.resize(text.size() - 1);
    return cat("(", text, ")");
  };
  const nb::object dtype = nb::steal(bridge::constant_to_python(Arg(type.dtype)));
  const nb::object device = nb::steal(bridge::constant_to_python(Arg(type.device)));
  return cat("  assert ", path, ".dtype == ", nb::cast<std::string>(nb::repr(dtype)), " and ", path,
             ".shape == ", ints(type.shape), " and ", path, ".stride() == ", ints(type.strides),
             "\n  assert str(", path, ".device) == '", nb::cast<std::string>(nb::str(device)),
             "' and ", path, ".requires_grad is ", type.requires_grad ? "True" : "False", "\n");
}

std::string prologue(const Acquired& acquired, nb::dict constants) {
  const Entry& entry = *acquired.entry;
  const std::vector<std::string> names = parameter_names(entry);
  PrologueWriter writer(entry.guards, names, constants.ptr());
  std::string body = writer.body(), inputs;
  const Segment& s = entry.segments.front();
  for (size_t i = 0; i < s.inputs.size(); ++i) {
    std::string path = writer.path(s.inputs[i]);
    const Proxy* p = s.program ? s.program->trace().inputs[i] : nullptr;
    if (p && path.find_first_of(".[(") != path.npos) {
      const std::string name = writer.local(p->name);
      append(body, cat("  ", name, " = ", path, "\n"));
      path = name;
    }
    append(inputs, cat(path, ", "));
    if (const TensorProxy* t = as_tensor(p)) append(body, tensor_condition(path, t->type));
  }
  if (s.inputs.size() > 1) inputs.resize(inputs.size() - 2);
  if (s.inputs.size() == 1) inputs.resize(inputs.size() - 1);
  constants["ambient"] = nb::cpp_function([] { return bridge::ambient_state().bits; });
  constants["same_value"] =
      nb::cpp_function([](nb::handle a, nb::handle b) { return same_value(a.ptr(), b.ptr()); });
  constants["buffer"] = nb::cpp_function([](nb::handle o) {
    const nb::object contents = nb::steal(buffer_contents(o.ptr()));
    return contents.is_valid() ? contents : nb::none();
  });
  if (s.program) {
    // Holds the program, not what was acquired: the text may outlive it.
    std::shared_ptr<bridge::InputCheck> check = bridge::make_input_check(s.program->trace(), {});
    constants["fits"] = nb::cpp_function([check](nb::args given) {
      std::vector<PyObject*> objects;
      for (nb::handle o : given) objects.push_back(o.ptr());
      return check->accepts(objects.data(), objects.size(), nullptr);
    });
    append(body, cat("  assert fits(", inputs, ")  # storage is shared as when it was compiled\n"));
  }
  std::string parameters;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i == entry.num_args) append(parameters, i ? "/, *, " : "*, ");
    append(parameters, cat(names[i], ", "));
  }
  if (entry.num_args && entry.num_args == names.size()) append(parameters, "/, ");
  if (!parameters.empty()) parameters.resize(parameters.size() - 2);
  return cat("import torch\n\ndef prologue(", parameters, "):\n", writer.imports(),
             "  assert ambient() == ", entry.ambient.bits,
             "  # grad and inference mode, autocast, default dtype, deterministic algorithms\n",
             body, "  return (", inputs, ")\n");
}

// The call that was acquired, run: its result in a tuple of one; an empty one if a program failed
// and PyTorch is to run the call, of which nothing has happened then.
nb::tuple run(Acquired& acquired, nb::tuple args, nb::dict kwargs) {
  const FlatArgs flat(args, kwargs);
  Call call(flat.objects.data(), flat.objects.size());
  std::vector<PyObject*> outputs;
  for (const nb::object& o : acquired.outputs) outputs.push_back(o.ptr());
  const bridge::Modes modes = bridge::Modes::current();
  call.adopt(*acquired.entry, outputs);
  std::string failed;
  if (!call.accepts(*acquired.entry, &failed))
    internal_error(cat("a guard does not hold for the call that it was made from: ", failed));
  if (!call.run(*acquired.entry)) {
    modes.restore_autograd();
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
      .def("prologue", prologue, nb::arg("constants"),
           "The guards as the text of a Python function prologue() that returns the inputs of the "
           "program; what it names is added to the dict `constants`.")
      .def_prop_ro(
          "num_guards", [](const Acquired& a) { return a.entry->guards.num_guards(); },
          "How many conditions the guards state.")
      .def_prop_ro(
          "specialized", [](const Acquired& a) { return a.entry->specialized; },
          "Numbers whose value the program depends on, and the line that needs it.")
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
        nb::arg("compile").none(), nb::arg("ran").none(), nb::arg("symbolic") = false,
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
  m.def(
      "grad_of",
      [](nb::handle proxy) {
        Acquisition* a = Acquisition::current();
        PyObject* grad = a ? a->grad_of(proxy.ptr()) : Py_NewRef(Py_None);
        if (!grad) throw nb::python_error();
        return nb::steal(grad);
      },
      nb::arg("proxy"), nb::sig("def grad_of(proxy: object) -> typing.Any"),
      "`.grad` of a traced tensor.");
  m.def(
      "set_grad",
      [](nb::handle proxy, nb::handle value) {
        Acquisition* a = Acquisition::current();
        if (!a) throw Unsupported("assigning to .grad of a traced tensor");
        if (!a->set_grad(proxy.ptr(), value.ptr())) throw nb::python_error();
      },
      nb::arg("proxy"), nb::arg("value").none(), "Sets `.grad` of a traced tensor.");
  m.def(
      "logs", [](const std::string& part) { return flag_has(Flag::kLog, part); }, nb::arg("part"),
      "Whether FULMEN_LOG asks for the log lines of a part.");
  m.def(
      "install", install, nb::arg("function").none(), nb::arg("acquired"), nb::arg("program"),
      nb::arg("trusted") = false,
      "Gives the call its program, and the function (None: no function) one more specialization.");
  m.def("install_refusal", install_refusal, nb::arg("function"), nb::arg("acquired"),
        nb::arg("reason"),
        "Lets the function leave calls like the one that was refused to eager PyTorch.");
  m.def(
      "add_call_rule",
      [](nb::handle callable, const std::string& rule, nb::handle replacement) {
        if (!add_call_rule(callable.ptr(), rule.c_str(), replacement.ptr()))
          throw nb::python_error();
      },
      nb::arg("callable"), nb::arg("rule"), nb::arg("replacement").none() = nb::none());
}

}  // namespace fulmen::jit
