#pragma once

#include <Python.h>

#include <cstdint>

namespace fulmen::jit {

// What trace mode does with a call, by the callable.
enum class CallRule : uint8_t {
  kInterpret,  // as emulate mode: Python functions are followed, others called
  kRow,        // an operation of the registry
  kTorch,      // a torch function without a row: recorded as opaque when tensors take part
  kCreate,     // the same, also when no tensor takes part
  kSame,       // another callable's rule: `replacement`
  kConstant,   // returns `replacement` without a call
  kNative,     // called by CPython, not followed
  kModule,     // torch.nn.Module.__getattr__
  kEffect,     // a message: `replacement` says what is to be called at each call
  kRefuse,     // changes state of the process that a trace can't express
};

struct CallTarget {
  CallRule rule = CallRule::kInterpret;
  PyObject* replacement = nullptr;
};

// Adds a rule from Python (rule: name of the enumerator without its k, in lower case). Null with an
// error set for an unknown rule.
bool add_call_rule(PyObject* callable, const char* rule, PyObject* replacement);

// The rule of a callable. Rules hold for objects that live as long as the process.
CallTarget call_target(PyObject* callable);

}  // namespace fulmen::jit
