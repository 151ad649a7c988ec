#include "ops/autocast.h"

#include <algorithm>
#include <unordered_map>

#include "ir/arg.h"
#include "support/error.h"

namespace fulmen::ops {
namespace {

struct Policies {
  CastPolicy policy;
  std::string_view ops;  // of ATen, separated by spaces
};

// PyTorch's lists, by the operators that have a kernel for autocast (any of their overloads).
constexpr Policies kCpu[] = {
    {CastPolicy::kLower,
     "_addmm_activation _convolution _native_multi_head_attention addbmm addmm baddbmm bmm conv1d "
     "conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d linalg_vecdot "
     "linear matmul mkldnn_rnn_layer mm prelu scaled_dot_product_attention"},
    {CastPolicy::kFloat32,
     "_grid_sampler_2d_cpu_fallback _lu_with_info adaptive_avg_pool3d adaptive_max_pool3d "
     "avg_pool3d binary_cross_entropy binary_cross_entropy_with_logits cdist cholesky "
     "cholesky_inverse cholesky_solve cosine_embedding_loss cross_entropy_loss ctc_loss "
     "fake_quantize_per_tensor_affine fft_fft fft_fft2 fft_fftn fft_hfft fft_ifft fft_ifft2 "
     "fft_ifftn fft_ihfft fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftn "
     "fractional_max_pool2d fractional_max_pool3d geqrf grid_sampler grid_sampler_2d "
     "grid_sampler_3d hinge_embedding_loss huber_loss inverse kl_div l1_loss linalg_cholesky "
     "linalg_cholesky_ex linalg_cond linalg_eig linalg_eigh linalg_eigvals linalg_eigvalsh "
     "linalg_householder_product linalg_inv linalg_inv_ex linalg_lstsq linalg_matrix_rank "
     "linalg_qr linalg_solve linalg_svd linalg_svdvals linalg_tensorinv linalg_tensorsolve "
     "lu_solve margin_ranking_loss max_pool3d max_unpool2d max_unpool3d mse_loss "
     "multi_margin_loss multilabel_margin_loss multilabel_margin_loss_forward nanquantile "
     "nll_loss nll_loss2d orgqr ormqr pinverse poisson_nll_loss polar prod qr quantile "
     "reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d replication_pad3d "
     "smooth_l1_loss soft_margin_loss stft svd trace triangular_solve triplet_margin_loss "
     "view_as_complex"},
    {CastPolicy::kPromote, "cat index_copy stack"},
};
constexpr Policies kCuda[] = {
    {CastPolicy::kLower,
     "_convolution _scaled_dot_product_flash_attention _thnn_fused_gru_cell "
     "_thnn_fused_lstm_cell addbmm addmm addmv addr baddbmm bmm chain_matmul conv1d conv2d conv3d "
     "conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d convolution cudnn_convolution "
     "cudnn_convolution_transpose einsum gru_cell linalg_multi_dot linalg_vecdot linear lstm_cell "
     "matmul mm mv prelu rnn_relu_cell rnn_tanh_cell scaled_dot_product_attention"},
    {CastPolicy::kFloat32,
     "_upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d "
     "_upsample_nearest_exact2d _upsample_nearest_exact3d acos asin "
     "binary_cross_entropy_with_logits cdist cosh cosine_embedding_loss cosine_similarity dist "
     "erfinv exp expm1 frobenius_norm group_norm hinge_embedding_loss huber_loss kl_div l1_loss "
     "layer_norm log log10 log1p log2 logsumexp margin_ranking_loss mse_loss multi_margin_loss "
     "multilabel_margin_loss native_layer_norm nll_loss nll_loss2d nuclear_norm pdist "
     "poisson_nll_loss pow reciprocal renorm rms_norm rsqrt sinh smooth_l1_loss soft_margin_loss "
     "softplus tan triplet_margin_loss upsample_bicubic2d upsample_bilinear2d upsample_linear1d "
     "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d"},
    {CastPolicy::kOptionalFloat32,
     "cumprod cumsum linalg_matrix_norm linalg_vector_norm log_softmax prod softmax sum"},
    {CastPolicy::kPromote,
     "addcdiv addcmul atan2 bilinear cross dot grid_sampler index_put scatter_add tensordot vdot"},
    // The norm of some overloads is computed in float32; binary_cross_entropy is refused.
    {CastPolicy::kInside, "binary_cross_entropy norm"},
};

// Rows whose ATen operator has no such kernel itself, but reaches some. Those that reach one and
// cast nothing before it have its policy.
constexpr Policies kCpuComposites[] = {
    {CastPolicy::kFloat32, "grid_sample kl_div.batchmean nll_loss_nd"},
    {CastPolicy::kPromote, "column_stack dstack hstack vstack"},
    {CastPolicy::kInside, "bilinear einsum inner linalg_matrix_power linalg_norm tensordot"},
};
constexpr Policies kCudaComposites[] = {
    {CastPolicy::kFloat32,
     "cross_entropy_loss div.Scalar_Tensor interpolate kl_div.batchmean nll_loss_nd rdiv square"},
    {CastPolicy::kOptionalFloat32, "softmin"},
    {CastPolicy::kPromote, "grid_sample"},
    {CastPolicy::kInside,
     "inner linalg_matrix_power linalg_norm logdet nanmean normalize pairwise_distance"},
};

using Table = std::unordered_map<std::string_view, CastPolicy>;

template <class Visit>
void for_each_rule(std::span<const Policies> lists, Visit visit) {
  for (const Policies& list : lists) {
    std::string_view rest = list.ops;
    while (!rest.empty()) {
      const size_t space = std::min(rest.find(' '), rest.size());
      visit(CastRule{rest.substr(0, space), list.policy});
      rest.remove_prefix(std::min(space + 1, rest.size()));
    }
  }
}

Table make_table(std::span<const Policies> kernels, std::span<const Policies> composites) {
  Table table;
  const auto add = [&](const CastRule& r) { table.emplace(r.op, r.policy); };
  for_each_rule(kernels, add);
  for_each_rule(composites, add);
  return table;
}

// The ATen operator that a row is; the row's own name, overload and all, if it is none.
std::string_view aten_name(const Symbol& s) {
  if (s.aten == "-") return s.name();
  if (!s.aten.empty()) return s.aten.substr(0, s.aten.find('('));
  return std::string_view(s.name()).substr(0, s.name().find('.'));
}

std::string_view text_of(const Symbol& s, std::span<const Arg> args, std::string_view param) {
  const int i = s.info->schema.index(param);
  return i >= 0 && args[i].kind() == Arg::Kind::kString ? args[i].text() : std::string_view();
}

// Rows for which one argument decides.
CastPolicy by_argument(const Symbol& s, std::string_view name, std::span<const Arg> args,
                       DeviceType device, CastPolicy otherwise) {
  if (device == DeviceType::kCPU && name == "pad") {
    const std::string_view mode = text_of(s, args, "mode");
    return mode == "reflect" || mode == "replicate" ? CastPolicy::kInside : otherwise;
  }
  if (device == DeviceType::kCPU && name == "norm" && text_of(s, args, "p") == "nuc")
    return CastPolicy::kInside;
  if (name == "interpolate" && text_of(s, args, "mode") == "area") return CastPolicy::kNone;
  return otherwise;
}

}  // namespace

CastPolicy cast_policy(const Symbol& symbol, std::span<const Arg> args, DeviceType device) {
  static const Table* const cpu = new Table(make_table(kCpu, kCpuComposites));
  static const Table* const cuda = new Table(make_table(kCuda, kCudaComposites));
  if (device == DeviceType::kMeta || symbol.has(kInplace)) return CastPolicy::kNone;
  const Table& table = device == DeviceType::kCUDA ? *cuda : *cpu;
  const std::string_view name = aten_name(symbol);
  const auto it = table.find(name);
  return by_argument(symbol, name, args, device,
                     it == table.end() ? CastPolicy::kNone : it->second);
}

std::vector<CastRule> cast_rules(DeviceType device) {
  std::vector<CastRule> rules;
  for_each_rule(device == DeviceType::kCUDA ? std::span<const Policies>(kCuda) : kCpu,
                [&](const CastRule& r) { rules.push_back(r); });
  std::sort(rules.begin(), rules.end(),
            [](const CastRule& a, const CastRule& b) { return a.op < b.op; });
  return rules;
}

std::string_view policy_name(CastPolicy policy) {
  switch (policy) {
    case CastPolicy::kNone: return "none";
    case CastPolicy::kLower: return "lower_precision_fp";
    case CastPolicy::kFloat32: return "fp32";
    case CastPolicy::kPromote: return "promote";
    case CastPolicy::kOptionalFloat32: return "fp32_set_opt_dtype";
    case CastPolicy::kInside: return "inside";
  }
  internal_error("unknown policy");
}

}  // namespace fulmen::ops
