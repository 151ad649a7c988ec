#include "ops/check.h"

#include "ops/meta.h"

namespace fulmen::check {

bool equal(const Call& in, Dim a, Dim b) {
  if (a == b) return true;
  if (!a.is_concrete() || !b.is_concrete()) in.unsupported("comparison of symbolic sizes");
  return false;
}

bool equal(const Call& in, std::span<const Dim> a, std::span<const Dim> b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!equal(in, a[i], b[i])) return false;
  }
  return true;
}

bool equal(const Call& in, std::span<const Dim> a, std::span<const int64_t> b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!equal(in, a[i], Dim(b[i]))) return false;
  }
  return true;
}

void rank(const Call& in, std::string_view param, size_t ndim) {
  const TensorType& t = in.type(param);
  if (t.ndim() == ndim) return;
  in.fail(ErrorKind::kRuntime, "rank", param, " must have ", static_cast<int64_t>(ndim),
          " dimensions; got shape ", meta::shape_text(t.shape));
}

void same_dtype(const Call& in, std::initializer_list<const TensorProxy*> tensors) {
  const TensorProxy* first = nullptr;
  for (const TensorProxy* t : tensors) {
    if (!t) continue;
    if (!first) first = t;
    if (t->type.dtype == first->type.dtype) continue;
    in.fail(ErrorKind::kRuntime, "dtype-mismatch", "tensors must have the same dtype; got ",
            name(first->type.dtype), " and ", name(t->type.dtype));
  }
}

void no_grad_needed(const Call& in, std::string_view param) {
  const TensorProxy* t = in.opt_tensor(param);
  if (!t || !t->type.requires_grad || !const_cast<Call&>(in).builder().grad_enabled) return;
  in.fail(ErrorKind::kRuntime, "not-differentiable",
          "not differentiable with respect to argument '", param,
          "'; this input cannot have requires_grad True");
}

Device device(const Call& in, std::initializer_list<const TensorProxy*> tensors) {
  SmallVec<const TensorProxy*, 8> given;
  for (const TensorProxy* t : tensors) {
    if (t) given.push_back(t);
  }
  return meta::common_device(in, given);
}

}  // namespace fulmen::check
