#include "ops/optimizer.h"

#include "ir/builder.h"
#include "ops/families.h"
#include "ops/meta.h"

namespace fulmen::ops {
namespace {

constexpr uint32_t kUpdate = kPure | kNonDifferentiable;

// A tensor as `t.clone()` would be.
Arg updated(Call& in, const TensorProxy& t) {
  TensorType type = t.type;
  type.strides = meta::preserved_strides(type);
  return in.make(std::move(type));
}

Arg updated_list(Call& in, const Arg& tensors) {
  Args items;
  for (const Arg& item : tensors.items()) {
    if (!item.is_tensor()) in.unsupported("a list of something else than tensors");
    items.push_back(updated(in, *item.tensor()));
  }
  return in.list(items);
}

// New values for the first `count` lists of tensors.
template <size_t count>
Arg updated_lists(Call& in) {
  Args results;
  for (size_t i = 0; i < count; ++i) results.push_back(updated_list(in, in[i]));
  return in.tuple(results);
}

Arg nothing(Call&) { return {}; }

}  // namespace

constinit const Symbol fused_adam{
    .schema =
        "_fused_adam(Tensor[] input, Tensor[] grads, Tensor[] exp_avgs, Tensor[] "
        "exp_avg_sqs, Tensor[] max_exp_avg_sqs, Tensor[] state_steps, *, Tensor|Scalar lr, "
        "float beta1, float beta2, float weight_decay, float eps, bool amsgrad, bool "
        "maximize, Tensor? grad_scale=None, Tensor? found_inf=None) -> (Tensor[], Tensor[], "
        "Tensor[], Tensor[], Tensor[])",
    .torch = "torch.ops.aten._fused_adam",
    .tags = kUpdate,
    .meta = updated_lists<5>,
};
constinit const Symbol fused_adam_{
    .schema =
        "_fused_adam_(Tensor![] input, Tensor![] grads, Tensor![] exp_avgs, Tensor![] "
        "exp_avg_sqs, Tensor![] max_exp_avg_sqs, Tensor[] state_steps, *, Tensor|Scalar lr, "
        "float beta1, float beta2, float weight_decay, float eps, bool amsgrad, bool "
        "maximize, Tensor? grad_scale=None, Tensor? found_inf=None) -> ()",
    .torch = "torch.ops.aten._fused_adam_",
    .tags = kInplace,
    .meta = nothing,
};
constinit const Symbol fused_adamw{
    .schema =
        "_fused_adamw(Tensor[] input, Tensor[] grads, Tensor[] exp_avgs, Tensor[] "
        "exp_avg_sqs, Tensor[] max_exp_avg_sqs, Tensor[] state_steps, *, Tensor|Scalar lr, "
        "float beta1, float beta2, float weight_decay, float eps, bool amsgrad, bool "
        "maximize, Tensor? grad_scale=None, Tensor? found_inf=None) -> (Tensor[], Tensor[], "
        "Tensor[], Tensor[], Tensor[])",
    .torch = "torch.ops.aten._fused_adamw",
    .tags = kUpdate,
    .meta = updated_lists<5>,
};
constinit const Symbol fused_adamw_{
    .schema =
        "_fused_adamw_(Tensor![] input, Tensor![] grads, Tensor![] exp_avgs, Tensor![] "
        "exp_avg_sqs, Tensor![] max_exp_avg_sqs, Tensor[] state_steps, *, Tensor|Scalar lr, "
        "float beta1, float beta2, float weight_decay, float eps, bool amsgrad, bool "
        "maximize, Tensor? grad_scale=None, Tensor? found_inf=None) -> ()",
    .torch = "torch.ops.aten._fused_adamw_",
    .tags = kInplace,
    .meta = nothing,
};
constinit const Symbol fused_sgd{
    .schema =
        "_fused_sgd(Tensor[] input, Tensor[] grads, Tensor[] momentum_buffer_list, *, float "
        "weight_decay, float momentum, Tensor|Scalar lr, float dampening, bool nesterov, "
        "bool maximize, bool is_first_step, Tensor? grad_scale=None, Tensor? found_inf=None) "
        "-> (Tensor[], Tensor[], Tensor[])",
    .torch = "torch.ops.aten._fused_sgd",
    .tags = kUpdate,
    .meta = updated_lists<3>,
};
constinit const Symbol fused_sgd_{
    .schema =
        "_fused_sgd_(Tensor![] input, Tensor![] grads, Tensor![] momentum_buffer_list, *, "
        "float weight_decay, float momentum, Tensor|Scalar lr, float dampening, bool "
        "nesterov, bool maximize, bool is_first_step, Tensor? grad_scale=None, Tensor? "
        "found_inf=None) -> ()",
    .torch = "torch.ops.aten._fused_sgd_",
    .tags = kInplace,
    .meta = nothing,
};
constinit const Symbol fused_adagrad{
    .schema =
        "_fused_adagrad(Tensor[] input, Tensor[] grads, Tensor[] state_sums, Tensor[] "
        "state_steps, *, Tensor|Scalar lr, float lr_decay, float weight_decay, float eps, "
        "bool maximize, Tensor? grad_scale=None, Tensor? found_inf=None) -> (Tensor[], "
        "Tensor[], Tensor[])",
    .torch = "torch.ops.aten._fused_adagrad",
    .tags = kUpdate,
    .meta = updated_lists<3>,
};
constinit const Symbol fused_adagrad_{
    .schema =
        "_fused_adagrad_(Tensor![] input, Tensor![] grads, Tensor![] state_sums, Tensor[] "
        "state_steps, *, Tensor|Scalar lr, float lr_decay, float weight_decay, float eps, "
        "bool maximize, Tensor? grad_scale=None, Tensor? found_inf=None) -> ()",
    .torch = "torch.ops.aten._fused_adagrad_",
    .tags = kInplace,
    .meta = nothing,
};

constinit const Symbol amp_check_and_unscale{
    .schema =
        "_amp_foreach_non_finite_check_and_unscale(Tensor[] input, Tensor found_inf, "
        "Tensor inv_scale) -> (Tensor[], Tensor)",
    .torch = "torch.ops.aten._amp_foreach_non_finite_check_and_unscale",
    .tags = kUpdate,
    .meta = [](Call& in) -> Arg {
      return in.tuple({updated_list(in, in[size_t{0}]), updated(in, in.tensor("found_inf"))});
    },
};
constinit const Symbol amp_update_scale{
    .schema =
        "_amp_update_scale(Tensor input, Tensor growth_tracker, Tensor found_inf, "
        "float scale_growth_factor, float scale_backoff_factor, int growth_interval) "
        "-> (Tensor, Tensor)",
    .torch = "torch.ops.aten._amp_update_scale",
    .tags = kUpdate,
    .meta = [](Call& in) -> Arg {
      return in.tuple({updated(in, in.tensor("input")), updated(in, in.tensor("growth_tracker"))});
    },
};

std::span<const Symbol* const> optimizer_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_OPTIMIZER_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
