// Where a value came from. Emulate mode keeps no provenance: every Prov* is null there.
#pragma once
#include <cstdint>

#include "py/version.h"

namespace fulmen::interp {

enum class Src : uint8_t {
  kFn,
  kArg,
  kKwarg,
  kGlobal,
  kBuiltin,
  kAttr,
  kType,
  kItem,
  kKey,
  kLen,
  kCell,
  kDefault,
  kParam,
  kBuffer,
  kSubmodule,
  kSlot,
};

// A node of the tree of everything that was reached from the inputs; hash-consed on (parent, kind,
// key), allocated by whoever traces and alive as long as the trace.
struct Prov {
  Prov* parent;
  PyObject* key;
  PyObject* value;
  uint32_t id;
  uint16_t guards;
  Src kind;
  uint8_t flags;
};

// A value on the stack or in a local: the object and its provenance. Does not own.
struct Val {
  PyObject* o = nullptr;
  Prov* p = nullptr;
};

// The arguments of a call, in the layout of the vectorcall protocol: `count` positional ones, then
// those named by the tuple `names` (null: none). `provs` is null in emulate mode. All borrowed.
// Unless `has_slot`, objects[-1] (and provs[-1]) must not be touched.
struct Args {
  PyObject** objects = nullptr;
  Prov** provs = nullptr;
  Py_ssize_t count = 0;
  PyObject* names = nullptr;
  bool has_slot = false;

  Py_ssize_t named() const { return names ? PyTuple_GET_SIZE(names) : 0; }
  Py_ssize_t total() const { return count + named(); }
  Val at(Py_ssize_t i) const { return {objects[i], provs ? provs[i] : nullptr}; }
};

}  // namespace fulmen::interp
