#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of fft.cpp.
#define FULMEN_FFT_OPS(X)                                                                   \
  X(fft_fft)                                                                                \
  X(fft_ifft)                                                                               \
  X(fft_rfft)                                                                               \
  X(fft_irfft) X(fft_hfft) X(fft_ihfft) X(fft_fft2) X(fft_ifft2) X(fft_rfft2) X(fft_irfft2) \
      X(fft_fftn) X(fft_ifftn) X(fft_rfftn) X(fft_irfftn) X(fftshift) X(ifftshift)

#define X(name) extern const Symbol name;
FULMEN_FFT_OPS(X)
#undef X

}  // namespace fulmen::ops
