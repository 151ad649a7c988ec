#pragma once

#include <initializer_list>

#include "ir/builder.h"

// Checks of arguments that several families share. All raise eager's RuntimeError.
namespace fulmen::check {

// Whether two sizes are equal. Symbolic sizes that are not the same expression may be either:
// Unsupported.
bool equal(const Call& in, Dim a, Dim b);
bool equal(const Call& in, std::span<const Dim> a, std::span<const Dim> b);
bool equal(const Call& in, std::span<const Dim> a, std::span<const int64_t> b);
void rank(const Call& in, std::string_view param, size_t ndim);
void same_dtype(const Call& in, std::initializer_list<const TensorProxy*> tensors);
// Refuses a tensor that requires grad where eager has no gradient for it. Null is accepted.
void no_grad_needed(const Call& in, std::string_view param);
// As meta::common_device, over tensors that may be null.
Device device(const Call& in, std::initializer_list<const TensorProxy*> tensors);

}  // namespace fulmen::check
