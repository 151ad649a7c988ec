#include "bridge/autograd_region.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/jit_type.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <algorithm>
#include <mutex>

#include "bridge/bridge.h"
#include "bridge/gil.h"
#include "bridge/ivalue.h"
#include "bridge/no_autocast.h"
#include "bridge/node.h"
#include "bridge/random_state.h"
#include "bridge/recycled_memory.h"
#include "bridge/scalar_type.h"
#include "exec/claim.h"
#include "ir/builder.h"
#include "ops/control.h"
#include "passes/autodiff.h"
#include "passes/pipeline.h"
#include "passes/rematerialize.h"
#include "passes/reuse.h"

// Note [Regions under autograd]
// A region's forward runs below autograd; its results are joined to autograd by one node. What the
// node saves is what its backward program reads, as SavedVariables: they see writes to inputs and
// results, and honour saved-tensor hooks. The backward program depends on which gradients arrive,
// in which layout, and on which are asked for; it is compiled when such a backward first runs.
namespace fulmen::bridge {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Runs a program, and tells whose instruction an error of ATen's comes from.
void run(const exec::Program& program, exec::Slot* slots) {
  const BoundSymbol* failed_at = nullptr;
  const RecyclesMemory recycles(program.makes_regions());
  try {
    program.run(slots, &failed_at);
  } catch (c10::Error& e) {
    if (failed_at) {
      e.add_context(cat("in ", failed_at->symbol->name(), "()", source_suffix(failed_at->source)));
    }
    throw;
  }
}

std::shared_ptr<const exec::Program> compile(
    const Trace& trace, Inputs inputs,
    const std::shared_ptr<const exec::Compilation>& compilation) {
  exec::ClaimReport report;
  const Trace claimed = executable(trace, inputs, *compilation, report);
  compilation->add_to_report(std::move(report));
  return exec::Program::build(claimed, compilation, slot_ops());
}

// What the gradients of one backward look like.
struct Arrival {
  std::vector<bool> given;
  std::vector<bool> wanted;  // one for each differentiable input
  std::vector<std::vector<int64_t>> strides;

  bool operator==(const Arrival&) const = default;
};

struct Backward {
  Arrival arrival;
  std::shared_ptr<const exec::Program> program;
  std::vector<size_t> saved;  // the program's inputs, as indices of what the node saved
  bool zeros = false;         // gradients that were not given are made
};

// A region, compiled: what all its nodes share.
class Region {
 public:
  Region(const BoundSymbol& bsym, std::shared_ptr<const exec::Compilation> compilation);

  // A value that is saved: an input, a result, or neither: then its place in the forward's second
  // output.
  struct Saved {
    enum class From : uint8_t { kInput, kResult, kInner } from;
    size_t index;
    size_t place = 0;  // of what is no input, among its kind
    int base = -1;     // the input whose storage a value that is neither shares
  };

  const exec::Program& forward() const { return *forward_; }
  const exec::Program& primal() const;
  const Backward& backward(const Arrival& arrival) const;

  const std::vector<Saved>& saved() const { return saved_; }
  // For each result its index among those that require grad, or -1.
  const std::vector<int>& grad_index() const { return grad_index_; }
  const std::vector<size_t>& differentiable_inputs() const { return differentiable_inputs_; }
  bool draws_random() const { return draws_random_; }

 private:
  Trace primal_trace() const;
  bool make_backward(const std::vector<bool>& given, Backward& b) const;

  std::shared_ptr<TraceContext> ctx_;
  std::shared_ptr<const exec::Compilation> compilation_;
  const Subprogram* primal_;
  std::shared_ptr<const exec::Program> forward_;
  std::vector<const Proxy*> saved_proxies_;
  std::vector<Saved> saved_;
  std::vector<int> grad_index_;
  std::vector<const TensorProxy*> seeded_;
  std::vector<size_t> differentiable_inputs_;
  bool draws_random_ = false;

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Backward>> backwards_;
  mutable std::shared_ptr<const exec::Program> primal_program_;
};

// Backwards are compiled one at a time: the regions of a program share a context, which is not
// thread-safe.
std::mutex& compile_mutex() {
  static std::mutex mutex;
  return mutex;
}

int index_of(std::span<const Proxy* const> proxies, const Proxy* p) {
  const auto at = std::find(proxies.begin(), proxies.end(), p);
  return at == proxies.end() ? -1 : static_cast<int>(at - proxies.begin());
}

Region::Region(const BoundSymbol& bsym, std::shared_ptr<const exec::Compilation> compilation)
    : ctx_(bsym.arg("primal").program()->ctx->shared_from_this()),
      compilation_(std::move(compilation)),
      primal_(bsym.arg("primal").program()) {
  forward_ =
      exec::Program::build(to_trace(*bsym.arg("forward").program()), compilation_, slot_ops());
  std::vector<const Proxy*> results;
  for (const Arg& r : primal_->output.items()[0].items()) results.push_back(r.proxy());
  seeded_ = passes::differentiable_results(bsym.output);
  for (const Arg& result : bsym.output.items()) {
    const auto at = std::find(seeded_.begin(), seeded_.end(), result.tensor());
    grad_index_.push_back(at == seeded_.end() ? -1 : static_cast<int>(at - seeded_.begin()));
  }
  // What only comparisons and the like read is in no graph, as in eager.
  const auto gradients = bsym.arg("backward").program()->output.items();
  for (size_t i = 0; i < primal_->inputs.size(); ++i) {
    const TensorProxy* t = as_tensor(primal_->inputs[i]);
    const bool reached = gradients.size() <= i || !gradients[i].is_none();
    if (t && t->type.requires_grad && reached) differentiable_inputs_.push_back(i);
  }
  size_t kept = 0;
  for (const Arg& value : primal_->output.items()[1].items()) {
    const Proxy* p = value.proxy();
    Saved s{Saved::From::kInner, saved_.size()};
    if (const int i = index_of(primal_->inputs, p); i >= 0) {
      s = {Saved::From::kInput, static_cast<size_t>(i)};
    } else if (const int r = index_of(results, p); r >= 0) {
      s = {Saved::From::kResult, static_cast<size_t>(r)};
    } else if (const TensorProxy* t = as_tensor(p)) {
      s.base = index_of(primal_->inputs, storage_of(t));
    }
    if (s.from != Saved::From::kInput) s.place = kept++;
    saved_proxies_.push_back(p);
    saved_.push_back(s);
  }
  for (const BoundSymbol* b : primal_->body) draws_random_ |= b->symbol->has(kRandom);
}

Trace Region::primal_trace() const {
  Trace t = to_trace(*primal_);
  t.output = t.output.items()[0];
  return t;
}

const exec::Program& Region::primal() const {
  const std::lock_guard lock(compile_mutex());
  if (!primal_program_) {
    const HoldGil gil;
    primal_program_ = compile(primal_trace(), Inputs::kRecorded, compilation_);
  }
  return *primal_program_;
}

// False if the backward would read what was not saved.
bool Region::make_backward(const std::vector<bool>& given, Backward& b) const {
  passes::GradRequest request;
  request.given = given;
  request.wanted.assign(primal_->inputs.size(), false);
  for (size_t i = 0; i < differentiable_inputs_.size(); ++i) {
    request.wanted[differentiable_inputs_[i]] = b.arrival.wanted[i];
  }
  for (size_t i = 0; i < seeded_.size(); ++i) {
    if (!given[i]) continue;
    TensorType type = seeded_[i]->type;
    type.strides = contiguous_strides(type.shape);
    if (b.arrival.given[i]) {
      type.strides.resize(0, Dim(0));
      for (const int64_t s : b.arrival.strides[i]) type.strides.push_back(Dim(s));
    }
    request.types.push_back(type);
  }
  const auto backward = passes::region_backward(*primal_, request, saved_proxies_);
  if (!backward) return false;
  b.saved.clear();
  for (size_t i = 0; i < backward->num_saved; ++i) {
    b.saved.push_back(static_cast<size_t>(index_of(saved_proxies_, backward->trace.inputs[i])));
  }
  b.program = compile(backward->trace, Inputs::kConsumed, compilation_);
  return true;
}

const Backward& Region::backward(const Arrival& arrival) const {
  const auto find = [&]() -> const Backward* {
    const std::lock_guard lock(mutex_);
    for (const auto& b : backwards_) {
      if (b->arrival == arrival) return b.get();
    }
    return nullptr;
  };
  if (const Backward* found = find()) return *found;
  const std::lock_guard compiling(compile_mutex());
  if (const Backward* found = find()) return *found;
  const HoldGil gil;
  auto b = std::make_unique<Backward>();
  b->arrival = arrival;
  if (!make_backward(arrival.given, *b)) {
    b->zeros = true;
    if (!make_backward(std::vector<bool>(seeded_.size(), true), *b)) {
      internal_error("the backward of a region reads what its forward did not save");
    }
  }
  const std::lock_guard lock(mutex_);
  return *backwards_.emplace_back(std::move(b));
}

bool is_plain(const at::Tensor& t) {
  return t.layout() == c10::kStrided && !t.is_conj() && !t.is_neg() && !t._is_zerotensor() &&
         !t.unsafeGetTensorImpl()->is_python_dispatch() &&
         !t.key_set().has_any(c10::DispatchKeySet(
             {c10::DispatchKey::FuncTorchBatched, c10::DispatchKey::FuncTorchGradWrapper}));
}

// A value that outlives the forward, and may be written meanwhile.
struct Kept {
  Kept(const c10::IValue& value, bool is_result) {
    if (value.isTensor()) {
      tensor = SavedVariable(value.toTensor(), is_result);
    } else {
      number = value;
    }
  }
  c10::IValue load(const NodePtr& node) const {
    return number.isNone() ? c10::IValue(tensor.unpack(node)) : number;
  }
  SavedVariable tensor;
  c10::IValue number;  // None for a tensor
};

class RegionNode final : public torch::autograd::Node {
 public:
  RegionNode(std::shared_ptr<const Region> region, const std::vector<c10::IValue>& inputs)
      : region_(std::move(region)) {
    inputs_.reserve(inputs.size());
    for (const c10::IValue& v : inputs) inputs_.emplace_back(v, false);
    variable_list differentiable;
    for (const size_t i : region_->differentiable_inputs())
      differentiable.push_back(inputs[i].toTensor());
    set_next_edges(torch::autograd::collect_next_edges(differentiable));
  }

  std::string name() const override { return "FulmenBackward"; }

  // Once the results have their history: `values` is the forward's second output.
  void save(const std::vector<c10::IValue>& inputs, const std::vector<at::Tensor>& results,
            const std::vector<c10::IValue>& values) {
    for (const Region::Saved& s : region_->saved()) {
      switch (s.from) {
        case Region::Saved::From::kInput: break;
        case Region::Saved::From::kResult:
          saved_.emplace_back(results[s.index], region_->grad_index()[s.index] >= 0);
          break;
        case Region::Saved::From::kInner: saved_.emplace_back(values[s.index], false); break;
      }
      if (s.base < 0) continue;
      const at::Tensor& base = inputs[static_cast<size_t>(s.base)].toTensor();
      versions_.push_back({base, base._version()});
    }
  }

  variable_list apply(variable_list&& grads) override {
    if (c10::GradMode::is_enabled()) return apply_with_graph(grads);
    std::unique_lock lock(mutex_);
    check_alive();
    const Arrival arrival = normalize(grads);
    const Backward& b = region_->backward(arrival);
    exec::Frame frame(*b.program);
    const NodePtr self = pointer_to<NodePtr>(this);
    size_t slot = 0;
    for (const size_t i : b.saved) {
      const Region::Saved& s = region_->saved()[i];
      const Kept& kept = s.from == Region::Saved::From::kInput ? inputs_[s.index] : saved_[s.place];
      value_of(frame[slot++]) = kept.load(self);
    }
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!arrival.given[i] && !b.zeros) continue;
      if (!arrival.given[i]) grads[i] = input_metadata(i).zeros_like();
      value_of(frame[slot++]) = std::move(grads[i]);
    }
    grads.clear();
    if (!torch::autograd::get_current_graph_task_keep_graph()) release();
    lock.unlock();
    {
      const NoAutocast no_autocast;
      const at::AutoDispatchBelowADInplaceOrView below_autograd;
      run(*b.program, frame.slots());
    }
    const auto outputs = b.program->output().items();
    const uint32_t* next = b.program->output_slots().data();
    variable_list result;
    for (const size_t i : region_->differentiable_inputs()) {
      // Inputs are in order, and only differentiable ones have a gradient.
      result.emplace_back();
      if (outputs[i].is_proxy()) result.back() = value_of(frame[*next++]).toTensor();
    }
    return result;
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    release();
  }

 private:
  struct Version {
    at::Tensor base;
    int64_t version;
  };

  void release() {
    inputs_.clear();
    saved_.clear();
    versions_.clear();
    released_ = true;
  }

  void check_alive() const {
    TORCH_CHECK(!released_, torch::autograd::ERR_BACKWARD_TWICE);
    for (const auto& [base, version] : versions_) {
      TORCH_CHECK(base._version() == version,
                  "one of the variables needed for gradient computation has been modified by an "
                  "inplace operation: [",
                  base.toString(), " ", base.sizes(), "], is at version ", base._version(),
                  "; expected version ", version,
                  " instead. Hint: enable anomaly "
                  "detection to find the operation that failed to compute its gradient, with "
                  "torch.autograd.set_detect_anomaly(True).");
    }
  }

  // What arrives, and in which layout; gradients of other kinds become strided ones.
  Arrival normalize(variable_list& grads) const {
    Arrival arrival;
    for (at::Tensor& g : grads) {
      arrival.given.push_back(g.defined());
      arrival.strides.emplace_back();
      if (!g.defined()) continue;
      if (g.layout() != c10::kStrided) g = g.to_dense();
      if (g._is_zerotensor()) g = g.clone();
      g = g.resolve_conj().resolve_neg();
      arrival.strides.back() =
          is_plain(g) ? g.strides().vec() : c10::TensorType::contiguousStridesOf(g.sizes());
    }
    for (size_t i = 0; i < num_outputs(); ++i)
      arrival.wanted.push_back(task_should_compute_output(i));
    return arrival;
  }

  // create_graph=True: the region runs again under PyTorch's autograd, whose gradients have graphs.
  variable_list apply_with_graph(const variable_list& grads) {
    std::unique_lock lock(mutex_);
    check_alive();
    TORCH_CHECK_NOT_IMPLEMENTED(
        !region_->draws_random(),
        "create_graph=True through a compiled program that draws random numbers; call the function "
        "without fulmen.jit, or use fulmen.grad inside of it");
    const exec::Program& primal = region_->primal();
    exec::Frame frame(primal);
    const NodePtr self = pointer_to<NodePtr>(this);
    variable_list inputs;
    for (size_t i = 0; i < inputs_.size(); ++i) value_of(frame[i]) = inputs_[i].load(self);
    for (const size_t i : region_->differentiable_inputs())
      inputs.push_back(value_of(frame[i]).toTensor());
    lock.unlock();
    {
      const NoAutocast no_autocast;
      run(primal, frame.slots());
    }
    variable_list results, seeds;
    const auto slots = primal.output_slots();
    for (size_t i = 0; i < slots.size(); ++i) {
      const int seed = region_->grad_index()[i];
      if (seed < 0 || !grads[static_cast<size_t>(seed)].defined()) continue;
      results.push_back(value_of(frame[slots[i]]).toTensor());
      seeds.push_back(grads[static_cast<size_t>(seed)]);
    }
    return torch::autograd::grad(results, inputs, seeds, /*retain_graph=*/true,
                                 /*create_graph=*/true, /*allow_unused=*/true);
  }

  std::shared_ptr<const Region> region_;
  std::vector<Kept> inputs_;
  std::vector<Kept> saved_;  // what is no input
  std::vector<Version> versions_;
  bool released_ = false;
};

class RegionKernel final : public exec::Kernel {
 public:
  RegionKernel(const BoundSymbol& bsym, const exec::SlotOf& slot_of,
               std::shared_ptr<const exec::Compilation> compilation)
      : region_(std::make_shared<const Region>(bsym, std::move(compilation))) {
    for (const Arg& a : bsym.arg("inputs").items()) inputs_.push_back(slot_of(a.proxy()));
    for (const Arg& a : bsym.output.items()) outputs_.push_back(slot_of(a.proxy()));
  }

  void run(exec::Slot* slots) const override {
    const exec::Program& forward = region_->forward();
    exec::Frame frame(forward);
    std::vector<c10::IValue> inputs;
    inputs.reserve(inputs_.size());
    for (size_t i = 0; i < inputs_.size(); ++i) {
      inputs.push_back(value_of(slots[inputs_[i]]));
      value_of(frame[i]) = inputs.back();
    }
    {
      const at::AutoDispatchBelowADInplaceOrView below_autograd;
      bridge::run(forward, frame.slots());
    }
    const auto out = forward.output_slots();
    const auto& grad_index = region_->grad_index();
    const NodePtr node = make_node<NodePtr, RegionNode>(region_, inputs);
    std::vector<at::Tensor> results;
    for (size_t i = 0; i < outputs_.size(); ++i) {
      c10::IValue value = value_of(frame[out[i]]);
      if (value.isTensor()) {
        at::Tensor t = value.toTensor();
        if (grad_index[i] >= 0) {
          if (t.requires_grad()) t = t.detach();
          torch::autograd::set_history(t, node);
          value = t;
        }
        results.push_back(std::move(t));
      } else {
        results.emplace_back();
      }
      value_of(slots[outputs_[i]]) = std::move(value);
    }
    std::vector<c10::IValue> values;
    for (size_t i = outputs_.size(); i < out.size(); ++i) values.push_back(value_of(frame[out[i]]));
    static_cast<RegionNode*>(node.get())->save(inputs, results, values);
  }

 private:
  std::shared_ptr<const Region> region_;
  std::vector<uint32_t> inputs_;
  std::vector<uint32_t> outputs_;
};

class AutogradExecutor final : public exec::SoleExecutor {
 public:
  std::string_view name() const override { return "autograd"; }
  bool concerns(const Symbol& symbol) const override { return &symbol == &ops::differentiable; }
  std::unique_ptr<exec::Kernel> compile(
      const BoundSymbol& bsym, const exec::SlotOf& slot_of,
      const std::shared_ptr<const exec::Compilation>& compilation) const override {
    return std::make_unique<RegionKernel>(bsym, slot_of, compilation);
  }
};

}  // namespace

Trace executable(const Trace& trace, Inputs inputs, const exec::Compilation& compilation,
                 exec::ClaimReport& report) {
  passes::PassContext quiet;
  quiet.fuel = compilation.fuel();
  Trace claimed = exec::transform_for_execution(trace, compilation, quiet, report);
  if (inputs != Inputs::kRecorded) claimed = passes::reuse_below_autograd(claimed);
  if (inputs == Inputs::kConsumed) claimed.inputs.clear();
  claimed = passes::last_pass().run(claimed, quiet);
  claimed.inputs = trace.inputs;
  return claimed;
}

exec::ExecutorPtr autograd_executor() {
  static const auto executor = std::make_shared<const AutogradExecutor>();
  return executor;
}

std::shared_ptr<const exec::Compilation> make_compilation(std::vector<exec::ExecutorPtr> chosen,
                                                          std::shared_ptr<Fuel> fuel) {
  return std::make_shared<const exec::Compilation>(
      std::vector<exec::ExecutorPtr>{autograd_executor(), grad_state_executor(), number_executor(),
                                     random_state_executor()},
      std::move(chosen),
      std::vector<exec::ExecutorPtr>{fusion_executor(false), aten_executor(), python_executor()},
      std::move(fuel));
}

}  // namespace fulmen::bridge
