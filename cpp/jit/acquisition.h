#pragma once

#include <Python.h>

#include <deque>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "bindings/recorder.h"
#include "bindings/symbolic_number.h"
#include "interp/frame.h"
#include "interp/hooks.h"
#include "jit/entry.h"

namespace fulmen::jit {

// How deep opaque code is taken to look into containers that it is given.
constexpr int kOpaqueDepth = 16;

// Trace mode: what the interpreter reads becomes guards, what it does with tensors a trace, and
// what it writes an epilogue. One acquisition follows one call of a jitted function.
//
// Note [Do and undo]
// Stores to objects that the program was given are made for real, so that native code sees them,
// and logged. When the call has been followed they are undone, last first, and their final values
// become the entry's writes. Objects made during the call need neither.
class Acquisition final : public interp::Hooks, private bindings::NumberOwner {
 public:
  // `tracer`: the fulmen.tracer.Tracer that records; it is entered. `compile`: Trace → Program, for
  // the parts of a call that asks for the value of a tensor (None: such calls are refused). `ran`:
  // outputs of parts that this call has already run, a tuple. `symbolic`: see Note [Numbers].
  Acquisition(PyObject* tracer, PyObject* compile, PyObject* ran, bool symbolic);
  ~Acquisition() override;

  // The provenance of argument `position` of the call; `*object` may become a proxy.
  interp::Prov* argument(PyObject** object, int64_t position, const char* name);
  // The provenance of an object that stays the same for all calls, as the jitted function itself.
  interp::Prov* constant(PyObject* object, const std::string& label);

  // The acquisition that this thread is in; null if none.
  static Acquisition* current();
  // Asks for the value of a proxy, from native code: see Note [Asking for a value]. New reference,
  // or null with an error set.
  PyObject* ask_for(PyObject* proxy, const char* how);

  // `.grad` of a proxy, as the call has it now: that of a tensor which was there before the call is
  // read once, and what the call makes of it is written at the end. New reference, or null with an
  // error set.
  PyObject* grad_of(PyObject* proxy);
  bool set_grad(PyObject* proxy, PyObject* value);

  // Ends the acquisition, well or not: undoes the stores. With a `result` it first fills the entry
  // and the trace. False with a Python error set.
  bool finish(PyObject* result, Trace* trace);
  // Ends an acquisition that was refused: fills the entry with the guards of what was read until
  // then, and the trace with the inputs. False if a segment has run.
  bool finish_refused(Trace* trace);
  // What the segments but the last have put out, and what was asked of them. Owned here.
  const std::vector<PyObject*>& segment_outputs() const { return segment_outputs_; }

  // Takes back what the segments that this acquisition ran wrote. An acquisition that ends without
  // handing it over does so itself.
  bridge::Undo take_undo() { return std::move(undo_); }

  Entry& entry() { return *entry_; }
  std::unique_ptr<Entry> take_entry() { return std::move(entry_); }
  // Set when something asked for what tracing can't give; user code may have swallowed the error.
  PyObject* refusal() const { return refusal_; }

  bool read(interp::Frame&, interp::Read, interp::Val from, PyObject* key,
            interp::Val* value) override;
  bool absent(interp::Frame&, interp::Read, interp::Val from, PyObject* key) override;
  bool write(interp::Frame&, interp::Write, interp::Val target, PyObject* key,
             interp::Val value) override;
  bool mutate(interp::Frame&, interp::Val container, PyObject* callee) override;
  interp::Answer call(interp::Frame&, interp::Val callee, const interp::Args&,
                      interp::Val* result) override;
  bool before_opaque(interp::Frame&, interp::Val callee, const interp::Args&) override;
  bool after_opaque(interp::Frame&, interp::Val callee, const interp::Args&,
                    interp::Val* result) override;
  int truth(interp::Frame&, interp::Val value) override;
  bool sized(interp::Frame&, interp::Val container) override;
  bool contents(interp::Frame&, interp::Val container) override;
  void all_contents(interp::Frame&, interp::Val object) override { look_at(object, kOpaqueDepth); }
  interp::Answer missing(interp::Frame&, interp::Val object, PyObject* name,
                         interp::Val* result) override;
  interp::Answer operate(interp::Frame&, int op, interp::Val a, interp::Val b,
                         interp::Val* result) override;
  bool member(interp::Frame&, interp::Val dict, PyObject* key) override;
  PyObject* key_of(PyObject* key) override;
  void search(interp::Frame&, interp::Val container, interp::Val item) override;
  void identity(interp::Frame&, interp::Val a, interp::Val b) override;
  void looked_up(interp::Frame&, PyTypeObject* type, PyObject* name, PyObject* found) override;
  bool follows(PyCodeObject* code) override;
  void suspend(PyObject*, interp::Prov* const*, int) override {}
  void resume(PyObject*, interp::Prov**, int) override {}

 private:
  struct Store {
    interp::Write kind;
    bool contents;  // the whole contents of a container: `old` is a copy
    bool appended;  // items after the first `length` of a list
    Py_ssize_t length;
    PyObject* target;  // owned, as key and old
    PyObject* key;
    PyObject* old;  // null: there was nothing
  };

  // Provenance: Prov::id is a slot of the guard program.
  interp::Prov* node(int slot, PyObject* value);
  interp::Prov* known(PyObject* object) const;
  interp::Prov* source(interp::Val v) const { return v.p ? v.p : known(v.o); }
  interp::Prov* track(int slot, PyObject* value);
  void guard(int slot, PyObject* value);
  bool place(interp::Read kind, interp::Val from, PyObject* key, PyObject* value, int* slot);
  bool attribute_place(interp::Prov* p, PyObject* object, PyObject* name, PyObject* value,
                       int* slot);
  int dict_slot(PyObject* globals);
  void look_inside(PyObject* container, interp::Prov* p, int depth);
  void look_inside_parts(PyObject* callable, int slot);
  void guard_found(PyTypeObject* type, PyObject* name, PyObject* found);
  void look_inside_partial(PyObject* partial, interp::Prov* p);
  // Code that no hook sees looks at the object: what it can see of it is guarded.
  void look_at(interp::Val value, int depth);
  // What an operation of the trace is given: it reads pinned objects itself.
  void look_at_operands(const interp::Args&);
  void look_at_arguments(interp::Frame&, PyObject* callee, const interp::Args&);
  // The object is the key of a dictionary or set, or its hash is taken.
  void look_at_key(PyObject* key);
  bool is_written(PyObject* target, PyObject* key) const;

  // Tensors.
  bool to_proxy(interp::Val* value);
  PyObject* proxy_of(PyObject* tensor);
  interp::Answer record(PyObject* callable, PyObject* callee, interp::Frame&, const interp::Args&,
                        interp::Val* result);
  interp::Answer call_tracer(PyObject* callable, interp::Frame&, const interp::Args&,
                             interp::Val* result);
  interp::Answer module_attribute(const interp::Args&, interp::Val* result);
  bool read_natively(interp::Frame&, PyObject* callee, const interp::Args&);
  bool store_natively(interp::Frame&, PyObject* callee, const interp::Args&);
  void set_source(interp::Frame&);

  // Note [Numbers]
  // With cache="symbolic values" an int or float that the program reads becomes a
  // bindings::SymbolicNumber: only its type is guarded. What is computed from it is computed by the
  // guard program at each call, and what reaches an operation becomes an input of the trace. A
  // comparison guards its answer; any other use guards the value, and is reported.
  bool is_symbolic(PyObject* value) const;
  static bool can_be_symbolic(PyObject* value);
  static bool is_parameter_group(PyObject* object);
  // The number in `slot`, of the given value now. Borrowed; null with an error set.
  PyObject* number_in(int slot, PyObject* value);
  PyObject* compute(PyObject* function, PyObject* const* operands, size_t n) override;
  bool needs_value(PyObject* number) override;
  // Note [Items]
  // What `tensor.item()` gives is a SymbolicNumber as well, which the trace computes, and so is
  // what arithmetic makes of it. Whoever wants to know its value asks for it: see Note [Asking for
  // a value].
  bool has_numbers() const { return !numbers_.empty() || !items_.empty(); }
  // New reference; null without an error set where the value must be asked for.
  PyObject* item_of(PyObject* tensor, std::string_view how);
  PyObject* new_item(nanobind::handle proxy);
  PyObject* compute_item(PyObject* function, PyObject* const* operands, size_t n);
  bool is_item(PyObject* object) const;  // and its value has not been asked for
  // Whether `callable` takes symbolic numbers at this argument as they are: an operation that has a
  // number there. `name`: of a keyword argument, or null.
  bool takes_number(PyObject* callable, size_t position, PyObject* name) const;
  // The arguments with the values of the symbolic numbers that `callable` (null: nothing) can't
  // take; left empty if there are none at all. The objects are in kept_. False with an error set.
  bool settle_numbers(PyObject* callable, const interp::Args&, std::vector<PyObject*>* settled);
  // What is no operation of the trace, and must not see a symbolic number, is called with values.
  interp::Answer call_with_numbers(interp::Frame&, PyObject* callable, const interp::Args&,
                                   interp::Val* result);
  // Note [Asking for a value]
  // A program that asks for the value of a tensor (a condition, .item()) is cut there: what was
  // recorded runs on the real inputs, every proxy that is still in use becomes an input of a new
  // trace, and the program goes on with the answer. The next call runs the same segments and goes
  // on with the entry that saw the same answers; one that has not been seen is followed anew, with
  // the segments that ran taken as they are.
  bool ask(interp::Frame&, PyObject* proxy, const char* how, PyObject** answer);
  bool ask(PyObject* proxy, const char* how, PyObject** answer);
  interp::Answer settle(interp::Frame&, interp::Val* result);
  void add_segment_inputs(Segment& segment);
  void note_refusal();
  // A sharp edge, in words or as the callable that is one: false, with the error set.
  bool refuse(const std::string& what);
  bool refuse(PyObject* callable);
  // Whether an object that was there before the call holds what no guard sees (an array, a file):
  // its contents may not be read, nor changed, by a trace.
  bool is_foreign(PyObject* object) const;
  void refuse_identity();
  bool refuse_foreign(PyObject* object);  // false, with the error set
  // Makes sure that what reaches an operation is the same object at each call; it reads it then.
  bool pin_foreign(const interp::Args&);
  // Calls that are made at each call, for what they tell the user.
  interp::Answer plan_effect(PyObject* planner, PyObject* callable, const interp::Args&,
                             interp::Val* result);

  // The end.
  int known_node(PyObject* object);
  bool make_writes();
  Py_ssize_t original_length(PyObject* container) const;
  // The dictionary before the stores to single keys of it. New reference.
  PyObject* original_dict(PyObject* dict) const;
  void undo();

  bindings::Recorder* recorder_ = nullptr;
  PyObject *tracer_, *compile_, *ran_;
  std::vector<PyObject*> segment_outputs_;             // owned
  std::unordered_map<PyObject*, int> segment_source_;  // output tensor → its index
  std::unique_ptr<Entry> entry_;
  bridge::Undo undo_;
  std::deque<interp::Prov> provs_;
  std::unordered_map<PyObject*, interp::Prov*> known_;
  std::vector<PyObject*> kept_;  // owned: addresses in known_ stay theirs
  std::vector<Store> stores_;
  std::unordered_map<PyObject*, std::unordered_set<PyObject*>> written_;  // target → keys
  std::unordered_set<PyObject*> rewritten_;                               // containers
  // Lists that were only appended to, and how long they were: what is in them was not read.
  std::unordered_map<PyObject*, Py_ssize_t> appended_;
  std::unordered_map<PyObject*, int> looked_inside_;      // container → to which depth
  std::vector<std::pair<PyObject*, PyObject*>> effects_;  // callable, tuple of arguments; owned
  std::vector<PyObject*> outputs_;                        // proxies that the program returns; owned
  std::unordered_set<PyObject*> found_;                   // on classes, and guarded
  const bool symbolic_;
  std::unordered_map<int, PyObject*> numbers_;  // slot → its symbolic number, in kept_
  std::unordered_set<int> settled_;             // slots of numbers whose value is guarded
  // Tensor that was there before the call → its .grad, where the call has set it. Owned, in order.
  std::vector<std::pair<PyObject*, PyObject*>> grads_;
  std::unordered_map<PyObject*, size_t> grad_at_;
  std::vector<PyObject*> items_;         // see Note [Items]; owned
  std::unordered_set<PyObject*> asked_;  // those whose value has been asked for
  PyObject* refusal_ = nullptr;
  const bridge::Modes modes_ = bridge::Modes::current();  // the caller's
  bridge::Modes segment_modes_ = modes_;                  // at the start of the segment
  Acquisition* outer_ = nullptr;
};

}  // namespace fulmen::jit
