#pragma once

#include <Python.h>

#include <cstdint>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "support/hash.h"
#include "support/small_vec.h"

namespace fulmen::jit {

// How a guard instruction finds the object that it looks at; `parent` is the slot it starts from.
enum class Fetch : uint8_t {
  kSlot,          // the parent itself
  kConst,         // an object that the program holds
  kArg,           // an argument, by its position in the call's array (keyword arguments last)
  kInstanceDict,  // the __dict__ of an object
  kDictItem,      // dict[key]
  kSequenceItem,  // item of a list, a tuple or another sequence
  kCell,          // the contents of a cell
  kAttr,          // getattr: what lives in slots and getters of C
  kType,          // the type of an object
  kMappingItem,   // mapping[key], of a mapping that is no dict
  kReferent,      // what a weak reference refers to, None if that is gone
  kCompute,       // what the function `key` gives for numbers: the parent, and slot `aux` if not -1
};

// What must hold for the object.
enum class Check : uint8_t {
  kNone,      // it exists
  kType,      // its type is `expect`
  kIdentity,  // it is `expect`
  kSame,      // it is the object of slot `aux`
  kNotSame,   // it is not the object of slot `aux`
  kInt,       // an int of value `aux`
  kValue,     // of the type of `expect`, and equal to it
  kLength,    // a container of `aux` items
  kNotEmpty,  // a list, tuple, dict or set of at least one item
  kKeys,      // a dict whose keys, in order, are the tuple `expect`
  kBuffer,    // an object with the buffer that the tuple `expect` describes
  kAbsent,    // a dict without `key` (or no __dict__ at all)
  kVersion,   // the lookups that were made on the type find what they found (table `aux`)
  kCode,      // a function whose code and defaults are the ones of table `aux`
};

struct GuardInstruction {
  Fetch fetch;
  Check check;
  bool dynamic;  // depends on the arguments
  int32_t parent;
  PyObject* key;
  Py_hash_t hash;
  PyObject* expect;
  int64_t aux;
};

// The number of items of a list, tuple, dict or set; -1 for another object.
Py_ssize_t container_length(PyObject* object);
// Of one type and equal, to the last bit of a float and for all that a tuple or a set contains.
bool same_value(PyObject* a, PyObject* b);
// The format, the shape and the bytes of an object's buffer, as a tuple. New reference; null
// without an error set if it has none.
PyObject* buffer_contents(PyObject* object);

// `(n * 2)`, `math.sqrt(n)`: what Fetch::kCompute computes, as Python.
std::string computation_text(PyObject* function, const std::string& first,
                             const std::string& second);

// What a program read of Python's objects, as a flat list of instructions. check() runs those that
// start from arguments; the others stand for objects that the program holds, and as long as no
// dictionary, list, cell, type or function on the way to them has changed, they need not run.
class GuardProgram {
 public:
  GuardProgram() = default;
  ~GuardProgram();
  GuardProgram(GuardProgram&&) = delete;

  // The slots of fetched objects; the same fetch twice gives the same slot.
  // `label` stands for the constant in the printed program.
  int constant(PyObject* object, const std::string& label);
  int argument(int64_t position);
  int fetch(Fetch how, int parent, PyObject* key, int64_t index = 0);
  // A number computed from others; `second` -1: a function of one.
  int compute(PyObject* function, int first, int second);
  // Adds a condition; the same twice counts once.
  void require(int slot, Check check, PyObject* expect = nullptr, int64_t aux = 0);
  void require_absent(int dict_slot, PyObject* key);
  // `found` (null: nothing) is what looking `name` up on the type finds.
  void require_lookup(PyTypeObject* type, PyObject* name, PyObject* found);
  void require_function(PyObject* function);

  // Whether what the slot holds depends on the arguments.
  bool is_dynamic(int slot) const {
    return code_[static_cast<size_t>(code_of_slot_[static_cast<size_t>(slot)])].dynamic;
  }
  // The slots that are read after a check; only these, and what guards need, are set then.
  void set_wanted(std::vector<int32_t> slots) { wanted_ = std::move(slots); }
  // From here on check() takes the conditions for granted, and only fetches what is wanted; asked
  // why it fails, it checks as before.
  void trust();
  size_t num_slots() const { return num_slots_; }
  size_t num_instructions() const { return code_.size(); }
  size_t num_epochs() const { return epochs_.size(); }
  // The conditions, without what only fetches.
  size_t num_guards() const {
    size_t n = 0;
    for (const GuardInstruction& g : code_) n += g.check != Check::kNone;
    return n;
  }

  // What the slots hold now: borrowed from the program, the arguments and what these refer to, and
  // from `owned` for attributes that C code makes on each read.
  struct Values {
    Values() = default;
    Values(const Values&) = delete;
    Values& operator=(const Values&) = delete;
    ~Values() {
      for (PyObject* o : owned) Py_DECREF(o);
    }
    SmallVec<PyObject*, 16> slots;
    std::vector<PyObject*> owned;
  };
  // False if a guard fails: `failed` is its text, when given. Never leaves a Python error set.
  bool check(PyObject* const* args, size_t n, Values& values, std::string* failed);
  // The same for who wants nothing but the slots of set_inputs(), borrowed as in `values`.
  bool check_inputs(PyObject* const* args, size_t n, Values& values, PyObject** inputs);
  void set_inputs(std::vector<int32_t> slots) { inputs_ = std::move(slots); }

  // What failed guards call the arguments.
  void set_argument_names(std::vector<std::string> names) { argument_names_ = std::move(names); }

  // How a program finds what the slot holds: `fn.layers[0].weight`.
  std::string path(int slot, const std::vector<std::string>& argument_names) const;

 private:
  friend class PrologueWriter;
  struct Lookups {
    PyTypeObject* type;
    PyObject* mro;
    unsigned version;
    std::vector<std::pair<PyObject*, PyObject*>> names;  // name, what it finds (null: nothing)
  };
  struct Function {
    PyObject *function, *code, *defaults, *kwdefaults;
  };
  // A word of memory whose change may change what a guard sees: the version of a dictionary or a
  // type, what a cell, a list or a function refers to, the type of an object.
  struct Epoch {
    const uint64_t* place;
    uint64_t contents;
  };

  int add(GuardInstruction instruction);
  bool run(size_t at, PyObject* const* args, size_t n, Values& values);
  bool holds(const GuardInstruction& g, PyObject* o, const Values& values);
  bool lookups_hold(Lookups& table);
  bool unchanged() const;
  bool run_all(PyObject* const* args, size_t n, Values& values, std::string* failed);
  // Runs what no epoch covers. Python code that a guard runs may let another thread in, which may
  // take another snapshot: -1 then.
  int run_always(PyObject* const* args, size_t n, Values& values, std::string* failed);
  void take_snapshot(PyObject* const* values);
  std::string text(const GuardInstruction& g, const std::vector<std::string>& names) const;

  std::vector<std::string> argument_names_;
  std::vector<GuardInstruction> code_;
  std::vector<int32_t> slot_of_code_;  // where instruction i leaves its object; -1: only a check
  std::vector<int32_t> code_of_slot_;
  size_t num_slots_ = 0;
  std::vector<Lookups> lookups_;
  std::vector<Function> functions_;
  std::unordered_map<PyTypeObject*, size_t> lookups_of_;
  // What makes two instructions the same.
  struct Identity {
    int kind;
    int32_t parent;
    const void *key, *expect;
    int64_t aux;
    bool operator==(const Identity&) const = default;
  };
  struct IdentityHash {
    size_t operator()(const Identity& i) const {
      return Hasher()
          .add(static_cast<uint64_t>(i.kind) << 32 | static_cast<uint32_t>(i.parent))
          .add(reinterpret_cast<uintptr_t>(i.key))
          .add(reinterpret_cast<uintptr_t>(i.expect))
          .add(static_cast<uint64_t>(i.aux))
          .value();
    }
  };
  std::unordered_map<Identity, int, IdentityHash> memo_;
  std::unordered_map<int, std::string> labels_;

  bool has_snapshot_ = false;
  std::vector<PyObject*> snapshot_;  // the static slots' objects
  std::vector<Epoch> epochs_;
  std::vector<int32_t> wanted_;
  std::vector<int32_t> copied_;  // static slots that a check by epochs fills in
  std::vector<int32_t> needed_;  // those of them that guards look at
  std::vector<int32_t> inputs_;
  std::vector<PyObject*> static_inputs_;                      // null where the input is dynamic
  std::vector<std::pair<uint32_t, int32_t>> dynamic_inputs_;  // place among the inputs, slot
  bool trusted_ = false;
  std::vector<uint32_t> fetches_;  // instructions that lead to what is wanted
  uint64_t snapshots_ = 0;
  bool runs_python_ = false;      // a guard may
  std::vector<uint32_t> always_;  // instructions that no epoch covers
};

// Writes a guard program as Python statements that run.
class PrologueWriter {
 public:
  // `constants`: a dict that takes the objects which the text names.
  PrologueWriter(const GuardProgram& program, const std::vector<std::string>& arguments,
                 PyObject* constants);
  // One assertion a condition.
  std::string body();
  // The modules that the text so far refers to.
  std::string imports() const;
  // What finds the object of a slot again.
  std::string path(int slot);
  // A name that nothing else has.
  std::string local(std::string_view hint);

 private:
  std::string constant(PyObject* object, std::string_view hint);
  std::string named(PyObject* object, std::string_view hint);
  // To be compared by identity.
  std::string same(PyObject* object, std::string_view hint);
  std::string constant_slot(int slot, PyObject* object);
  std::string equal(const std::string& x, PyObject* object);
  bool has_dict(int slot) const;
  void condition(const GuardInstruction& g);

  const GuardProgram& program_;
  const std::vector<std::string>& arguments_;
  PyObject* constants_;
  std::string lines_;
  std::set<std::string> imports_, roots_{"torch"};
  std::set<std::string> taken_{"prologue", "torch",  "lookup",     "absent", "ambient",
                               "fits",     "buffer", "same_value", "repr",   "type",
                               "len",      "tuple",  "str"};
  std::unordered_map<PyObject*, std::string> names_;
};

}  // namespace fulmen::jit
