#pragma once

#include <optional>
#include <unordered_map>
#include <vector>

#include "bindings/bind_ir.h"
#include "bindings/convert.h"
#include "ir/builder.h"
#include "ir/rewrite.h"

namespace fulmen::bindings {

// Records the torch calls that a front end sees into a trace. While entered, it is its thread's
// current recorder. Real tensors that meet a call become inputs after the declared ones.
class Recorder final : public TensorLifter {
 public:
  Recorder();
  ~Recorder() override;
  // A recorder that writes a trace anew, over the same proxies; see fulmen.transform.rewrite.
  static std::unique_ptr<Recorder> for_trace(const Trace& trace);

  // The state of the program at one place of it.
  struct Ambient {
    bool grad_enabled = true;
    bool inference_mode = false;
    DType default_dtype = DType::kFloat32;
    Device default_device = {};
    const SourceLine* source = nullptr;
  };
  // A recorder for a part of the program that `ctx` owns.
  static std::unique_ptr<Recorder> nested(std::shared_ptr<TraceContext> ctx,
                                          const Ambient& ambient);

  void enter();
  void exit();
  std::string ambient_suffix() const {
    return source_suffix(ambient_ ? ambient_->source : nullptr);
  }
  // What it recorded, once it was left.
  const std::vector<const BoundSymbol*>& recorded() const { return recorded_; }
  // A tensor of the type of `proxy`, which stands for its gradient.
  nb::object gradient_of(nb::handle proxy);
  static Recorder* current();

  nb::object add_tensor_input(nb::handle tensor, const std::string& name);
  nb::object add_number_input(nb::handle value, const std::string& name);
  // Records `callable(*args, **kwargs)` by the first row that takes the call. Throws Unsupported
  // when there is none: the caller records it as opaque.
  nb::object record(nb::handle callable, nb::tuple args, nb::dict kwargs);
  // The same in the layout of the vectorcall protocol: `count` positional arguments, then those
  // that the tuple `names` (null: none) names.
  nb::object record(nb::handle callable, PyObject* const* args, size_t count, PyObject* names);
  nb::object record_symbol(const Symbol& symbol, nb::tuple args, nb::dict kwargs);
  // Records a call of the torch callable `name`, whose results are described by `spec`: nested
  // tuples and lists of ("tensor", dtype, device, shape, strides, requires_grad, view_of) tuples,
  // number types (bool, int, float, complex) for numbers that the program computes, or constants.
  nb::object record_opaque(const std::string& name, nb::tuple args, nb::dict kwargs,
                           nb::handle spec, bool mutates);
  // Python's self[index] and self[index] = value.
  nb::object getitem(nb::handle self, nb::handle index);
  void setitem(nb::handle self, nb::handle index, nb::handle value);
  Trace finish(nb::handle output, const std::string& name);

  // For rewrites: a bound symbol as it reads after the replacements so far; recording it; letting
  // `value` take the place of an output; the new trace.
  PyBoundSymbol substituted(const PyBoundSymbol& bsym) const;
  void append(const PyBoundSymbol& bsym);
  void replace(nb::handle output, nb::handle value);
  Trace finish_rewrite(const Trace& original, const std::string& provenance);

  void set_source(std::string_view file, int line, std::string_view function);
  // What is recorded from here to `leave_checkpoint` is an activation checkpoint: its values are
  // computed again by the backward. An inner one is a part of the outer one. See Note
  // [Checkpoints].
  void enter_checkpoint();
  // Throws Unsupported for what can't be computed again. `redraws`: random numbers are the same
  // when they are drawn again.
  void leave_checkpoint(bool redraws);
  std::string where() const { return source_suffix(builder().source); }
  // That of this thread: see Note [Modes].
  bool grad_enabled() const;
  // What eager says now, which may be more than when `t` was made.
  bool requires_grad(const TensorProxy& t) const;
  // Forgets which parameters autocast has cast, as the end of its outermost region does.
  void clear_cast_cache() { cast_cache_.clear(); }

  const Proxy* lift(nb::handle tensor) override;
  const Proxy* lift_number(nb::handle number) override;
  // Whether symbolic numbers become inputs; where not, a call takes their values.
  void take_numbers(bool take) { takes_numbers_ = take; }
  // The proxy that stands for a real tensor, always the same object: an operation that writes to
  // the tensor moves it on.
  nb::object input_for(nb::handle tensor);
  // Makes a proxy of an earlier trace stand for `tensor`, an input of this one.
  void adopt(nb::handle proxy, nb::handle tensor);
  // The same of a symbolic number that an earlier trace computes.
  void adopt_number(nb::handle number);
  // The tensor that a proxy of input_for stands for; null for any other object.
  PyObject* tensor_of(PyObject* proxy) const;
  // The real tensors and symbolic numbers that became inputs, in the order of the inputs they are.
  const std::vector<nb::object>& lifted_tensors() const { return lifted_; }
  void name_tensor(nb::handle tensor, const std::string& name);
  const TraceContext* context() const { return ctx_.get(); }
  // What the inputs that require grad, or are among `candidates`, have to do with `outputs`: those
  // that lead to one, in order. Writes to shared storage count as leading to all that share it.
  // Unsupported for an input with a history.
  nb::list leading_to(nb::list outputs, nb::handle candidates) const;
  // For each of `inputs`, as fulmen.autograd.gradients takes them, the strides that its gradient
  // will have; None where that can't be said.
  nb::object gradient_strides(nb::handle outputs, nb::handle seeds, nb::handle inputs);
  // Forgets what was recorded after the first n calls; false if a write is among it, after which
  // proxies stand for the written tensor.
  bool try_truncate(size_t n);
  // What a program has of the levels of torch.func: values of levels are proxies of another
  // context, and in a level every operation is left to fulmen.levels.
  enum class Levels : uint8_t { kNone, kValues, kActive };
  void set_levels(Levels levels) { levels_ = levels; }
  bool in_level() const { return levels_ == Levels::kActive; }
  // Whether fulmen.levels carries out a call on these objects.
  bool leaves_to_levels(PyObject* const* args, size_t count) const;
  // Proxies as `spec` says (see record_opaque) that nothing computes.
  nb::object describe(nb::handle spec);
  size_t num_recorded() const { return builder_ ? builder_->body().size() : 0; }

 private:
  Builder& builder() const;
  nb::object result_object(const Arg& output, std::span<PyObject* const> args);
  std::optional<Arg> try_record(const Symbol& symbol, std::span<const Arg> args,
                                const Kwargs& kwargs, std::string* why);
  // Gives the source line the checkpoint that is open.
  void mark_source();
  // Records how grad and inference mode have changed on this thread.
  void follow_modes();
  // The casts of PyTorch's autocast, as this thread has it now; see recorder_modes.cpp.
  void cast_arguments(const Symbol& symbol, Args& args);
  void cast_arguments(const Symbol& symbol, Args& args, DeviceType device, DType lower);
  Arg cast(const Arg& arg, DeviceType device, DType to, DType lower);
  void refuse_inference_tensors(const Symbol& symbol, std::span<const Arg> args) const;
  Arg output_from_spec(nb::handle spec, bool* views);
  const TensorProxy* make_input(nb::handle tensor, const std::string& name);

  std::shared_ptr<TraceContext> ctx_;
  std::unique_ptr<Builder> builder_;
  std::optional<Ambient> ambient_;
  std::vector<const BoundSymbol*> recorded_;
  Recorder* outer_ = nullptr;
  bool entered_ = false;
  bool takes_numbers_ = false;
  Levels levels_ = Levels::kNone;
  std::vector<const Proxy*> inputs_;
  std::vector<std::pair<const void*, const Proxy*>> storages_;  // of the inputs
  std::vector<nb::object> lifted_;
  std::unordered_map<PyObject*, nb::object> proxy_of_tensor_;
  std::unordered_map<PyObject*, PyObject*> tensor_of_proxy_;
  std::unordered_map<PyObject*, std::string> names_;
  std::unordered_map<PyObject*, const Proxy*> numbers_;
  Substitution substitution_;
  std::vector<size_t> checkpoints_;  // where those that are open began
  int num_checkpoints_ = 0;
  bool follows_modes_ = true;  // not a recorder of rewrites, whose calls say what they mean
  std::unordered_map<const Proxy*, Arg> cast_cache_;  // leaf → its cast
};

// A scope in which symbolic numbers become inputs of the trace.
class TakesNumbers {
 public:
  explicit TakesNumbers(Recorder* recorder) : recorder_(recorder) {
    if (recorder_) recorder_->take_numbers(true);
  }
  ~TakesNumbers() {
    if (recorder_) recorder_->take_numbers(false);
  }
  TakesNumbers(const TakesNumbers&) = delete;
  TakesNumbers& operator=(const TakesNumbers&) = delete;

 private:
  Recorder* recorder_;
};

// The rows behind a torch callable; empty if it has none. Built from the registry on first use.
const std::vector<const Symbol*>& overloads_of(nb::handle callable);

}  // namespace fulmen::bindings
