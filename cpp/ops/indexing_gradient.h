#pragma once

#include "ir/builder.h"

// Gradient rules of the rows in indexing.h, in the order of its lists.
namespace fulmen::ops {

Args gather_vjp(Call& in, const Arg& out, const Arg& grad);
Args take_vjp(Call& in, const Arg& out, const Arg& grad);
Args index_select_vjp(Call& in, const Arg& out, const Arg& grad);
Args index_vjp(Call& in, const Arg& out, const Arg& grad);

Args scatter_vjp(Call& in, const Arg& out, const Arg& grad);  // of a tensor or a number
Args scatter_add_vjp(Call& in, const Arg& out, const Arg& grad);
Args scatter_reduce_vjp(Call& in, const Arg& out, const Arg& grad);
Args index_add_vjp(Call& in, const Arg& out, const Arg& grad);
Args index_copy_vjp(Call& in, const Arg& out, const Arg& grad);
Args index_reduce_vjp(Call& in, const Arg& out, const Arg& grad);
Args index_fill_vjp(Call& in, const Arg& out, const Arg& grad);  // with a tensor or a number
Args index_put_vjp(Call& in, const Arg& out, const Arg& grad);
Args put_vjp(Call& in, const Arg& out, const Arg& grad);
Args masked_fill_vjp(Call& in, const Arg& out, const Arg& grad);  // with a tensor or a number
Args masked_scatter_vjp(Call& in, const Arg& out, const Arg& grad);
Args select_scatter_vjp(Call& in, const Arg& out, const Arg& grad);
Args slice_scatter_vjp(Call& in, const Arg& out, const Arg& grad);
Args diagonal_scatter_vjp(Call& in, const Arg& out, const Arg& grad);
Args as_strided_scatter_vjp(Call& in, const Arg& out, const Arg& grad);
Args copy_vjp(Call& in, const Arg& out, const Arg& grad);
Args fill_vjp(Call& in, const Arg& out, const Arg& grad);  // with a tensor or a number

}  // namespace fulmen::ops
