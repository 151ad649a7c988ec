#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty_strided.h>
#include <c10/core/GradMode.h>

#include <cstring>
#include <memory>
#include <mutex>

#include "bridge/bridge.h"
#include "bridge/ivalue.h"
#include "bridge/scalar_type.h"
#include "codegen/cpu/compiled_region.h"
#include "codegen/cpu/llvm_api.h"
#include "codegen/lower.h"
#include "codegen/open.h"
#include "exec/claim.h"
#include "exec/program.h"
#include "ir/region.h"
#include "support/error.h"

namespace fulmen::bridge {
namespace {

using codegen::cpu::CompiledLoops;
using codegen::cpu::CompiledRegion;

// Memory of this thread that kernels keep rows in; it stays for the next call.
char* scratch_memory(size_t bytes) {
  struct Free {
    void operator()(char* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<char, Free> memory;
  thread_local size_t size = 0;
  if (bytes > size) {
    size = (bytes + 4095) / 4096 * 4096;
    memory.reset(static_cast<char*>(std::aligned_alloc(64, size)));
    if (!memory) {
      size = 0;
      throw std::bad_alloc();
    }
  }
  return memory.get();
}

struct TensorSpec {
  c10::ScalarType dtype;
  std::vector<int64_t> sizes, strides;

  explicit TensorSpec(const TensorType& t) : dtype(to_scalar_type(t.dtype)) {
    for (const Dim d : t.shape) sizes.push_back(d.value());
    for (const Dim d : t.strides) strides.push_back(d.value());
  }
  bool describes(const at::Tensor& t) const {
    const c10::TensorImpl* impl = t.unsafeGetTensorImpl();
    return t.defined() && impl->dtype() == c10::scalarTypeToTypeMeta(dtype) &&
           impl->sizes() == c10::IntArrayRef(sizes) && impl->strides() == c10::IntArrayRef(strides);
  }
  at::Tensor allocate() const { return at::detail::empty_strided_cpu(sizes, strides, dtype); }
};

class FusionKernel final : public exec::Kernel {
 public:
  FusionKernel(CompiledRegion region, const Subprogram& source, const BoundSymbol& bsym,
               const exec::SlotOf& slot_of)
      : region_(std::move(region)), source_(source) {
    for (size_t i = 0; i < bsym.args.size(); ++i) {
      const uint32_t slot = slot_of(bsym.args[i].proxy());
      arguments_.push_back(slot);
      if (const TensorProxy* t = as_tensor(source.inputs[i])) {
        inputs_.push_back({slot, TensorSpec(t->type)});
      } else {
        numbers_.push_back({slot, as_number(source.inputs[i])->type});
      }
    }
    const Args results = region_outputs(source.output);
    size_t next = 0;
    for_each_proxy(bsym.output, [&](const Proxy* p) {
      outputs_.push_back({slot_of(p), TensorSpec(as_tensor(p)->type)});
      int written = -1;
      for (size_t i = 0, tensor = 0; i < source.inputs.size(); ++i) {
        if (!as_tensor(source.inputs[i])) continue;
        if (storage_of(results[next].proxy()) == source.inputs[i]) {
          written = static_cast<int>(tensor);
          inputs_[tensor].written = true;
        }
        ++tensor;
      }
      written_.push_back(written);
      ++next;
    });
  }

  void run(exec::Slot* slots) const override {
    for (const Operand& in : inputs_) {
      const c10::IValue& value = value_of(slots[in.slot]);
      if (!value.isTensor()) internal_error("a kernel's input is no tensor");
      const at::Tensor& t = value.toTensor();
      if (is_wrapped(t) || (in.written && !can_write(t, in.spec))) return run_operations(slots);
    }
    SmallVec<char*, 12> tensors;
    std::vector<at::Tensor> copies;  // keeps them alive
    for (const Operand& in : inputs_) {
      const at::Tensor& t = value_of(slots[in.slot]).toTensor();
      if (in.written) {
        tensors.push_back(static_cast<char*>(t.data_ptr()));
      } else if (in.spec.describes(t)) {
        // Only read; a plain data_ptr() would copy a tensor that is shared until it is written.
        tensors.push_back(static_cast<char*>(const_cast<void*>(t.const_data_ptr())));
      } else {
        copies.push_back(in_layout(t, in.spec));
        tensors.push_back(static_cast<char*>(copies.back().data_ptr()));
      }
    }
    for (const codegen::IndexCheck& c : region_.parts()[0].program().checks) {
      check(reinterpret_cast<const int64_t*>(tensors[c.tensor]), inputs_[c.tensor].spec, c);
    }
    std::vector<at::Tensor> results;
    results.reserve(outputs_.size());
    for (size_t i = 0; i < outputs_.size(); ++i) {
      if (written_[i] < 0) {
        results.push_back(outputs_[i].spec.allocate());
        tensors.push_back(static_cast<char*>(results.back().data_ptr()));
      } else {
        const Operand& target = inputs_[static_cast<size_t>(written_[i])];
        results.push_back(value_of(slots[target.slot]).toTensor());
        tensors.push_back(tensors[static_cast<size_t>(written_[i])]);
        results.back().unsafeGetTensorImpl()->bump_version();
      }
    }
    launch(slots, tensors);
    for (size_t i = 0; i < outputs_.size(); ++i) {
      value_of(slots[outputs_[i].slot]) = std::move(results[i]);
    }
  }

 private:
  // Tensors of torch.func's transforms have no memory of their own, as when a backward runs under
  // vmap.
  static bool is_wrapped(const at::Tensor& t) {
    constexpr c10::DispatchKeySet kWrapped(
        {c10::DispatchKey::Python, c10::DispatchKey::FuncTorchGradWrapper,
         c10::DispatchKey::FuncTorchBatched, c10::DispatchKey::Batched,
         c10::DispatchKey::Functionalize});
    return t.defined() && t.key_set().has_any(kWrapped);
  }

  // Whether the kernel may write to it; the dispatcher knows what eager says otherwise.
  static bool can_write(const at::Tensor& t, const TensorSpec& spec) {
    return spec.describes(t) && !t.is_inference() && !t.is_neg() && !t.is_conj() &&
           !(t.requires_grad() && c10::GradMode::is_enabled());
  }

  // The region's operations one by one, through the dispatcher.
  void run_operations(exec::Slot* slots) const {
    std::call_once(once_, [&] {
      const auto plain = make_compilation();
      passes::PassContext quiet;
      exec::ClaimReport report;
      const Trace claimed = exec::transform_for_execution(to_trace(source_), *plain, quiet, report);
      operations_ = exec::Program::build(claimed, plain, slot_ops());
    });
    exec::Frame frame(*operations_);
    for (size_t i = 0; i < arguments_.size(); ++i) {
      value_of(frame[i]) = value_of(slots[arguments_[i]]);
    }
    const BoundSymbol* failed_at = nullptr;
    operations_->run(frame.slots(), &failed_at);
    const auto results = operations_->output_slots();
    for (size_t i = 0; i < outputs_.size(); ++i) {
      value_of(slots[outputs_[i].slot]) = std::move(value_of(frame[results[i]]));
    }
  }

  // Throws eager's error for the first element that names nothing.
  static void check(const int64_t* indices, const TensorSpec& spec, const codegen::IndexCheck& c) {
    const int64_t n = spec.sizes.empty() ? 1 : spec.sizes[0];
    const int64_t stride = spec.sizes.empty() ? 0 : spec.strides[0];
    const auto wrong = [&](int64_t i) {
      return static_cast<uint64_t>(i) >= static_cast<uint64_t>(c.size) && i != c.ignored;
    };
    bool any = false;
    for (int64_t i = 0; i < n; ++i) any |= wrong(indices[i * stride]);
    for (int64_t i = 0; any && i < n; ++i) {
      const int64_t index = indices[i * stride];
      TORCH_CHECK_INDEX(!wrong(index), "Target ", index, " is out of bounds.");
    }
  }

  struct Operand {
    uint32_t slot;
    TensorSpec spec;
    bool written = false;  // by the kernel
  };
  struct Number {
    uint32_t slot;
    NumberType type;
  };

  // What metadata promised may differ in the strides when the value comes from an operator without
  // a row; its values are what counts.
  static at::Tensor in_layout(const at::Tensor& t, const TensorSpec& spec) {
    if (!t.defined() || t.scalar_type() != spec.dtype ||
        t.sizes() != c10::IntArrayRef(spec.sizes)) {
      internal_error("a kernel's input is not of the type that it was compiled for");
    }
    at::Tensor copy = at::empty_strided(spec.sizes, spec.strides, t.options());
    copy.copy_(t);
    return copy;
  }

  void launch(exec::Slot* slots, const SmallVec<char*, 12>& tensors) const {
    SmallVec<int64_t, 8> numbers;
    for (const Number& n : numbers_) {
      const c10::IValue& v = value_of(slots[n.slot]);
      int64_t bits = 0;
      if (n.type == NumberType::kFloat) {
        const double real = v.toDouble();
        std::memcpy(&bits, &real, sizeof bits);
      } else {
        bits = v.isBool() ? v.toBool() : v.toInt();
      }
      numbers.push_back(bits);
    }
    const char* packed = reinterpret_cast<const char*>(numbers.data());
    SmallVec<char*, 16> accesses;
    SmallVec<size_t, 8> first;
    bool alike = true;
    for (const CompiledLoops& part : region_.parts()) {
      first.push_back(accesses.size());
      alike = alike && part.units() == region_.parts()[0].units();
      for (const codegen::Access& a : part.program().accesses) {
        accesses.push_back(a.tensor == codegen::Access::kNoTensor
                               ? nullptr
                               : tensors[a.tensor] + a.offset * itemsize(a.dtype));
      }
    }
    const auto run = [&](size_t part, int64_t begin, int64_t end) {
      const CompiledLoops& loops = region_.parts()[part];
      const size_t bytes = loops.scratch_bytes();
      loops.run(accesses.data() + first[part], packed, bytes ? scratch_memory(bytes) : nullptr,
                begin, end);
    };
    const size_t parts = region_.parts().size();
    if (parts > 1 && alike) {
      // What the parts of a unit read lies close together.
      const CompiledLoops& one = region_.parts()[0];
      const int64_t grain = std::max<int64_t>(1, one.grain() / static_cast<int64_t>(parts));
      in_parallel(one.units(), grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          for (size_t part = 0; part < parts; ++part) run(part, i, i + 1);
        }
      });
      return;
    }
    for (size_t part = 0; part < parts; ++part) {
      const CompiledLoops& loops = region_.parts()[part];
      in_parallel(loops.units(), loops.grain(),
                  [&](int64_t begin, int64_t end) { run(part, begin, end); });
    }
  }

  // On ATen's threads; little work stays in this one.
  template <class Work>
  static void in_parallel(int64_t units, int64_t grain, const Work& work) {
    if (units == 0) return;
    if (units <= grain || at::get_num_threads() == 1 || at::in_parallel_region()) {
      return work(0, units);
    }
    at::parallel_for(0, units, grain, work);
  }

  CompiledRegion region_;
  const Subprogram& source_;  // lives as long as the program's trace
  std::vector<uint32_t> arguments_;
  std::vector<Operand> inputs_, outputs_;
  std::vector<int> written_;  // of each output: the input that it is, written; -1: a new tensor
  std::vector<Number> numbers_;
  mutable std::once_flag once_;
  mutable std::shared_ptr<const exec::Program> operations_;
};

class FusionExecutor final : public exec::Executor {
 public:
  // `makes_regions`: or only runs those that somebody made.
  explicit FusionExecutor(bool makes_regions) { makes_regions_ = makes_regions; }

  std::string_view name() const override { return "fusion"; }
  bool concerns(const Symbol& symbol) const override {
    if (region_of(symbol)) return !symbol.info->rules->has_vjp();
    return makes_regions_;
  }
  std::string refusal(const exec::Offer& offer) const override {
    if (region_of(*offer.bsym.symbol)) return "";
    std::string why = codegen::fusion_refusal(offer.bsym, offer.ctx, offer.under_autograd);
    const bool recorded = offer.under_autograd && any_requires_grad(offer.bsym.output);
    // Its steps may be parts of regions.
    return recorded || why.empty() || codegen::opened(offer.bsym, offer.ctx).empty() ? why : "";
  }
  std::unique_ptr<passes::FusionRules> fusion_rules(
      const std::shared_ptr<TraceContext>& ctx) const override {
    return std::make_unique<passes::FusionRules>(codegen::cpu::fusion_rules(ctx));
  }

  std::unique_ptr<exec::Kernel> compile(
      const BoundSymbol& bsym, const exec::SlotOf& slot_of,
      const std::shared_ptr<const exec::Compilation>&) const override {
    const Subprogram& region = *region_of(*bsym.symbol);
    std::string why;
    auto compiled = CompiledRegion::compile(to_trace(region), &why);
    if (!compiled) internal_error(bsym.symbol->name(), ": claimed, but ", why);
    return std::make_unique<FusionKernel>(std::move(*compiled), region, bsym, slot_of);
  }
};

}  // namespace

exec::ExecutorPtr fusion_executor(bool makes_regions) {
  return std::make_shared<const FusionExecutor>(makes_regions);
}

}  // namespace fulmen::bridge
