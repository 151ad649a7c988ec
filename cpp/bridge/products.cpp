// Matrix products by our own loops, where these are faster than ATen's.
#include "bridge/products.h"

#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/reshape.h>

#include <array>

#include "bridge/bridge.h"
#include "bridge/ivalue.h"
#include "bridge/scalar_type.h"
#include "ir/builder.h"
#include "kernels/product.h"
#include "ops/matmul.h"
#include "support/error.h"

namespace fulmen::bridge {
namespace {

using kernels::Element;
using kernels::Isa;
using kernels::Parallel;
using kernels::Product;

constexpr int64_t kFewRows = 8;  // see Note [Which products]

// What a bound symbol multiplies: positions of its arguments, -1 for none.
struct Form {
  int a = 0, b = 1, added = -1;
  bool transposed = false;  // b is given as (n, k)
};

std::optional<Form> form_of(const BoundSymbol& bsym) {
  const Symbol* s = bsym.symbol;
  if (s == &ops::linear) return Form{0, 1, bsym.args[2].is_tensor() ? 2 : -1, true};
  if (s == &ops::mm || s == &ops::bmm || s == &ops::matmul || s == &ops::mv) return Form{};
  if (s == &ops::addmm) return Form{1, 2, 0};
  return std::nullopt;
}

bool is_number_one(const Arg& a) {
  return (a.kind() == Arg::Kind::kInt && a.integer() == 1) ||
         (a.kind() == Arg::Kind::kFloat && a.real() == 1);
}

const TensorType& type_at(const BoundSymbol& bsym, int i) {
  return bsym.args[static_cast<size_t>(i)].tensor()->type;
}

// The sizes of one product, and how many of them there are.
struct Sizes {
  int64_t batch = 1, m = 1, n = 1, k = 1;
};

Sizes sizes_of(const BoundSymbol& bsym, const Form& form) {
  const TensorType &a = type_at(bsym, form.a), &b = type_at(bsym, form.b);
  Sizes s;
  s.k = a.shape.back().value();
  s.n = b.ndim() == 1 ? 1 : b.shape[form.transposed ? 0 : b.ndim() - 1].value();
  int64_t all = 1;
  for (const Dim d : bsym.output.tensor()->type.shape) all *= d.value();
  if (b.ndim() > 2) {
    s.m = a.ndim() == 1 ? 1 : a.shape[a.ndim() - 2].value();
    s.batch = s.m * s.n == 0 ? 0 : all / (s.m * s.n);
  } else {
    s.m = s.n == 0 ? 0 : all / s.n;
  }
  return s;
}

// Note [Which products]
// float16 and bfloat16 without instructions for them: all, as PyTorch multiplies them element by
// element, 5 to 50 times slower than float32. float32 on AMD's processors with AVX-512: all, as the
// loops reach 0.9 to 0.95 of the peak of Zen 4 and the library 0.77 to 0.88. Elsewhere those with
// few rows, or few columns: they are bound by how fast the other operand is read, which ATen packs
// before it multiplies (with AVX2 alone the loops are 0.97 of the library's time on larger ones on
// Zen 4, and unmeasured on others).
std::string reason_to_leave(const Sizes& s, Element e, Isa isa) {
  if (isa == Isa::kNone) return "it has loops for processors with AVX2 alone";
  if (e != Element::kFloat32) {
    return has_instructions_for(e) ? "PyTorch has kernels for this dtype on this processor" : "";
  }
  static const bool amd = __builtin_cpu_is("amd");
  if ((amd && isa == Isa::kAvx512) || std::min(s.m, s.n) <= kFewRows) return "";
  return "ATen is as fast on more than a few rows";
}

kernels::Operand operand(const at::Tensor& t, Element e, int64_t row, int64_t column) {
  return {t.const_data_ptr(), e, row, column};
}

class ProductKernel final : public exec::Kernel {
 public:
  ProductKernel(const BoundSymbol& bsym, const Form& form, const exec::SlotOf& slot_of, Isa isa,
                std::unique_ptr<exec::Kernel> other)
      : isa_(isa), transposed_(form.transposed), other_(std::move(other)) {
    const auto slot = [&](int i) { return slot_of(bsym.args[static_cast<size_t>(i)].proxy()); };
    a_ = slot(form.a);
    b_ = slot(form.b);
    has_added_ = form.added >= 0;
    if (has_added_) added_ = slot(form.added);
    const TensorType& out = bsym.output.tensor()->type;
    result_ = slot_of(bsym.output.proxy());
    element_ = *element_of(out.dtype);
    dtype_ = to_scalar_type(out.dtype);
    for (const Dim d : out.shape) shape_.push_back(d.value());
    sizes_ = sizes_of(bsym, form);
  }

  void run(exec::Slot* slots) const override {
    const c10::IValue &a = value_of(slots[a_]), &b = value_of(slots[b_]);
    const c10::IValue* added = has_added_ ? &value_of(slots[added_]) : nullptr;
    if (!is_plain(a, dtype_) || !is_plain(b, dtype_) || (added && !is_plain(*added, dtype_)))
      return other_->run(slots);
    at::Tensor out = at::detail::empty_cpu(shape_, dtype_);
    if (out.numel() > 0) {
      const at::AutoDispatchBelowADInplaceOrView guard;
      compute(a.toTensor(), b.toTensor(), added ? &added->toTensor() : nullptr, out);
    }
    value_of(slots[result_]) = std::move(out);
  }

 private:
  void compute(const at::Tensor& a, const at::Tensor& b, const at::Tensor* added,
               const at::Tensor& out) const {
    Product p;
    p.m = sizes_.m;
    p.n = sizes_.n;
    p.k = sizes_.k;
    p.out = {out.mutable_data_ptr(), element_, p.n, 1};
    if (b.dim() > 2) return compute_batch(p, a, b);
    // All rows of `a`, whatever its rank.
    const at::Tensor rows = a.dim() == 2 ? a : at::reshape(a, {p.m, p.k});
    p.a = operand(rows, element_, rows.stride(0), rows.stride(1));
    p.b = b.dim() == 1  ? operand(b, element_, b.stride(0), 0)
          : transposed_ ? operand(b, element_, b.stride(1), b.stride(0))
                        : operand(b, element_, b.stride(0), b.stride(1));
    if (added) {
      const int64_t rank = added->dim();
      const auto stride = [&](int64_t d) {
        return d < 0 || added->size(d) == 1 ? 0 : added->stride(d);
      };
      p.added = operand(*added, element_, stride(rank - 2), stride(rank - 1));
    }
    kernels::multiply(p, isa_, aten_threads());
  }

  void compute_batch(const Product& first, const at::Tensor& a, const at::Tensor& b) const {
    const auto outer = static_cast<size_t>(b.dim() > a.dim() ? b.dim() - 2 : a.dim() - 2);
    std::vector<int64_t> full(shape_.begin(), shape_.begin() + static_cast<int64_t>(outer));
    const auto expanded = [&](const at::Tensor& t, int64_t rows, int64_t columns) {
      std::vector<int64_t> sizes = full;
      sizes.push_back(rows);
      sizes.push_back(columns);
      return t.expand(sizes);
    };
    const at::Tensor x = expanded(a, first.m, first.k), y = expanded(b, first.k, first.n);
    const auto dim = static_cast<int64_t>(outer);
    const auto whole = [&](const at::Tensor& t) {
      return operand(t, element_, t.stride(dim), t.stride(dim + 1));
    };
    Product base = first;
    base.a = whole(x);
    base.b = whole(y);
    const auto one = [&](int64_t index, const Parallel& parallel) {
      Product p = base;
      int64_t offset_a = 0, offset_b = 0, rest = index;
      for (size_t d = outer; d-- > 0;) {
        const int64_t i = rest % full[d];
        rest /= full[d];
        offset_a += i * x.stride(static_cast<int64_t>(d));
        offset_b += i * y.stride(static_cast<int64_t>(d));
      }
      const int64_t size = kernels::size_of(element_);
      p.a.data = static_cast<const char*>(base.a.data) + offset_a * size;
      p.b.data = static_cast<const char*>(base.b.data) + offset_b * size;
      p.out.data = static_cast<char*>(base.out.data) + index * p.m * p.n * size;
      kernels::multiply(p, isa_, parallel);
    };
    const Parallel parallel = aten_threads();
    const int64_t work = 2 * base.m * base.n * base.k + base.n * base.k;
    if (parallel.threads == 1 || sizes_.batch < parallel.threads) {
      for (int64_t i = 0; i < sizes_.batch; ++i) one(i, parallel);
      return;
    }
    at::parallel_for(0, sizes_.batch, kWorkPerPart / (work + 1) + 1,
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i = begin; i < end; ++i) one(i, kernels::serial());
                     });
  }

  static constexpr int64_t kWorkPerPart = 1 << 20;

  Isa isa_;
  uint32_t a_ = 0, b_ = 0, added_ = 0, result_ = 0;
  bool has_added_ = false;
  const bool transposed_;
  Element element_;
  c10::ScalarType dtype_;
  std::vector<int64_t> shape_;
  Sizes sizes_;
  std::unique_ptr<exec::Kernel> other_;  // for tensors that are wrapped
};

class ProductsExecutor final : public exec::Executor {
 public:
  std::string_view name() const override { return "products"; }

  bool concerns(const Symbol& symbol) const override {
    return is_linear_loss(symbol) || &symbol == &ops::linear || &symbol == &ops::mm ||
           &symbol == &ops::bmm || &symbol == &ops::matmul || &symbol == &ops::addmm ||
           &symbol == &ops::mv;
  }

  static bool is_recorded(const exec::Offer& offer) {
    return offer.under_autograd && any_requires_grad(offer.bsym.output);
  }

  std::string refusal(const exec::Offer& offer) const override {
    const BoundSymbol& bsym = offer.bsym;
    if (is_linear_loss(*bsym.symbol)) return linear_loss_refusal(bsym);
    if (is_recorded(offer)) return "PyTorch's autograd records it";
    const std::optional<Form> form = form_of(bsym);
    if (!form) return "it multiplies matrices";
    if (bsym.symbol == &ops::addmm &&
        !(is_number_one(bsym.arg("beta")) && is_number_one(bsym.arg("alpha")))) {
      return "beta and alpha that are not 1";
    }
    const TensorType& out = bsym.output.tensor()->type;
    if (out.device.type != DeviceType::kCPU) return "it runs on the CPU";
    const auto element = element_of(out.dtype);
    if (!element) return "it takes float32, bfloat16 and float16";
    const TensorType &a = type_at(bsym, form->a), &b = type_at(bsym, form->b);
    if (b.ndim() == 1 && a.ndim() == 1) return "a product of vectors";
    for (const TensorType* t : {&a, &b, &out}) {
      for (const Dim d : t->shape) {
        if (!d.is_concrete()) return "sizes that are not known";
      }
    }
    return reason_to_leave(sizes_of(bsym, *form), *element, products_isa());
  }

  // PyTorch's autograd records the layer and the loss.
  std::optional<exec::Form> rewrite(const exec::Offer& offer) const override {
    if (!is_recorded(offer)) return std::nullopt;
    return exec::Form{offer.bsym.output, subsymbols(offer.ctx, offer.bsym)};
  }

  std::unique_ptr<exec::Kernel> compile(
      const BoundSymbol& bsym, const exec::SlotOf& slot_of,
      const std::shared_ptr<const exec::Compilation>& compilation) const override {
    if (is_linear_loss(*bsym.symbol)) return linear_loss_kernel(bsym, slot_of);
    return std::make_unique<ProductKernel>(bsym, *form_of(bsym), slot_of, products_isa(),
                                           aten_executor()->compile(bsym, slot_of, compilation));
  }
};

}  // namespace

bool has_instructions_for(Element e) {
  if (e == Element::kFloat32) return true;
  const auto ask = [](const char* name) {
    const auto op = c10::Dispatcher::singleton().findSchema({name, ""});
    if (!op) return false;
    torch::jit::Stack stack;
    op->callBoxed(stack);
    return stack.back().toBool();
  };
  static const bool bfloat = ask("mkldnn::_is_mkldnn_bf16_supported");
  static const bool half = ask("mkldnn::_is_mkldnn_fp16_supported");
  return e == Element::kBFloat16 ? bfloat : half;
}

exec::ExecutorPtr products_executor() {
  static const auto executor = std::make_shared<const ProductsExecutor>();
  return executor;
}

bool (*fuses_loss_for(const exec::Compilation& compilation))(const TensorType& input,
                                                             const TensorType& scores) {
  return compilation.find("products") ? gains_by_fused_loss : nullptr;
}

}  // namespace fulmen::bridge
