#pragma once

#include <span>

#include "ir/symbol.h"

namespace fulmen::ops {

// The rows of each family, in order; overloads of one name are tried in this order.
std::span<const Symbol* const> pointwise_family();
std::span<const Symbol* const> unary_family();
std::span<const Symbol* const> special_family();
std::span<const Symbol* const> power_family();
std::span<const Symbol* const> bitwise_family();
std::span<const Symbol* const> select_family();
std::span<const Symbol* const> activation_family();
std::span<const Symbol* const> comparison_family();
std::span<const Symbol* const> reduction_family();
std::span<const Symbol* const> statistics_family();
std::span<const Symbol* const> ordering_family();
std::span<const Symbol* const> scan_family();
std::span<const Symbol* const> softmax_family();
std::span<const Symbol* const> shape_family();
std::span<const Symbol* const> indexing_family();
std::span<const Symbol* const> matmul_family();
std::span<const Symbol* const> linalg_family();
std::span<const Symbol* const> fft_family();
std::span<const Symbol* const> conv_family();
std::span<const Symbol* const> pooling_family();
std::span<const Symbol* const> interpolate_family();
std::span<const Symbol* const> norm_family();
std::span<const Symbol* const> attention_family();
std::span<const Symbol* const> embedding_family();
std::span<const Symbol* const> embedding_bag_family();
std::span<const Symbol* const> recurrent_family();
std::span<const Symbol* const> composite_loss_family();
std::span<const Symbol* const> loss_family();
std::span<const Symbol* const> linear_loss_family();
std::span<const Symbol* const> random_family();
std::span<const Symbol* const> creation_family();
std::span<const Symbol* const> conversion_family();
std::span<const Symbol* const> state_family();
std::span<const Symbol* const> prologue_family();
std::span<const Symbol* const> control_family();
std::span<const Symbol* const> number_family();
std::span<const Symbol* const> replay_family();
std::span<const Symbol* const> optimizer_family();

}  // namespace fulmen::ops
