// A linear layer with its cross-entropy, whose scores are never all in memory.
#include "ops/linear_loss.h"

#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/scalar_tensor.h>

#include "bridge/bridge.h"
#include "bridge/ivalue.h"
#include "bridge/products.h"
#include "bridge/scalar_type.h"
#include "codegen/cpu/isa.h"
#include "ir/proxy.h"
#include "kernels/cross_entropy.h"
#include "support/error.h"

namespace fulmen::bridge {
namespace {

using kernels::Element;

class LossKernel final : public exec::Kernel {
 public:
  LossKernel(const BoundSymbol& bsym, const exec::SlotOf& slot_of)
      : element_(*element_of(bsym.arg("input").tensor()->type.dtype)),
        dtype_(to_scalar_type(bsym.arg("input").tensor()->type.dtype)),
        ignored_(bsym.arg("ignore_index").integer()),
        mean_(bsym.arg("reduction").text() == "mean"),
        target_(make_target(bsym.output, slot_of)) {
    const auto slot = [&](std::string_view param) { return slot_of(bsym.arg(param).proxy()); };
    input_ = slot("input");
    weight_ = slot("weight");
    has_bias_ = bsym.arg("bias").is_tensor();
    if (has_bias_) bias_ = slot("bias");
    classes_ = slot("target");
    const bool several = bsym.symbol == &ops::linear_cross_entropy_forward;
    loss_dtype_ =
        to_scalar_type((several ? bsym.output.items()[0] : bsym.output).tensor()->type.dtype);
    if (!several) return;
    for_input_ = bsym.arg("for_input").boolean();
    for_weight_ = bsym.arg("for_weight").boolean();
    for_bias_ = bsym.arg("for_bias").boolean();
  }

  void run(exec::Slot* slots) const override {
    const at::AutoDispatchBelowADInplaceOrView guard;
    const at::Tensor x = tensor(slots, input_, dtype_), w = tensor(slots, weight_, dtype_);
    const at::Tensor y = tensor(slots, classes_, at::kLong);
    kernels::LinearCrossEntropy l;
    l.rows = x.size(0);
    l.features = x.size(1);
    l.classes = w.size(0);
    l.input = {x.const_data_ptr(), element_, x.stride(0), x.stride(1)};
    l.weight = {w.const_data_ptr(), element_, w.stride(0), w.stride(1)};
    at::Tensor b;
    if (has_bias_) {
      b = tensor(slots, bias_, dtype_);
      l.bias = {b.const_data_ptr(), element_, 0, b.size(0) == 1 ? 0 : b.stride(0)};
    }
    l.target = y.const_data_ptr<int64_t>();
    l.target_stride = y.stride(0);
    l.ignored = ignored_;
    l.mean = mean_;
    check_targets(l);
    const auto gradient = [&](bool wanted, const at::Tensor& of, float** data) {
      if (!wanted) return at::Tensor();
      at::Tensor out = at::detail::empty_cpu(of.sizes(), at::kFloat);
      *data = out.mutable_data_ptr<float>();
      return out;
    };
    at::Tensor input = gradient(for_input_, x, &l.input_gradient);
    at::Tensor weight = gradient(for_weight_, w, &l.weight_gradient);
    at::Tensor bias = gradient(for_bias_, b, &l.bias_gradient);
    // A tensor, as its memory is recycled.
    const at::Tensor scores = at::detail::empty_cpu({kernels::num_scores(l)}, at::kFloat);
    const double value = kernels::linear_cross_entropy(l, scores.mutable_data_ptr<float>(),
                                                       products_isa(), aten_threads());
    at::Tensor loss = at::scalar_tensor(value, at::TensorOptions(loss_dtype_));
    if (target_.kind == Target::Kind::kSlot) return target_.store(std::move(loss), slots);
    at::Tensor* all[] = {&loss, &input, &weight, &bias};
    for (size_t i = 0; i < target_.items.size(); ++i) {
      if (all[i]->defined()) target_.items[i].store(std::move(*all[i]), slots);
    }
  }

 private:
  static at::Tensor tensor(exec::Slot* slots, uint32_t slot, c10::ScalarType dtype) {
    const c10::IValue& value = value_of(slots[slot]);
    TORCH_CHECK_NOT_IMPLEMENTED(
        is_plain(value, dtype),
        "a loss that is computed with its linear layer, inside of a transform of torch.func; "
        "expected plain tensors. Jit the function without executors=['products', …]");
    return value.toTensor();
  }

  // Throws eager's error.
  static void check_targets(const kernels::LinearCrossEntropy& l) {
    for (int64_t i = 0; i < l.rows; ++i) {
      const int64_t own = l.target[i * l.target_stride];
      TORCH_CHECK_INDEX(own == l.ignored || (own >= 0 && own < l.classes), "Target ", own,
                        " is out of bounds.");
    }
  }

  Element element_;
  c10::ScalarType dtype_, loss_dtype_ = c10::ScalarType::Float;
  int64_t ignored_;
  bool mean_;
  bool has_bias_ = false, for_input_ = false, for_weight_ = false, for_bias_ = false;
  uint32_t input_ = 0, weight_ = 0, bias_ = 0, classes_ = 0;
  Target target_;
};

// Writes into the gradient where nobody else has it.
class ScaleKernel final : public exec::Kernel {
 public:
  ScaleKernel(const BoundSymbol& bsym, const exec::SlotOf& slot_of)
      : gradient_(slot_of(bsym.args[0].proxy())),
        factor_(slot_of(bsym.args[1].proxy())),
        result_(slot_of(bsym.output.proxy())),
        dtype_(to_scalar_type(bsym.output.tensor()->type.dtype)),
        last_(bsym.arg("last").boolean()) {}

  void run(exec::Slot* slots) const override {
    const at::Tensor& gradient = value_of(slots[gradient_]).toTensor();
    const at::Tensor& factor = value_of(slots[factor_]).toTensor();
    const bool is_own = last_ && is_plain(value_of(slots[gradient_]), dtype_) &&
                        is_plain(value_of(slots[factor_]), factor.scalar_type()) &&
                        gradient.use_count() == 1 && gradient.storage().use_count() == 1;
    if (!is_own) {
      value_of(slots[result_]) = at::mul(gradient, factor).to(dtype_);
      return;
    }
    at::Tensor own = gradient;
    if (factor.item<double>() != 1.0) own.mul_(factor);
    value_of(slots[result_]) = std::move(own);
  }

 private:
  uint32_t gradient_, factor_, result_;
  c10::ScalarType dtype_;
  bool last_;
};

}  // namespace

std::optional<Element> element_of(DType t) {
  switch (t) {
    case DType::kFloat32: return Element::kFloat32;
    case DType::kBFloat16: return Element::kBFloat16;
    case DType::kFloat16: return Element::kFloat16;
    default: return std::nullopt;
  }
}

kernels::Isa products_isa() {
  using codegen::cpu::IsaLevel;
  const IsaLevel level = codegen::cpu::current_isa().level;
  const kernels::Isa allowed = level == IsaLevel::kAvx512 ? kernels::Isa::kAvx512
                               : level == IsaLevel::kAvx2 ? kernels::Isa::kAvx2
                                                          : kernels::Isa::kNone;
  return std::min(allowed, kernels::best_isa());
}

kernels::Parallel aten_threads() {
  if (at::get_num_threads() == 1 || at::in_parallel_region()) return kernels::serial();
  return {[](int64_t units, int64_t grain, void (*work)(void*, int64_t, int64_t), void* data) {
            at::parallel_for(0, units, grain,
                             [&](int64_t begin, int64_t end) { work(data, begin, end); });
          },
          at::get_num_threads()};
}

bool is_plain(const c10::IValue& value, c10::ScalarType dtype) {
  constexpr c10::DispatchKeySet kOther(
      {c10::DispatchKey::Python, c10::DispatchKey::FuncTorchGradWrapper,
       c10::DispatchKey::FuncTorchBatched, c10::DispatchKey::Batched,
       c10::DispatchKey::Functionalize, c10::DispatchKey::Negative});
  if (!value.isTensor()) return false;
  const at::Tensor& t = value.toTensor();
  return t.defined() && t.scalar_type() == dtype && t.is_cpu() && t.layout() == at::kStrided &&
         !t.key_set().has_any(kOther);
}

bool is_linear_loss(const Symbol& symbol) {
  return &symbol == &ops::linear_cross_entropy || &symbol == &ops::linear_cross_entropy_forward ||
         &symbol == &ops::scaled_gradient;
}

bool gains_by_fused_loss(const TensorType& input, const TensorType& scores) {
  const auto element = element_of(input.dtype);
  if (!element || products_isa() == kernels::Isa::kNone || scores.dtype != DType::kFloat32)
    return false;
  return *element == Element::kFloat32 || !has_instructions_for(*element);
}

std::string linear_loss_refusal(const BoundSymbol& bsym) {
  if (products_isa() == kernels::Isa::kNone) return "it has loops for processors with AVX2 alone";
  const TensorType& t = bsym.args[0].tensor()->type;
  if (t.device.type != DeviceType::kCPU) return "it runs on the CPU";
  return element_of(t.dtype) ? "" : "it takes float32, bfloat16 and float16";
}

std::unique_ptr<exec::Kernel> linear_loss_kernel(const BoundSymbol& bsym,
                                                 const exec::SlotOf& slot_of) {
  if (bsym.symbol == &ops::scaled_gradient) return std::make_unique<ScaleKernel>(bsym, slot_of);
  return std::make_unique<LossKernel>(bsym, slot_of);
}

}  // namespace fulmen::bridge
