// The interpreter as an extension module of its own, built without PyTorch, for its tests.
#include "interp/python_functions.h"

#if PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED)
#define FULMEN_INTERP_SUPPORTED 1
#include <vector>

#include "interp/interpreter.h"
#include "interp/protocol.h"
#endif

namespace {

#ifdef FULMEN_INTERP_SUPPORTED
namespace fi = fulmen::interp;

// Hooks that answer nothing and count what they are asked: with them everything has to go on as in
// emulate mode. Provenance, where a read gives it, is one node, which must reach the places that
// look at it or be lost, never be garbage.
class CountingHooks final : public fi::Hooks {
 public:
  bool read(fi::Frame&, fi::Read, fi::Val from, PyObject*, fi::Val* value) override {
    check(from);
    if (value) value->p = &node_;
    return ++reads, true;
  }
  bool absent(fi::Frame&, fi::Read, fi::Val from, PyObject*) override {
    check(from);
    return ++reads, true;
  }
  bool write(fi::Frame&, fi::Write, fi::Val target, PyObject*, fi::Val value) override {
    check(target);
    check(value);
    return ++writes, true;
  }
  bool mutate(fi::Frame&, fi::Val container, PyObject*) override {
    check(container);
    return ++writes, true;
  }
  fi::Answer call(fi::Frame&, fi::Val callee, const fi::Args& args, fi::Val*) override {
    check(callee);
    for (Py_ssize_t i = 0; i < args.total(); i++) check(args.at(i));
    ++calls;
    return fi::Answer::kNotHandled;
  }
  bool before_opaque(fi::Frame&, fi::Val callee, const fi::Args&) override {
    check(callee);
    return true;
  }
  bool after_opaque(fi::Frame&, fi::Val, const fi::Args&, fi::Val*) override { return true; }
  int truth(fi::Frame&, fi::Val value) override {
    check(value);
    return -2;
  }
  bool contents(fi::Frame&, fi::Val container) override {
    check(container);
    return true;
  }
  fi::Answer missing(fi::Frame&, fi::Val object, PyObject*, fi::Val*) override {
    check(object);
    return fi::Answer::kNotHandled;
  }
  bool sized(fi::Frame&, fi::Val container) override {
    check(container);
    return true;
  }
  void all_contents(fi::Frame&, fi::Val object) override { check(object); }
  void search(fi::Frame&, fi::Val container, fi::Val item) override {
    check(container);
    check(item);
  }
  void identity(fi::Frame&, fi::Val a, fi::Val b) override {
    check(a);
    check(b);
  }
  void looked_up(fi::Frame&, PyTypeObject* type, PyObject*, PyObject*) override {
    if (!type) Py_FatalError("a special method was looked up on no class");
  }
  fi::Answer operate(fi::Frame&, int, fi::Val a, fi::Val b, fi::Val*) override {
    check(a);
    check(b);
    return fi::Answer::kNotHandled;
  }
  PyObject* key_of(PyObject* key) override { return key; }
  bool member(fi::Frame&, fi::Val dict, PyObject*) override {
    check(dict);
    return true;
  }
  bool follows(PyCodeObject*) override { return true; }
  void suspend(PyObject*, fi::Prov* const*, int) override {}
  void resume(PyObject*, fi::Prov**, int) override {}

  uint64_t reads = 0, writes = 0, calls = 0;

 private:
  void check(fi::Val value) const {
    if (value.p && value.p != &node_) Py_FatalError("a value has provenance that nobody gave it");
  }
  fi::Prov node_{};
};

PyObject* interpret_hooked(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  count = PyVectorcall_NARGS(count);
  if (count < 1 || names) {
    PyErr_SetString(PyExc_TypeError, "interpret_hooked(): expected a function and its arguments");
    return nullptr;
  }
  if (!fi::init()) return nullptr;
  CountingHooks hooks;
  fi::Session session(&hooks, /*intercept=*/true);
  std::vector<PyObject*> objects(args, args + count);
  std::vector<fi::Prov*> provs(count);
  fi::Val result;
  const fi::Args rest{objects.data() + 1, provs.data() + 1, count - 1, nullptr, false};
  return fi::call(session.frame(), {objects[0], nullptr}, rest, &result) ? result.o : nullptr;
}

PyMethodDef test_functions[] = {
    {"interpret_hooked",
     reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(interpret_hooked)),
     METH_FASTCALL | METH_KEYWORDS,
     "interpret_hooked(fn, /, *args)\n--\n\ninterpret() with hooks that change nothing."},
    {},
};
#endif

PyModuleDef module_definition = {PyModuleDef_HEAD_INIT,
                                 "_interp",
                                 "Fulmen's interpreter alone.",
                                 0,
                                 nullptr,
                                 nullptr,
                                 nullptr,
                                 nullptr,
                                 nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__interp() {
  PyObject* module = PyModule_Create(&module_definition);
  if (!module) return nullptr;
  bool ok = fulmen::interp::add_functions(module);
#ifdef FULMEN_INTERP_SUPPORTED
  ok = ok && PyModule_AddFunctions(module, test_functions) == 0;
#endif
  if (ok) return module;
  Py_DECREF(module);
  return nullptr;
}
