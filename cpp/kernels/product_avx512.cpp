#include "kernels/product_loops.h"

#if defined(__x86_64__)

#include <immintrin.h>

#pragma GCC push_options
// In the compiler's own header.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")

namespace fulmen::kernels {
namespace {

using Vec = __m512;
constexpr int kLanes = 16, kRows = 8, kDotShorts = 4, kMostDotShorts = 32, kSpreadShorts = 4;

inline Vec zero() { return _mm512_setzero_ps(); }
inline Vec splat(float v) { return _mm512_set1_ps(v); }
inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline void store_vec(float* p, Vec v) { _mm512_storeu_ps(p, v); }
inline void stream(float* p, Vec v) { _mm512_stream_ps(p, v); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec plus(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec minus(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec times(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
// NaN if either is.
inline Vec larger(Vec a, Vec b) {
  const __mmask16 is_nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  return _mm512_mask_mov_ps(_mm512_max_ps(a, b), is_nan, a);
}
inline Vec rounded(Vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT); }
// v · 2^n, where v is about e^(x - n ln 2).
inline Vec times_power_of_two(Vec v, Vec n, Vec x) {
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, splat(-87.33654f), _CMP_NLT_UQ), v, n);
}

template <Element E>
inline Vec widened(const char* p) {
  if constexpr (E == Element::kFloat32) return load(reinterpret_cast<const float*>(p));
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  if constexpr (E == Element::kFloat16) return _mm512_cvtph_ps(bits);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

template <Element E>
inline void narrow(Vec v, char* p) {
  if constexpr (E == Element::kFloat32) {
    store_vec(reinterpret_cast<float*>(p), v);
    return;
  }
  __m256i out;
  if constexpr (E == Element::kFloat16) {
    out = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
  } else {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_srli_epi32(
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    out = _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, is_nan, _mm512_set1_epi32(0x7fc0)));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), out);
}

inline __m256 halves_of(Vec v) {
  return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}
inline __m128 sum_of_four(Vec a, Vec b, Vec c, Vec d) {
  const __m256 ab = _mm256_hadd_ps(halves_of(a), halves_of(b));
  const __m256 cd = _mm256_hadd_ps(halves_of(c), halves_of(d));
  const __m256 all = _mm256_hadd_ps(ab, cd);
  return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

// Eight elements, as float32.
template <Element E>
inline void widen_rows(const char* p, float* to) {
  if constexpr (E == Element::kFloat32) {
    _mm256_storeu_ps(to, _mm256_loadu_ps(reinterpret_cast<const float*>(p)));
    return;
  }
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  if constexpr (E == Element::kFloat16) {
    _mm256_storeu_ps(to, _mm256_cvtph_ps(bits));
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
}

inline Vec low(Vec a, Vec b) {
  return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}
inline Vec high(Vec a, Vec b) {
  return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}
// A square of vectors: pairs of floats, of doubles, then quarters.
[[gnu::always_inline]] inline void transpose(Vec (&v)[16]) {
  Vec w[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    w[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
    w[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    v[i] = low(w[i], w[i + 2]);
    v[i + 1] = high(w[i], w[i + 2]);
    v[i + 2] = low(w[i + 1], w[i + 3]);
    v[i + 3] = high(w[i + 1], w[i + 3]);
  }
  // v[4 q + j] holds, of each quarter l, rows 4 q to 4 q + 3 of column 4 l + j.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const Vec a = _mm512_shuffle_f32x4(v[j], v[4 + j], 0x44);
    const Vec b = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0x44);
    const Vec c = _mm512_shuffle_f32x4(v[j], v[4 + j], 0xee);
    const Vec d = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0xee);
    w[j] = _mm512_shuffle_f32x4(a, b, 0x88);
    w[4 + j] = _mm512_shuffle_f32x4(a, b, 0xdd);
    w[8 + j] = _mm512_shuffle_f32x4(c, d, 0x88);
    w[12 + j] = _mm512_shuffle_f32x4(c, d, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) v[i] = w[i];
}

#include "kernels/product_loops.inc"

}  // namespace

const Loops* avx512_loops() { return &kLoops; }

}  // namespace fulmen::kernels

#pragma GCC pop_options

#else

namespace fulmen::kernels {
const Loops* avx512_loops() { return nullptr; }
}  // namespace fulmen::kernels

#endif
