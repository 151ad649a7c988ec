#pragma once

#include "ir/builder.h"

// Gradient rules of reductions, scans, order statistics and moments.
namespace fulmen::ops {

Args nansum_vjp(Call& in, const Arg& out, const Arg& grad);
Args prod_vjp(Call& in, const Arg& out, const Arg& grad);
Args vector_norm_vjp(Call& in, const Arg& out, const Arg& grad);

Args cumsum_vjp(Call& in, const Arg& out, const Arg& grad);
Args cumprod_vjp(Call& in, const Arg& out, const Arg& grad);
Args logcumsumexp_vjp(Call& in, const Arg& out, const Arg& grad);
Args cummax_vjp(Call& in, const Arg& out, const Arg& grad);

// Of the elements that `out`'s indices name along `dim`.
Args selected_vjp(Call& in, const Arg& out, const Arg& grad);
Args extremum_vjp(Call& in, const Arg& out, const Arg& grad);  // amax and amin
Args middle_vjp(Call& in, const Arg& out, const Arg& grad);    // max, min and median of all

Args var_vjp(Call& in, const Arg& out, const Arg& grad);
Args std_vjp(Call& in, const Arg& out, const Arg& grad);
Args var_mean_vjp(Call& in, const Arg& out, const Arg& grad);
Args std_mean_vjp(Call& in, const Arg& out, const Arg& grad);

}  // namespace fulmen::ops
