#include "kernels/product_loops.h"

#if defined(__x86_64__)

#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace fulmen::kernels {
namespace {

using Vec = __m256;
constexpr int kLanes = 8, kRows = 4, kDotShorts = 2, kMostDotShorts = 8, kSpreadShorts = 2;

inline Vec zero() { return _mm256_setzero_ps(); }
inline Vec splat(float v) { return _mm256_set1_ps(v); }
inline Vec load(const float* p) { return _mm256_loadu_ps(p); }
inline void store_vec(float* p, Vec v) { _mm256_storeu_ps(p, v); }
inline void stream(float* p, Vec v) { _mm256_stream_ps(p, v); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec plus(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec minus(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec times(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
// NaN if either is.
inline Vec larger(Vec a, Vec b) {
  return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
inline Vec rounded(Vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT); }
// v · 2^n, where v is about e^(x - n ln 2).
inline Vec times_power_of_two(Vec v, Vec n, Vec x) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  const Vec scaled = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), exponent));
  const Vec tiny = _mm256_cmp_ps(x, splat(-87.33654f), _CMP_LT_OQ);
  return _mm256_andnot_ps(tiny, _mm256_blendv_ps(scaled, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}

template <Element E>
inline Vec widened(const char* p) {
  if constexpr (E == Element::kFloat32) return load(reinterpret_cast<const float*>(p));
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  if constexpr (E == Element::kFloat16) return _mm256_cvtph_ps(bits);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

inline __m128i rounded_to_bfloat(__m128 v);

template <Element E>
inline void narrow(Vec v, char* p) {
  if constexpr (E == Element::kFloat32) {
    store_vec(reinterpret_cast<float*>(p), v);
    return;
  }
  __m128i out;
  if constexpr (E == Element::kFloat16) {
    out = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
  } else {
    out = _mm_packus_epi32(rounded_to_bfloat(_mm256_castps256_ps128(v)),
                           rounded_to_bfloat(_mm256_extractf128_ps(v, 1)));
  }
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), out);
}

inline __m128 sum_of_four(Vec a, Vec b, Vec c, Vec d) {
  const __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

// Four elements, as float32.
template <Element E>
inline void widen_rows(const char* p, float* to);

inline Vec low(Vec a, Vec b) {
  return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
inline Vec high(Vec a, Vec b) {
  return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
// A square of vectors: pairs of floats, of doubles, then halves.
[[gnu::always_inline]] inline void transpose(Vec (&v)[8]) {
  Vec w[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    w[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    w[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    v[i] = low(w[i], w[i + 2]);
    v[i + 1] = high(w[i], w[i + 2]);
    v[i + 2] = low(w[i + 1], w[i + 3]);
    v[i + 3] = high(w[i + 1], w[i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    w[j] = _mm256_permute2f128_ps(v[j], v[4 + j], 0x20);
    w[4 + j] = _mm256_permute2f128_ps(v[j], v[4 + j], 0x31);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) v[i] = w[i];
}

#include "kernels/product_loops.inc"

template <Element E>
inline void widen_rows(const char* p, float* to) {
  _mm_storeu_ps(to, widened_four<E>(p));
}

}  // namespace

const Loops* avx2_loops() { return &kLoops; }

}  // namespace fulmen::kernels

#pragma GCC pop_options

#else

namespace fulmen::kernels {
const Loops* avx2_loops() { return nullptr; }
}  // namespace fulmen::kernels

#endif
