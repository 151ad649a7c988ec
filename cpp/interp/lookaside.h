// C callables that call back into Python, done by the interpreter in their place.
//
// A lookaside checks its arguments and declines (Looked::kDecline) whatever it does not cover,
// errors included: then the C callable runs and says what is wrong.
#pragma once
#include "interp/protocol.h"

namespace fulmen::interp {

enum class Looked : int8_t { kError = -1, kDecline = 0, kDone = 1 };
inline Looked done(bool ok) { return ok ? Looked::kDone : Looked::kError; }

// `args` include the receiver where the callee is a bound method of a C type (as if it had been
// called through its class).
using Lookaside = Looked (*)(Frame& frame, Val callee, const Args& args, Val* result);

// The identity of a C callable that binding does not change.
void* callee_key(PyObject* callee);

void register_lookaside(PyObject* callable, Lookaside lookaside);
// `type`'s own C method or slot wrapper `name`; false with an exception set if there is none.
bool register_method(PyTypeObject* type, const char* name, Lookaside lookaside);
bool register_builtin(const char* name, Lookaside lookaside);

bool init_lookasides();

// functools.partial, whose objects are called by their type; null before init.
extern PyTypeObject* partial_type;
bool call_partial(Frame& frame, Val partial, const Args& args, Val* result);

// The groups, each in its file.
bool init_object_lookasides();
bool init_iteration_lookasides();
bool init_generator_lookasides();
bool init_execution_lookasides();

}  // namespace fulmen::interp
