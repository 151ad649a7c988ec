#include <ATen/core/Tensor.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>

#include "bridge/bridge.h"
#include "bridge/gil.h"
#include "bridge/ivalue.h"
#include "bridge/no_autocast.h"
#include "bridge/python_value.h"
#include "bridge/recycled_memory.h"
#include "bridge/undo.h"
#include "ir/builder.h"
#include "ir/proxy.h"
#include "support/error.h"

namespace fulmen::bridge {
namespace {

// Adds the user's source line to the pending Python exception, as a note.
void add_source_note(const BoundSymbol* bsym) {
  if (!bsym) return;
  const std::string note = cat("in ", bsym->symbol->name(), "()", source_suffix(bsym->source));
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (PyObject* r = PyObject_CallMethod(value, "add_note", "s", note.c_str())) {
    Py_DECREF(r);
  } else {
    PyErr_Clear();
  }
  PyErr_Restore(type, value, traceback);
}

// Whether the pending exception says what an executor of the user's did: eager would not raise it.
bool is_of_executor() {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  PyObject* id = value ? PyObject_GetAttrString(value, "id") : nullptr;
  if (!id) PyErr_Clear();
  const bool found =
      id && PyUnicode_Check(id) && PyUnicode_CompareWithASCIIString(id, "executor-kernel") == 0;
  Py_XDECREF(id);
  PyErr_Restore(type, value, traceback);
  return found;
}

PyObject* build_result(const Arg& a, exec::Slot* slots, const uint32_t*& next) {
  if (a.is_proxy()) return to_python(value_of(slots[*next++]));
  if (!a.is_collection()) return constant_to_python(a);
  const auto items = a.items();
  if (a.kind() == Arg::Kind::kDict) {
    PyObject* dict = PyDict_New();
    for (size_t i = 0; dict && i + 1 < items.size(); i += 2) {
      PyObject* key = build_result(items[i], slots, next);
      PyObject* value = key ? build_result(items[i + 1], slots, next) : nullptr;
      if (!value || PyDict_SetItem(dict, key, value) < 0) Py_CLEAR(dict);
      Py_XDECREF(key);
      Py_XDECREF(value);
    }
    return dict;
  }
  const bool list = a.kind() == Arg::Kind::kList;
  const auto n = static_cast<Py_ssize_t>(items.size());
  PyObject* sequence = list ? PyList_New(n) : PyTuple_New(n);
  for (Py_ssize_t i = 0; sequence && i < n; ++i) {
    PyObject* item = build_result(items[i], slots, next);
    if (!item) {
      Py_CLEAR(sequence);
    } else if (list) {
      PyList_SET_ITEM(sequence, i, item);
    } else {
      PyTuple_SET_ITEM(sequence, i, item);
    }
  }
  return sequence;
}

}  // namespace

PyObject* call_program(const exec::Program& program, PyObject* const* args, size_t n,
                       bool* failed_clean) {
  const BoundSymbol* failed_at = nullptr;
  // A program that fails leaves the caller's modes; one that succeeds leaves its own, as eager.
  const bool grad_mode = grad_enabled(), inference = inference_mode();
  const NoAutocast no_autocast;
  try {
    if (n != program.num_inputs())
      internal_error("a program was called with a wrong number of inputs");
    exec::Frame frame(program);
    for (size_t i = 0; i < n; ++i) value_of(frame.slots()[i]) = from_python(args[i]);
    {
      const ReleaseGil no_gil;
      const RecyclesMemory recycles(program.makes_regions());
      program.run(frame.slots(), &failed_at);
    }
    const uint32_t* next = program.output_slots().data();
    return build_result(program.output(), frame.slots(), next);
  } catch (python_error& e) {
    e.restore();
  } catch (const c10::Error& e) {
    torch::translate_exception_to_python(std::current_exception());
  } catch (const std::exception& e) {
    if (!PyErr_Occurred()) torch::translate_exception_to_python(std::current_exception());
  }
  if (inference_mode() != inference) set_inference_mode(inference);
  set_grad_enabled(grad_mode);
  add_source_note(failed_at);
  if (failed_clean) {
    *failed_clean = !is_of_executor() && PyErr_ExceptionMatches(PyExc_Exception) &&
                    !saves_through_hooks() &&
                    (!failed_at || !has_effect_before(program.trace(), failed_at));
  }
  return nullptr;
}

}  // namespace fulmen::bridge
