// The object protocols, as the handlers use them: each does what CPython does for the operation,
// except that Python code which the operation runs is interpreted.
//
// Unless said otherwise: values given are borrowed, results are owned by the caller, and false (or
// -1) means that an exception is set.
#pragma once
#include <initializer_list>

#include "interp/frame.h"

namespace fulmen::interp {

// call.cpp
void init_calls(PyObject* function);  // any Python function
bool call(Frame& frame, Val callee, const Args& args, Val* result);
bool call_with(Frame& frame, Val callee, std::initializer_list<Val> args, Val* result);
// `callable(*args, **kwargs)`; `kwargs` may be null.
bool call_unpacked(Frame& frame, Val callee, Val args, Val kwargs, Val* result);
// Calls a C callable, or leaves a Python one to CPython.
bool call_opaque(Frame& frame, Val callee, const Args& args, Val* result);
// Calls a Python function. With `steal`, the references in args.objects are moved into the new
// frame where possible, and their slots set to null.
bool call_function(Frame& frame, Val function, const Args& args, bool steal, Val* result);
// Runs `code` as the body of a class or as the argument of exec() or eval().
bool run_code(Frame& frame, PyFunctionObject* function, PyObject* locals, Val* result);
// As call(), for arguments that are on the value stack and that the call may consume.
bool call_stealing(Frame& frame, Val callee, const Args& args, Val* result);
// The C stack is nearly used up (CPython needs none for Python calls), or a trace or profile
// function wants to see every step.
bool must_run_natively(Context* context);
bool stack_is_short(Context* context);
// With Python's depth limit counted, as CPython does for a frame of Python code.
bool enter_python_call(PyThreadState* thread);
void leave_python_call(PyThreadState* thread);

// type_call.cpp: `type(*args)` as type.__call__ does it.
bool call_type(Frame& frame, Val type, const Args& args, Val* result);

// attribute.cpp
// What `name` is on the class, borrowed; null without an exception if nothing.
PyObject* type_lookup(Frame& frame, PyTypeObject* type, PyObject* name);
bool load_attr(Frame& frame, Val object, PyObject* name, Val* result);
// 1: found. 0: AttributeError, which is cleared. -1: another exception.
int lookup_attr(Frame& frame, Val object, PyObject* name, Val* result);
// For a call of a method: 1: `*result` is an unbound function to be called with `object` first.
// 0: `*result` is the attribute. -1: an exception is set.
int load_method(Frame& frame, Val object, PyObject* name, Val* result);
// `value.o` null: deletes.
bool store_attr(Frame& frame, Val object, PyObject* name, Val value);
// A special method, looked up on the class and bound. 1, 0 (absent, nothing set) or -1.
int lookup_special(Frame& frame, Val object, PyObject* name, Val* result);
// Calls it. Absent: 0, nothing set.
int call_special(Frame& frame, Val object, PyObject* name, std::initializer_list<Val> args,
                 Val* result);
// descriptor.__get__(object, type); `object.o` may be null.
bool descriptor_get(Frame& frame, PyObject* descriptor, Val object, PyObject* type, Val* result);
bool load_super_attr(Frame& frame, Val super, PyObject* name, Val* result);

// operators.cpp
bool binary_op(Frame& frame, int op, Val a, Val b, Val* result);
bool unary_op(Frame& frame, Op op, Val a, Val* result);
int truth(Frame& frame, Val value);
// compare.cpp
bool compare(Frame& frame, int op, Val a, Val b, Val* result);
int contains(Frame& frame, Val container, Val item);
// strings.cpp
PyObject* join_strings(PyObject** parts, int count);
bool convert_value(Frame& frame, int conversion, Val value, Val* result);
bool format_value(Frame& frame, Val value, Val spec, Val* result);
// instance.cpp: isinstance() and issubclass(): 1, 0, -1.
int is_instance(Frame& frame, Val object, Val type);
int is_subclass(Frame& frame, Val type, Val base);
// subscript.cpp
bool get_item(Frame& frame, Val container, Val key, Val* result);
bool set_item(Frame& frame, Val container, Val key, Val value);  // `value.o` null: deletes
// The length as an int object.
bool length(Frame& frame, Val container, Val* result);

// iterate.cpp
bool get_iter(Frame& frame, Val iterable, Val* result);
// 1: `*result` is the next item. 0: exhausted, nothing set. -1.
int next(Frame& frame, Val iterator, Val* result);
// True if running through `iterable` runs Python code that can be interpreted.
bool runs_python(PyObject* iterator);
// A new list of the items.
bool to_list(Frame& frame, Val iterable, Val* result);
bool extend_list(Frame& frame, PyObject* list, Val iterable);
// Unpacks into slots[0 .. before + (after < 0 ? 0 : 1 + after)), the first item at the highest.
bool unpack(Frame& frame, Val iterable, int before, int after, PyObject** slots, Prov** provs);

bool update_set(Frame& frame, PyObject* set, Val iterable);
// star_call.cpp
bool update_dict(Frame& frame, PyObject* dict, Val mapping);
// Adds the ** argument of a call to `dict`.
bool merge_keywords(Frame& frame, PyObject* dict, Val mapping, PyObject* callee);
// The tuple for the * argument of a call.
bool star_args(Frame& frame, PyObject* callee, Val iterable, Val* result);

// context_manager.cpp
bool enter_context(Frame& frame, Val manager, bool async, Val* exit, Val* entered);

// generator.cpp
// Interprets `generator` (generator, coroutine or asynchronous generator) until it yields (kNext),
// returns (kReturn) or raises. `argument` is sent (null: plain next); if `raised`, the current
// exception is thrown in instead.
enum class Sent : uint8_t { kNext, kReturn, kError };
Sent resume(Frame& frame, PyObject* generator, Val argument, bool raised, Val* result);
// After a yield: leaves the generator as CPython keeps suspended ones.
void suspend_generator(PyObject* generator, Frame& frame);
// After a return or an exception: drops the frame's contents.
void finish_generator(PyObject* generator);
bool is_generator(PyObject* object);  // of a kind that resume() takes
Sent send(Frame& frame, Val receiver, Val value, Val* result);
bool get_awaitable(Frame& frame, Val object, int where, Val* result);
bool get_aiter(Frame& frame, Val object, Val* result);
bool get_anext(Frame& frame, Val iterator, Val* result);
bool wrap_async_value(Frame& frame, Val value, Val* result);
PyObject* stop_iteration_error(Frame& frame, PyObject* exception);

// match.cpp
bool match_class(Frame& frame, Val subject, Val type, Py_ssize_t positional, PyObject* names,
                 PyObject** attributes);  // null in *attributes: no match
bool match_keys(Frame& frame, Val subject, Val keys, PyObject** values);

// names.cpp
// `cache` may be null.
bool load_global(Frame& frame, PyObject* name, GlobalCache* cache, Val* result);
bool load_name(Frame& frame, PyObject* name, Val* result);
bool store_name(Frame& frame, PyObject* name, Val value);
bool load_from_dict_or_globals(Frame& frame, PyObject* mapping, PyObject* name, Val* result);
bool load_from_dict_or_cell(Frame& frame, PyObject* mapping, int cell, Val* result);
void raise_undefined_name(PyObject* name);
void raise_unbound_local(Frame& frame, int local);
void raise_unbound_cell(Frame& frame, int cell);
bool setup_annotations(Frame& frame);

// imports.cpp
bool import_name(Frame& frame, PyObject* name, PyObject* from, PyObject* level, Val* result);
bool import_from(Frame& frame, Val module, PyObject* name, Val* result);
bool import_star(Frame& frame, PyObject* module);

// class_body.cpp
bool build_class(Frame& frame, const Args& args, Val* result);

// exception_group.cpp
bool check_exception_match(PyObject* handled, PyObject* type, bool* matches);
bool match_group(Frame& frame, PyObject* exception, PyObject* type, PyObject** match,
                 PyObject** rest);
PyObject* prepare_reraise_star(Frame& frame, PyObject* original, PyObject* raised);

// intrinsics.cpp
bool import_from_natively(Frame& frame, Val module, PyObject* name, Val* result);
bool intrinsic_1(Frame& frame, int which, Val value, Val* result);
bool intrinsic_2(Frame& frame, int which, Val a, Val b, Val* result);

// loop.cpp
enum class Exit : uint8_t { kReturn, kYield, kError };
// Runs from frame.pc. kError: unwound completely, an exception is set. With `raised`, begins by
// raising the current exception at frame.pc.
Exit run(Frame& frame, bool raised, Val* result);

// lookaside.cpp
// 1: handled. 0: there is none for this callee. -1.
int call_lookaside(Frame& frame, Val callee, const Args& args, Val* result);
bool has_lookaside(PyObject* callee);

}  // namespace fulmen::interp
