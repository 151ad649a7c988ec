#pragma once

#include "ir/builder.h"

// Gradient rules of the rows in fft.h, over one dimension or several.
namespace fulmen::ops {

Args fft_vjp(Call& in, const Arg& out, const Arg& grad);
Args ifft_vjp(Call& in, const Arg& out, const Arg& grad);
Args rfft_vjp(Call& in, const Arg& out, const Arg& grad);
Args irfft_vjp(Call& in, const Arg& out, const Arg& grad);
Args hfft_vjp(Call& in, const Arg& out, const Arg& grad);
Args ihfft_vjp(Call& in, const Arg& out, const Arg& grad);

}  // namespace fulmen::ops
