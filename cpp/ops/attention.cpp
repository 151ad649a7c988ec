#include "ops/attention.h"

#include <cmath>

#include "ops/arith.h"
#include "ops/check.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/matmul.h"
#include "ops/meta.h"
#include "ops/row.h"
#include "ops/shape.h"
#include "ops/softmax.h"

namespace fulmen::ops {
namespace {

template <class... Parts>
[[noreturn]] void refuse(const Call& in, const Parts&... parts) {
  in.fail(ErrorKind::kRuntime, "attention-shape", parts...);
}

struct Operands {
  const TensorProxy& query;
  const TensorProxy& key;
  const TensorProxy& value;
  const TensorProxy* mask;
};

Operands operands_of(const Call& in) {
  return {in.tensor("query"), in.tensor("key"), in.tensor("value"), in.opt_tensor("attn_mask")};
}

int64_t size(const TensorProxy& t, int64_t from_end) {
  return t.type.shape[t.type.ndim() - static_cast<size_t>(from_end)].value();
}

void check_operands(const Call& in, const Operands& o) {
  check::same_dtype(in, {&o.query, &o.key, &o.value});
  for (const TensorProxy* t : {&o.query, &o.key, &o.value}) {
    if (t->type.ndim() < 2) {
      refuse(in, "query, key and value must have at least 2 dimensions; got shape ",
             meta::shape_text(t->type.shape));
    }
  }
  meta::require(in, o.query.type.dtype, meta::kFloats);
  if (size(o.query, 1) != size(o.key, 1)) {
    refuse(in, "query of shape ", meta::shape_text(o.query.type.shape), " and key of shape ",
           meta::shape_text(o.key.type.shape), " must have the same last size");
  }
  if (size(o.key, 2) != size(o.value, 2)) in.unsupported("key and value of different lengths");
  if (!o.mask) return;
  const DType t = o.mask->type.dtype;
  if (t != DType::kBool && t != DType::kFloat32 && t != o.query.type.dtype) {
    in.fail(ErrorKind::kRuntime, "dtype-mismatch",
            "attn_mask must be bool, float32 or of the query's dtype; got ", name(t), " for ",
            name(o.query.type.dtype));
  }
  if (o.mask->type.ndim() < 2) in.unsupported("a mask of less than 2 dimensions");
}

bool one_or(int64_t size, int64_t expected) { return size == 1 || size == expected; }

bool takes_flash(const Call& in, const Operands& o) {
  if (in.real("dropout_p") != 0) return false;
  for (const TensorProxy* t : {&o.query, &o.key, &o.value}) {
    if (t->type.ndim() != 4) return false;
    if (!(t->type.strides.back() == Dim(1))) return false;
  }
  const int64_t length = size(o.query, 2), others = size(o.key, 2);
  if (length == 0 || others == 0 || size(o.query, 4) == 0) return false;
  if (size(o.query, 1) != size(o.value, 1)) return false;
  if (size(o.query, 4) != size(o.key, 4) || size(o.query, 4) != size(o.value, 4)) return false;
  const int64_t heads = size(o.query, 3);
  if (size(o.key, 3) != size(o.value, 3)) return false;
  if (heads != size(o.key, 3) && !in.flag("enable_gqa")) return false;
  if (!o.mask) return true;
  if (o.mask->type.requires_grad) return false;
  if (!one_or(size(*o.mask, 1), others) || !one_or(size(*o.mask, 2), length)) return false;
  if (o.mask->type.ndim() == 2) return true;
  return o.mask->type.ndim() == 4 && one_or(size(*o.mask, 3), heads) &&
         one_or(size(*o.mask, 4), size(o.query, 4));
}

Arg attention_meta(Call& in, bool dropout) {
  const Operands o = operands_of(in);
  if (dropout != (in.real("dropout_p") != 0)) in.unsupported("dropout_p");
  check_operands(in, o);
  TensorType out;
  out.dtype = o.query.type.dtype;
  out.device = check::device(in, {&o.query, &o.key, &o.value, o.mask});
  if (out.device.type != DeviceType::kCPU)
    in.unsupported("a device whose kernels choose the layout");
  const bool gqa = in.flag("enable_gqa");
  if (gqa) {
    for (const TensorProxy* t : {&o.query, &o.key, &o.value}) {
      if (t->type.ndim() < 3) in.unsupported("enable_gqa without heads");
    }
    const int64_t heads = size(o.query, 3);
    if (size(o.key, 3) == 0 || heads % size(o.key, 3) != 0 || size(o.value, 3) == 0 ||
        heads % size(o.value, 3) != 0) {
      refuse(in, "the number of heads in key and value must divide that in query; got ",
             size(o.key, 3), " and ", heads);
    }
  }
  if (takes_flash(in, o)) {
    out.shape = o.query.type.shape;
    out.strides = meta::preserved_strides(o.query.type);
    return in.make(std::move(out));
  }
  if (o.mask && in.flag("is_causal")) {
    refuse(in, "explicit attn_mask should not be set when is_causal=True");
  }
  const size_t batch_q = o.query.type.ndim() - 2, batch_k = o.key.type.ndim() - 2,
               batch_v = o.value.type.ndim() - 2;
  Dims key_batch(std::span<const Dim>(o.key.type.shape.data(), batch_k));
  Dims value_batch(std::span<const Dim>(o.value.type.shape.data(), batch_v));
  if (gqa) {
    key_batch.back() = Dim(size(o.query, 3));
    value_batch.back() = Dim(size(o.query, 3));
  }
  Dims scores =
      meta::broadcast(in, std::span<const Dim>(o.query.type.shape.data(), batch_q), key_batch);
  scores.push_back(Dim(size(o.query, 2)));
  scores.push_back(Dim(size(o.key, 2)));
  if (o.mask) {
    // Added in place: the mask must not broaden the scores.
    const Dims wide = meta::broadcast(in, scores, o.mask->type.shape);
    if (!(wide == scores)) in.unsupported("a mask larger than the scores");
  }
  scores.resize(scores.size() - 2);
  out.shape = meta::broadcast(in, scores, value_batch);
  out.shape.push_back(Dim(size(o.query, 2)));
  out.shape.push_back(Dim(size(o.value, 1)));
  out.strides = contiguous_strides(out.shape);
  return in.make(std::move(out));
}

}  // namespace

bool attention_takes_flash(const Call& in) { return takes_flash(in, operands_of(in)); }

constinit const Symbol scaled_dot_product_attention{
    .schema =
        "scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, "
        "Tensor? attn_mask=None, float dropout_p=0.0, bool is_causal=False, *, "
        "float? scale=None, bool enable_gqa=False) -> Tensor",
    .torch =
        "torch.nn.functional.scaled_dot_product_attention "
        "torch._C._nn.scaled_dot_product_attention",
    .tags = kPure | kMatmul,
    .meta = [](Call& in) { return attention_meta(in, false); },
    .augmented = attention_steps,
};
constinit const Symbol scaled_dot_product_attention_dropout{
    .schema =
        "scaled_dot_product_attention.dropout(Tensor query, Tensor key, Tensor value, "
        "Tensor? attn_mask=None, float dropout_p=0.0, bool is_causal=False, *, "
        "float? scale=None, bool enable_gqa=False) -> Tensor",
    .torch =
        "torch.nn.functional.scaled_dot_product_attention "
        "torch._C._nn.scaled_dot_product_attention",
    .tags = kRandom | kMatmul,
    .meta = [](Call& in) { return attention_meta(in, true); },
    .augmented = attention_steps,
};

std::span<const Symbol* const> attention_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_ATTENTION_OPS(X) FULMEN_ATTENTION_BACKWARD_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
