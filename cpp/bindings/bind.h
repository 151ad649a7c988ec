#pragma once

#include <nanobind/nanobind.h>

#include <exception>

namespace fulmen::bindings {

void bind_errors(nanobind::module_& m);  // UserError and its like → fulmen.errors
// Sets the Python exception that stands for one of Fulmen's.
void set_python_error(const std::exception_ptr& error);
// The same, and InternalError for every other exception.
void set_python_error_of_any(const std::exception_ptr& error);
void bind_proxies(nanobind::module_& m);    // TensorProxy, NumberProxy, ObjectProxy
void bind_ir(nanobind::module_& m);         // Symbol, BoundSymbol, Trace, the registry
void bind_recorder(nanobind::module_& m);   // Recorder
void bind_executors(nanobind::module_& m);  // Executor, Compilation, operators of users'
void bind_program(nanobind::module_& m);    // transform_for_execution, Program
void bind_passes(nanobind::module_& m);     // Pipeline, with transforms written in Python

}  // namespace fulmen::bindings
