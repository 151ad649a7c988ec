#pragma once

#include <Python.h>

namespace fulmen::jit {

// What guards tell apart of Python's objects.

// Of a type whose instances are told by their value.
bool is_plain_value(PyObject* object);
// An instance of a class that is derived from a plain one, as numpy.float64.
bool is_derived_value(PyObject* object);
bool is_singleton(PyObject* object);
// Objects whose identity says all: what they hold is looked at where it is read.
bool is_identity(PyObject* object);
bool is_container(PyObject* object);
bool is_deque(PyObject* object);
bool is_partial(PyObject* object);
// Two objects of its type are equal if they are the same one.
bool compares_by_identity(PyObject* object);
bool hashes_by_identity(PyObject* object);
// The class at a dotted path; null if there is none.
PyTypeObject* type_in(const char* path);

}  // namespace fulmen::jit
