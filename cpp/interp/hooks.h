// What trace mode adds to the handlers of emulate mode.
//
// Every handler calls these at the places named below, behind one test of Frame::hooks for null.
// A hook may replace the value it is given: it then drops the reference in `value->o`, stores
// another that it owns, and sets `value->p`. A hook that returns false has set an exception.
#pragma once
#include "interp/provenance.h"

namespace fulmen::interp {

struct Frame;

enum class Read : uint8_t {
  kGlobal,   // `from`: the globals dictionary
  kBuiltin,  // `from`: the builtins dictionary; the name was absent from the globals
  kName,     // `from`: the locals mapping of a class body or exec()
  kCell,     // `from`: the cell; no key
  kAttr,     // `from`: the object; after descriptors, __getattr__ and the like have run
  kItem,     // `from`: the container; `key`: the subscript
  kNext,     // `from`: the iterator, with the provenance of what it iterates over; no key
  kDefault,  // `from`: the function; `key`: the parameter's name
  kClosure,  // `from`: the function; `key`: the free variable's name
  kType,     // `from`: the object whose class was looked at; `key`: the name sought on the class
             // (null: the class itself). `value`: what was found, or null
};

enum class Write : uint8_t {
  kGlobal,  // `target`: the globals dictionary
  kName,    // `target`: the locals mapping
  kCell,    // `target`: the cell; no key
  kAttr,    // `target`: the object, whose class stores it without running Python
  kItem,    // `target`: the container
};

enum class Answer : uint8_t { kNotHandled, kDone, kError };

class Hooks {
 public:
  virtual ~Hooks() = default;

  // A read has found `value` (an owned reference; null with Read::kType when nothing was found).
  virtual bool read(Frame& frame, Read kind, Val from, PyObject* key, Val* value) = 0;
  // A lookup found nothing, and the program goes on knowing that (hasattr, getattr with a default,
  // `in`, a name that is not global).
  virtual bool absent(Frame& frame, Read kind, Val from, PyObject* key) = 0;
  // An attribute was not found on the object that stands for another. kDone: `*result` is owned.
  virtual Answer missing(Frame& frame, Val object, PyObject* name, Val* result) = 0;
  // A store is about to happen; `value.o` is null for a deletion.
  virtual bool write(Frame& frame, Write kind, Val target, PyObject* key, Val value) = 0;
  // A method written in C is about to change the contents of a builtin container.
  virtual bool mutate(Frame& frame, Val container, PyObject* callee) = 0;

  // First refusal of every call. kDone: `*result` is an owned result.
  virtual Answer call(Frame& frame, Val callee, const Args& args, Val* result) = 0;
  // A C callable without a lookaside is about to be called, and has returned.
  virtual bool before_opaque(Frame& frame, Val callee, const Args& args) = 0;
  virtual bool after_opaque(Frame& frame, Val callee, const Args& args, Val* result) = 0;

  // The truth of `value` is wanted: 0 or 1 if the hook knows, -1 on error, -2 to go on as usual.
  virtual int truth(Frame& frame, Val value) = 0;
  // The number of its items was looked at.
  virtual bool sized(Frame& frame, Val container) = 0;
  // An object's members or keys were looked at by an operation of a builtin type: `in`, iteration,
  // unpacking, comparison, conversion.
  virtual bool contents(Frame& frame, Val container) = 0;
  // As contents(), of all that the object contains: it becomes text.
  virtual void all_contents(Frame& frame, Val object) = 0;
  // A builtin operator is about to be applied to values: unary (b.o null), binary or comparison.
  // kDone: `*result` is an owned result.
  virtual Answer operate(Frame& frame, int op, Val a, Val b, Val* result) = 0;

  // The object that `key` stands for where it is the key of a builtin dictionary. Borrowed.
  virtual PyObject* key_of(PyObject* key) = 0;
  // `key in dict` is about to be decided for a builtin dictionary.
  virtual bool member(Frame& frame, Val dict, PyObject* key) = 0;
  // `item in container` is about to be decided for another container.
  virtual void search(Frame& frame, Val container, Val item) = 0;

  // `a is b` was decided.
  virtual void identity(Frame& frame, Val a, Val b) = 0;
  // A special method, a descriptor or what super() leads to was looked up on a class; `found` may
  // be null. All borrowed.
  virtual void looked_up(Frame& frame, PyTypeObject* type, PyObject* name, PyObject* found) = 0;

  // Whether Python code that C code calls is followed; if not, nothing that it calls is.
  virtual bool follows(PyCodeObject* code) = 0;

  // A frame suspends (yield), with provenance for its `count` slots, and goes on. `generator`
  // identifies it. resume() fills what it knows into `provs`, which is all null.
  virtual void suspend(PyObject* generator, Prov* const* provs, int count) = 0;
  virtual void resume(PyObject* generator, Prov** provs, int count) = 0;
};

}  // namespace fulmen::interp
