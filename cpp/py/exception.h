// The error indicator and the exception being handled, the same for every version.
#pragma once
#include "py/version.h"

namespace fulmen::py {

// Takes the raised exception, normalized and with its traceback attached; null when none is set.
PyObject* fetch_exception();
// Raises `exception` (steals it) as it is: no implicit context, its own traceback kept.
void restore_exception(PyObject* exception);
// Raises `exception` (borrowed) as a `raise` statement does: the handled exception becomes its
// context.
void raise_exception(PyObject* exception);
// Borrowed; null when none is handled. Looks through the callers' frames, as sys.exception() does.
PyObject* handled_exception(PyThreadState* thread);
// `raise` of a class or instance, with an optional cause (both borrowed); always sets an exception.
void raise_with_cause(PyObject* exception, PyObject* cause);
// Raises `type` with `message`, the current exception becoming its cause and context.
void raise_from_current(PyObject* type, const char* message);

}  // namespace fulmen::py
