#pragma once

#include "ir/builder.h"

// Gradient rules of the rows in shape.h, in the order of its lists.
namespace fulmen::ops {

Args expand_vjp(Call& in, const Arg& out, const Arg& grad);
Args broadcast_tensors_vjp(Call& in, const Arg& out, const Arg& grad);
Args meshgrid_vjp(Call& in, const Arg& out, const Arg& grad);
Args as_strided_vjp(Call& in, const Arg& out, const Arg& grad);
Args complex_part_vjp(Call& in, const Arg& out, const Arg& grad);  // real and imag

Args permute_vjp(Call& in, const Arg& out, const Arg& grad);
Args matrix_transpose_vjp(Call& in, const Arg& out, const Arg& grad);
Args reverse_dims_vjp(Call& in, const Arg& out, const Arg& grad);

Args select_vjp(Call& in, const Arg& out, const Arg& grad);
Args slice_vjp(Call& in, const Arg& out, const Arg& grad);
Args narrow_vjp(Call& in, const Arg& out, const Arg& grad);
// Pieces along `dim`, or along the dimension that the row's name says.
Args split_vjp(Call& in, const Arg& out, const Arg& grad);
Args unbind_vjp(Call& in, const Arg& out, const Arg& grad);
Args unfold_vjp(Call& in, const Arg& out, const Arg& grad);
Args diagonal_vjp(Call& in, const Arg& out, const Arg& grad);

Args cat_vjp(Call& in, const Arg& out, const Arg& grad);
Args stack_vjp(Call& in, const Arg& out, const Arg& grad);

Args repeat_vjp(Call& in, const Arg& out, const Arg& grad);
Args roll_vjp(Call& in, const Arg& out, const Arg& grad);
Args diag_vjp(Call& in, const Arg& out, const Arg& grad);
Args pad_vjp(Call& in, const Arg& out, const Arg& grad);
Args constant_pad_vjp(Call& in, const Arg& out, const Arg& grad);

}  // namespace fulmen::ops
