#pragma once

#include <Python.h>

#include <memory>
#include <string>
#include <vector>

#include "bridge/bridge.h"
#include "bridge/undo.h"
#include "exec/program.h"
#include "jit/guards.h"
#include "jit/recipe.h"

namespace fulmen::jit {

// A change of an object that outlives the call: the epilogue makes it after the programs ran.
struct Write {
  enum class Kind : uint8_t {
    kSetAttr,  // past any __setattr__, as the interpreter saw it done
    kDeleteAttr,
    kSetItem,  // of a dict
    kDeleteItem,
    kContents,  // all items of a list, dict or set
    kExtend,    // items at the end of a list
    kSetCell,
    kDeleteCell,
    kCall,  // of `key`, with the tuple `target`: a message that is given at each call
  };
  Kind kind;
  int target;     // recipe node of the object
  PyObject* key;  // attribute, dictionary key or callable; owned
  int value;      // recipe node, or -1
};

// A program of the call. A call that asks for the value of a tensor has one more for each answer.
struct Segment {
  std::shared_ptr<const exec::Program> program;
  std::unique_ptr<bridge::InputCheck> check;
  bridge::Effects effects;
  // Slots of the guard program (≥ 0), or outputs of earlier segments (~index).
  std::vector<int> inputs;
  size_t num_outputs = 0;
  bridge::Modes modes;  // in which it starts, when it was traced
  // What the last output was converted to when this was traced; null in the last segment.
  PyObject* observed = nullptr;
  const char* observe = nullptr;  // the method that converts it
};

// What a method of a tensor says of its value. New reference.
PyObject* observe(const char* method, PyObject* tensor);

// One specialization of a jitted function.
class Entry {
 public:
  Entry() = default;
  ~Entry();
  Entry(Entry&&) = delete;

  size_t num_args = 0;
  PyObject* kwnames = nullptr;  // tuple; null: none
  bridge::AmbientState ambient;
  bool trusted = false;  // cache="same input": the guards are taken for granted
  GuardProgram guards;
  std::vector<Segment> segments;
  Recipe recipe;
  int result = -1;
  int plain = -1;  // see plain_output()
  // Calls that the guards take are left to eager PyTorch, for this reason (a string); null: run.
  PyObject* refused = nullptr;
  std::vector<Write> writes;
  std::vector<std::string> argument_names;
  std::vector<std::string> specialized;  // numbers whose value the program depends on, and where
  // Room for the slots and inputs of a call, kept from one call to the next. Under the GIL.
  SmallVec<PyObject*, 16> spare_slots, spare_inputs;

  bool takes(size_t n, PyObject* names) const;
  bool fits(const bridge::AmbientState& now) const { return trusted || ambient == now; }
  // Whether the result is that of the only program, with nothing to write: then the index of the
  // output that is the result, else -1.
  int plain_output() const;
};

// Gives `vec` the memory that an earlier call left in `spare`, and leaves it there again. A call
// that comes in meanwhile finds none, and allocates.
class Lease {
 public:
  using Vec = SmallVec<PyObject*, 16>;
  Lease(Vec& vec, Vec& spare) : vec_(vec), spare_(spare) {
    if (spare_.size() > kInPlace) vec_ = std::move(spare_);
  }
  ~Lease() {
    if (vec_.size() > kInPlace) spare_ = std::move(vec_);
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

 private:
  static constexpr size_t kInPlace = 16;
  Vec &vec_, &spare_;
};

// What a call of a plain entry looks at, and gives to its program.
class PlainCall {
 public:
  explicit PlainCall(Entry& entry) : entry_(entry) {}
  bool accepts(PyObject* const* args, size_t n);
  PyObject* const* inputs() const { return inputs_.data(); }
  size_t num_inputs() const { return inputs_.size(); }

 private:
  Entry& entry_;
  GuardProgram::Values values_;
  SmallVec<PyObject*, 16> inputs_;
  Lease slots_{values_.slots, entry_.spare_slots}, room_{inputs_, entry_.spare_inputs};
};

// A call that finds a plain entry: no state outlives its one program. Null without an error set if
// the guards do not hold. `failed_clean`: see Call::undo.
PyObject* call_plain(Entry& entry, PyObject* const* args, size_t n, int output, bool* failed_clean);

// What a call has done so far: the values its guards found, and the outputs of its segments.
class Call {
 public:
  Call(PyObject* const* args, size_t n) : args_(args), num_args_(n) {}
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Takes the outputs of segments that have run as this call's own.
  void adopt(const Entry& entry, const std::vector<PyObject*>& outputs);
  // Whether the entry's guards hold.
  bool accepts(Entry& entry, std::string* failed);
  // Runs segments from the first that has not run. True when all have; false with no error set when
  // a tensor was not what `entry` was traced for; false with an error set otherwise.
  bool run(const Entry& entry);
  // The result, after the epilogue. New reference.
  PyObject* finish(const Entry& entry);

  // After a failure, or before PyTorch runs the call instead: takes back what programs wrote.
  // False, with nothing done, if something happened that can't be taken back. A call that fails is
  // run by PyTorch, so that it fails as in eager, with what eager would have done up to there.
  bool undo();

  size_t segments_run() const { return ran_; }
  const std::vector<PyObject*>& outputs() const { return outputs_; }
  PyObject* observed(size_t segment) const { return observed_[segment]; }
  // Whether the entry starts with the segments that ran, and saw the same values.
  bool continues(const Entry& entry) const;

 private:
  PyObject* const* args_;
  size_t num_args_;
  GuardProgram::Values values_;
  std::vector<PyObject*> outputs_;   // owned
  std::vector<PyObject*> observed_;  // owned
  std::vector<const exec::Program*> programs_;
  std::vector<const Entry*> rejected_;  // entries that this call has left midway
  bridge::Undo undo_;
  bool failed_clean_ = true;
  size_t ran_ = 0;
};

}  // namespace fulmen::jit
