// The modes of PyTorch under which calls are recorded.
#include <unordered_set>

#include "bindings/recorder.h"
#include "bridge/bridge.h"
#include "ops/autocast.h"
#include "ops/conversion.h"
#include "ops/state.h"

namespace fulmen::bindings {
namespace {

// Whether `b`, which works in place, may write the argument `a`, one of its own.
bool writes(const BoundSymbol& b, const Arg& a) {
  const Schema& schema = b.symbol->info->schema;
  return schema.variadic || schema.params[static_cast<size_t>(&a - b.args.data())].mutated;
}

bool any_tensor_on(std::span<const Arg> args, DeviceType device) {
  bool found = false;
  for (const Arg& a : args) {
    for_each_proxy(a, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      found = found || (t && t->type.device.type == device);
    });
  }
  return found;
}

bool is_eligible(const TensorProxy& t, DeviceType device) {
  return t.type.device.type == device && is_floating(t.type.dtype) &&
         t.type.dtype != DType::kFloat64;
}

DType promoted(std::span<const Arg> args, DeviceType device, DType lower) {
  DType dtype = lower;
  for (const Arg& a : args) {
    for_each_proxy(a, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      if (!t || !is_eligible(*t, device)) return;
      if (t->type.dtype == DType::kFloat32) {
        dtype = DType::kFloat32;
      } else if (t->type.dtype != lower && dtype != DType::kFloat32) {
        throw Unsupported("another low precision than that of torch.autocast");
      }
    });
  }
  return dtype;
}

}  // namespace

// Note [Modes]
// While a program is followed, the thread really is in the grad mode, inference mode and state of
// autocast that the program sets, so that what reads them gets the right answer. Before the next
// call is recorded, a change of the first two is; who traced puts back what it found.

bool Recorder::grad_enabled() const {
  return follows_modes_ ? bridge::grad_enabled() : builder().grad_enabled;
}

void Recorder::follow_modes() {
  if (!follows_modes_) return;
  Builder& b = builder();
  const auto set = [&](const Symbol& symbol, bool enabled) {
    const Arg args[] = {Arg(enabled)};
    b.call(symbol, args);
  };
  if (b.inference_mode != bridge::inference_mode())
    set(ops::set_inference_mode, bridge::inference_mode());
  if (b.grad_enabled != bridge::grad_enabled()) set(ops::set_grad_enabled, bridge::grad_enabled());
}

// Note [Autocast]
// PyTorch's autocast is a layer of its dispatcher that casts the arguments of some operations. Here
// the casts are recorded, and programs run with that layer off. An operation that consists of
// others with a policy of their own goes to the fallback, which runs it with autocast on.
void Recorder::cast_arguments(const Symbol& symbol, Args& args) {
  // The order of PyTorch's layers.
  for (const DeviceType device : {DeviceType::kCUDA, DeviceType::kCPU}) {
    const bridge::Autocast state = bridge::autocast(device);
    if (state.enabled && any_tensor_on(args, device))
      cast_arguments(symbol, args, device, state.dtype);
  }
}

void Recorder::cast_arguments(const Symbol& symbol, Args& args, DeviceType device, DType lower) {
  const auto cast_all = [&](DType to) {
    for (Arg& a : args) a = cast(a, device, to, lower);
  };
  switch (ops::cast_policy(symbol, args, device)) {
    case ops::CastPolicy::kNone: return;
    case ops::CastPolicy::kLower: return cast_all(lower);
    case ops::CastPolicy::kFloat32: return cast_all(DType::kFloat32);
    case ops::CastPolicy::kPromote: return cast_all(promoted(args, device, lower));
    case ops::CastPolicy::kOptionalFloat32: {
      const TensorProxy* first = args.empty() ? nullptr : args[0].tensor();
      if (!first || !is_eligible(*first, device)) return;
      const int dtype = symbol.info->schema.index("dtype");
      if (dtype < 0) throw Unsupported("torch.autocast computes it in float32");
      if (args[static_cast<size_t>(dtype)].is_none())
        args[static_cast<size_t>(dtype)] = Arg(DType::kFloat32);
      return;
    }
    case ops::CastPolicy::kInside:
      throw Unsupported("torch.autocast casts inside of this operation");
  }
}

Arg Recorder::cast(const Arg& arg, DeviceType device, DType to, DType lower) {
  if (arg.is_sequence()) {
    Args items;
    bool changed = false;
    for (const Arg& item : arg.items()) {
      items.push_back(cast(item, device, to, lower));
      changed = changed || !(items.back() == item);
    }
    return changed ? ctx_->make_collection(arg.kind(), items) : arg;
  }
  const TensorProxy* t = arg.tensor();
  if (!t || !is_eligible(*t, device) || t->type.dtype == to) return arg;
  // As in PyTorch, a region casts a parameter once, whatever dtype an inner region asks for.
  const bool cached = to == lower && t->type.dtype == DType::kFloat32 && t->is_leaf &&
                      t->type.requires_grad && !t->alias_of && builder().grad_enabled &&
                      !builder().inference_mode && bridge::autocast_cache_enabled();
  if (cached) {
    const auto it = cast_cache_.find(t);
    if (it != cast_cache_.end()) return it->second;
  }
  const Arg leading[] = {arg, Arg(to)};
  Args bound;
  std::string why;
  if (!try_bind(ops::to_dtype.info->schema, leading, {}, ctx_->arena(), bound, &why))
    internal_error("a cast: ", why);
  const Arg result = builder().call(ops::to_dtype, bound);
  if (cached) cast_cache_.emplace(t, result);
  return result;
}

// PyTorch refuses some uses of inference tensors outside of inference mode: its own check decides.
void Recorder::refuse_inference_tensors(const Symbol& symbol, std::span<const Arg> args) const {
  if (builder().inference_mode) return;
  bool inference = false;
  for (const Arg& a : args) {
    for_each_proxy(a, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      inference = inference || (t && t->is_inference);
    });
  }
  if (!inference) return;
  if (symbol.has(kInplace)) throw Unsupported("an inference tensor is written");
  if (any_requires_grad(args) && builder().grad_enabled && !symbol.has(kNonDifferentiable))
    throw Unsupported("autograd meets an inference tensor");
}

// Note [Checkpoints]
// torch.utils.checkpoint is followed like any call; the source lines of what it records say in
// which checkpoint they are, and passes keep these. Of the values made there, the backward is given
// only those that leave the checkpoint; the pass `rematerialize` makes it compute the others again.
// What eager does twice, and a program would do once, is left to eager.

void Recorder::enter_checkpoint() {
  if (checkpoints_.empty()) ++num_checkpoints_;
  checkpoints_.push_back(num_recorded());
  mark_source();
}

void Recorder::leave_checkpoint(bool redraws) {
  if (checkpoints_.empty()) throw Unsupported("a value is asked for in an activation checkpoint");
  const auto& body = builder().body();
  std::unordered_set<const Proxy*> made;
  for (size_t i = checkpoints_.back(); i < body.size(); ++i) {
    const BoundSymbol& b = *body[i];
    const Symbol& s = *b.symbol;
    const auto refuse = [&](std::string_view what) {
      throw Unsupported(cat("an activation checkpoint in which ", s.name(), " ", what));
    };
    if (s.has(kRandom) && !redraws)
      refuse("draws random numbers, which are others when it is computed again");
    if (s.has(kOpaque) && any_requires_grad(b.output)) refuse("is differentiated by PyTorch");
    if (s.has(kInplace)) {
      for (const Arg& a : b.args) {
        for_each_proxy(a, [&](const Proxy* p) {
          const TensorProxy* t = as_tensor(p);
          if (t && !made.contains(storage_of(t)) && writes(b, a))
            refuse("writes to a tensor from outside, and would do so twice");
        });
      }
    }
    for_each_proxy(b.output, [&](const Proxy* p) { made.insert(p); });
  }
  checkpoints_.pop_back();
  mark_source();
}

void Recorder::mark_source() {
  SourceLine next = builder().source ? *builder().source : SourceLine();
  next.checkpoint = checkpoints_.empty() ? 0 : num_checkpoints_;
  builder().source = ctx_->make_source(next);
}

}  // namespace fulmen::bindings
