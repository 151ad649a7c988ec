#pragma once

#include <ATen/core/ivalue.h>

#include <memory>
#include <optional>
#include <string>

#include "exec/kernel.h"
#include "ir/dtype.h"
#include "kernels/product.h"

// What the kernels of the products executor share.
namespace fulmen::bridge {

std::optional<kernels::Element> element_of(DType t);
// Whether PyTorch's own products of such elements use instructions for them.
bool has_instructions_for(kernels::Element e);
// What the processor has, or FULMEN_ISA allows.
kernels::Isa products_isa();
// ATen's threads, or this one inside of them.
kernels::Parallel aten_threads();
// Whether it is a tensor of this type whose elements are in memory as they are.
bool is_plain(const c10::IValue& value, c10::ScalarType dtype);

// Whether the loss of such scores, made of such an input, takes less time and memory together with
// its layer. Scores of half types are small enough to keep.
bool gains_by_fused_loss(const TensorType& input, const TensorType& scores);
// The symbols of ops/linear_loss.h.
bool is_linear_loss(const Symbol& symbol);
std::string linear_loss_refusal(const BoundSymbol& bsym);
std::unique_ptr<exec::Kernel> linear_loss_kernel(const BoundSymbol& bsym,
                                                 const exec::SlotOf& slot_of);

}  // namespace fulmen::bridge
