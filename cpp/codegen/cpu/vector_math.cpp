#include "codegen/cpu/vector_math.h"

#include <limits>

#include "support/cat.h"

namespace fulmen::codegen::cpu {
namespace {

using F = VectorBuilder::FloatCompare;
using I = VectorBuilder::IntCompare;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kRoundToInteger = 12582912.0;  // 1.5 * 2^23: x + this - this is rint(x)
constexpr double kLog2E = 1.4426950408889634;
// ln 2 in two parts, the first with few bits: n * kLn2High is exact
constexpr double kLn2High = 0.693145751953125;
constexpr double kLn2Low = 1.428606765330187045e-06;

}  // namespace

Value VectorMath::polynomial(Value x, std::initializer_list<double> coefficients) {
  auto c = coefficients.begin();
  Value p = b_.real(*c++);
  for (; c != coefficients.end(); ++c) p = b_.fma(p, x, b_.real(*c));
  return p;
}

Value VectorMath::power_of_two(Value n) {
  return b_.BitCast(b_.Shl(b_.Add(n, b_.bits(127)), b_.bits(23)), b_.vec(b_.f32));
}

Value VectorMath::any(Value mask) {
  const TypeRef word = b_.api().IntTypeInContext(b_.context(), b_.width());
  return b_.ICmp(I::kNe, b_.BitCast(mask, word), b_.integer(word, 0));
}

// e^x = 2^n * e^r, |r| <= ln 2 / 2.
VectorMath::ReducedExp VectorMath::reduced_exp(Value x) {
  const Value shifted = b_.fma(x, b_.real(kLog2E), b_.real(kRoundToInteger));
  const Value n = b_.FSub(shifted, b_.real(kRoundToInteger));
  Value r = b_.fma(n, b_.real(-kLn2High), x);
  r = b_.fma(n, b_.real(-kLn2Low), r);
  const Value p = polynomial(
      r, {0.000198527617612853646278381, 0.00139304355252534151077271, 0.00833336077630519866943359,
          0.0416664853692054748535156, 0.166666671633720397949219, 0.5});
  return {shifted, n, b_.fma(b_.FMul(r, r), p, r)};
}

// The scale is applied in two halves, so that neither overflows
// where the result does not, and subnormal results are rounded once.
Value VectorMath::exp(Value x, TypeRef kind) {
  if (kind != b_.f32) return library("exp", "u10", kind, {x});
  // The constant stands first: a NaN compares false and stays.
  x = b_.Select(b_.FCmp(F::kOgt, b_.real(-104.0), x), b_.real(-104.0), x);
  x = b_.Select(b_.FCmp(F::kOlt, b_.real(104.0), x), b_.real(104.0), x);
  const auto [shifted, n, tail] = reduced_exp(x);
  const Value e = b_.FAdd(b_.real(1.0), tail);
  if (isa_.level == IsaLevel::kAvx512) {
    // e * 2^n in one instruction, rounded once; all lanes, in the current rounding mode.
    return b_.target_intrinsic("llvm.x86.avx512.mask.scalef.ps.512",
                               {e, n, e, b_.integer(b_.i16, -1), b_.integer(b_.i32, 4)});
  }
  const Value k = b_.Sub(b_.BitCast(shifted, b_.vec(b_.i32)), b_.bits(0x4B400000));
  const Value half = b_.AShr(k, b_.bits(1));
  return b_.FMul(b_.FMul(e, power_of_two(half)), power_of_two(b_.Sub(k, half)));
}

Value VectorMath::exp_nonpositive(Value x) {
  x = b_.Select(b_.FCmp(F::kOgt, b_.real(-87.3365), x), b_.real(-87.3365), x);
  const auto [shifted, n, tail] = reduced_exp(x);
  const Value e = b_.FAdd(b_.real(1.0), tail);
  const TypeRef ints = b_.vec(b_.i32);
  return b_.BitCast(b_.Add(b_.BitCast(e, ints), b_.Shl(b_.BitCast(shifted, ints), b_.bits(23))),
                    b_.vec(b_.f32));
}

// 2^n * (e^r - 1) + (2^n - 1), at half scale so that 2^n does not overflow before the result does.
Value VectorMath::expm1(Value x, TypeRef kind) {
  if (kind != b_.f32) return library("expm1", "u10", kind, {x});
  Value c = b_.Select(b_.FCmp(F::kOgt, b_.real(-25.0), x), b_.real(-25.0), x);
  c = b_.Select(b_.FCmp(F::kOlt, b_.real(89.0), c), b_.real(89.0), c);
  const auto [shifted, n, m] = reduced_exp(c);
  const Value k = b_.Sub(b_.BitCast(shifted, b_.vec(b_.i32)), b_.bits(0x4B400000 + 1));
  const Value scale = power_of_two(k);
  Value y = b_.fma(scale, m, b_.FSub(scale, b_.real(0.5)));
  y = b_.FAdd(y, y);
  return b_.Select(b_.FCmp(F::kOeq, x, b_.real(0.0)), x, y);
}

// x = 2^e * m with m in [2/3, 4/3); a polynomial of m - 1.
Value VectorMath::log(Value x, TypeRef kind) {
  if (kind != b_.f32) return library("log", "u10", kind, {x});
  const TypeRef ints = b_.vec(b_.i32), floats = b_.vec(b_.f32);
  const Value subnormal = b_.FCmp(F::kOlt, x, b_.real(1.17549435e-38));
  const Value a = b_.Select(subnormal, b_.FMul(x, b_.real(8388608.0)), x);
  const Value shift = b_.Select(subnormal, b_.real(-23.0), b_.real(0.0));
  const Value bits = b_.BitCast(a, ints);
  const Value e = b_.And(b_.Sub(bits, b_.bits(0x3f2aaaab)), b_.bits(int64_t{0xff800000}));
  const Value m = b_.BitCast(b_.Sub(bits, e), floats);
  const Value i = b_.fma(b_.SIToFP(e, floats), b_.real(1.1920928955078125e-7), shift);
  const Value f = b_.FSub(m, b_.real(1.0)), s = b_.FMul(f, f);
  Value r = polynomial(s, {-0.130310059, -0.121483512, -0.166846126, -0.249996200});
  const Value t = polynomial(s, {0.140869141, 0.139814854, 0.200120345});
  r = b_.fma(t, f, r);
  r = b_.fma(r, f, b_.real(0.333331972));
  r = b_.fma(r, f, b_.real(-0.5));
  r = b_.fma(r, s, f);
  r = b_.fma(i, b_.real(0.693147182), r);
  const Value is_finite = b_.FCmp(F::kOlt, a, b_.real(kInfinity));
  r = b_.Select(is_finite, r, a);  // inf and NaN
  r = b_.Select(b_.FCmp(F::kOlt, x, b_.real(0.0)),
                b_.real(std::numeric_limits<double>::quiet_NaN()), r);
  return b_.Select(b_.FCmp(F::kOeq, x, b_.real(0.0)), b_.real(-kInfinity), r);
}

// log(u) + (x - (u - 1)) / u for u = 1 + x rounded.
Value VectorMath::log1p(Value x, TypeRef kind) {
  if (kind != b_.f32) return library("log1p", "u10", kind, {x});
  const Value u = b_.FAdd(x, b_.real(1.0));
  const Value lost = b_.FSub(x, b_.FSub(u, b_.real(1.0)));
  const Value l = log(u, kind);
  Value y = b_.FAdd(l, b_.FDiv(lost, u));
  // At -1 and infinity the correction is not a number.
  const Value correctable =
      b_.And(b_.FCmp(F::kUne, u, b_.real(0.0)), b_.FCmp(F::kUne, u, b_.real(kInfinity)));
  y = b_.Select(correctable, y, l);
  return b_.Select(b_.FCmp(F::kOeq, x, b_.real(0.0)), x, y);
}

// A polynomial up to 0.625, else 1 - 2 / (e^2|x| + 1).
Value VectorMath::tanh(Value x, TypeRef kind) {
  if (kind != b_.f32) return library("tanh", "u10", kind, {x});
  const Value a = b_.fabs(x), s = b_.FMul(x, x);
  const Value e = exp(b_.FAdd(a, a), kind);
  const Value big = b_.FSub(b_.real(1.0), b_.FDiv(b_.real(2.0), b_.FAdd(e, b_.real(1.0))));
  const Value p = polynomial(s, {-0.005704992450773716, 0.020639093592762947, -0.05373971909284592,
                                 0.13331441581249237, -0.3333328068256378});
  const Value small = b_.fma(b_.FMul(p, s), a, a);
  return b_.copysign(b_.Select(b_.FCmp(F::kOge, a, b_.real(0.625)), big, small), x);
}

// SLEEF's overflow before the result does.
Value VectorMath::sinh(Value x, TypeRef kind, bool cosine) {
  const Value y = library(cosine ? "cosh" : "sinh", "u10", kind, {x});
  if (kind != b_.f32) return y;
  const Value a = b_.fabs(x), e = exp(b_.FMul(a, b_.real(0.5)), kind);
  Value big = b_.FMul(b_.FMul(b_.real(0.5), e), e);
  if (!cosine) big = b_.copysign(big, x);
  return b_.Select(b_.FCmp(F::kOgt, a, b_.real(88.0)), big, y);
}

// Where x * x overflows: log(2 x).
Value VectorMath::asinh(Value x, TypeRef kind, bool cosine) {
  const Value y = library(cosine ? "acosh" : "asinh", "u10", kind, {x});
  if (kind != b_.f32) return y;
  const Value a = b_.fabs(x);
  Value big = b_.FAdd(log(a, kind), b_.real(0.6931471805599453));
  if (!cosine) big = b_.copysign(big, x);
  return b_.Select(b_.FCmp(F::kOgt, cosine ? x : a, b_.real(1e18)), big, y);
}

Value VectorMath::sigmoid(Value x, TypeRef kind) {
  const Value one = b_.splat_real(kind, 1.0);
  return b_.FDiv(one, b_.FAdd(one, exp(b_.FNeg(x), kind)));
}

// A polynomial up to 0.93, else 1 - e^q(|x|).
Value VectorMath::erf(Value x, TypeRef kind) {
  if (kind != b_.f32) return library("erf", "u10", kind, {x});
  const Value a = b_.fabs(x), s = b_.FMul(x, x);
  Value q = b_.fma(b_.real(-1.72853470e-5), a, b_.real(3.83197126e-4));
  const Value u = b_.fma(b_.real(-3.88396438e-3), a, b_.real(2.42546219e-2));
  q = b_.fma(q, s, u);
  for (const double c : {-1.06777877e-1, -6.34846687e-1, -1.28717512e-1}) {
    q = b_.fma(q, a, b_.real(c));
  }
  q = b_.fma(q, a, b_.FNeg(a));
  const Value big = b_.copysign(b_.FSub(b_.real(1.0), exp_nonpositive(q)), x);
  const Value p = polynomial(s, {-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1,
                                 -3.76125336e-1, 1.28379166e-1});
  return b_.Select(b_.FCmp(F::kOgt, a, b_.real(0.927734375)), big, b_.fma(p, x, x));
}

// 1 - e^q(|x|) for all x, where a small result's own last places don't count.
Value VectorMath::absolute_erf(Value x) {
  constexpr double kSaturated = 3.95;  // is 1 from here on
  Value a = b_.fabs(x);
  a = b_.Select(b_.FCmp(F::kOlt, b_.real(kSaturated), a), b_.real(kSaturated), a);
  const Value q =
      polynomial(a, {-3.1439530853769785e-05, 0.0003087958619180145, -0.0010323781321985354,
                     -0.0005369758776301353, 0.019584000312048606, -0.10291963260969024,
                     -0.6365977291636344, -1.128380251823227});
  const Value y = b_.copysign(b_.FSub(b_.real(1.0), exp_nonpositive(b_.FMul(q, a))), x);
  return b_.Select(b_.is_nan(x), x, y);
}

// A rational function of x in [-4, 4].
Value VectorMath::coarse_erf(Value x) {
  Value c = b_.Select(b_.FCmp(F::kOgt, b_.real(-4.0), x), b_.real(-4.0), x);
  c = b_.Select(b_.FCmp(F::kOlt, b_.real(4.0), c), b_.real(4.0), c);
  const Value s = b_.FMul(c, c);
  const Value p = polynomial(
      s, {-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
          -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02});
  const Value q =
      polynomial(s, {-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03,
                     -7.37332916720468e-03, -1.42647390514189e-02});
  return b_.FDiv(b_.FMul(c, p), q);
}

// Reduction by multiples of pi / 2 in three parts; arguments for which that is not enough take the
// whole vector to the library, as do infinities.
Value VectorMath::sine(Value x, TypeRef kind, bool cosine) {
  const char* name = cosine ? "cos" : "sin";
  if (kind != b_.f32) return library(name, "u10", kind, {x});
  const TypeRef ints = b_.vec(b_.i32), floats = b_.vec(b_.f32);
  const Value shifted = b_.fma(x, b_.real(0.636619747), b_.real(kRoundToInteger));
  const Value j = b_.FSub(shifted, b_.real(kRoundToInteger));
  Value r = b_.fma(j, b_.real(-1.57079601e+00), x);
  r = b_.fma(j, b_.real(-3.13916473e-07), r);
  r = b_.fma(j, b_.real(-5.39030253e-15), r);
  Value quadrant = b_.BitCast(shifted, ints);
  if (cosine) quadrant = b_.Add(quadrant, b_.bits(1));
  const Value s = b_.FMul(r, r);
  const Value c = polynomial(s, {2.44677067e-5, -1.38877297e-3, 4.16666567e-2, -0.5, 1.0});
  Value p = polynomial(s, {2.86567956e-6, -1.98559923e-4, 8.33338592e-3, -1.66666672e-1});
  p = b_.fma(p, b_.FMul(r, s), r);
  const Value odd = b_.ICmp(I::kNe, b_.And(quadrant, b_.bits(1)), b_.bits(0));
  const Value sign = b_.Shl(b_.And(quadrant, b_.bits(2)), b_.bits(30));
  Value y = b_.BitCast(b_.Xor(b_.BitCast(b_.Select(odd, c, p), ints), sign), floats);
  if (!cosine) y = b_.Select(b_.FCmp(F::kOeq, x, b_.real(0.0)), x, y);
  const Value large = b_.FCmp(F::kUgt, b_.fabs(x), b_.real(30000.0));
  return b_.when(any(large), {y},
                 [&](const Values&) -> Values { return {library(name, "u10", kind, {x})}; })[0];
}

Value VectorMath::library(std::string_view name, std::string_view accuracy, TypeRef kind,
                          std::initializer_list<Value> args) {
  const bool single = kind == b_.f32;
  if (isa_.level == IsaLevel::kSse) {
    return elementwise(single ? cat(name, "f") : std::string(name), kind, args);
  }
  const bool avx512 = isa_.level == IsaLevel::kAvx512;
  const int lanes = (avx512 ? 64 : 32) / (single ? 4 : 8);
  const std::string symbol = cat("Sleef_", name, single ? "f" : "d", int64_t{lanes}, "_", accuracy,
                                 avx512 ? "avx512f" : "avx2");
  if (lanes == b_.width()) {
    return b_.call(symbol, b_.vec(kind), std::span(args.begin(), args.size()));
  }
  // Vectors of more lanes than a register has go in parts.
  Values parts;
  std::vector<int> picked(lanes);
  for (int at = 0; at < b_.width(); at += lanes) {
    for (int i = 0; i < lanes; ++i) picked[i] = at + i;
    Values part;
    for (const Value a : args) part.push_back(b_.shuffle(a, a, picked));
    parts.push_back(b_.call(symbol, b_.vec(kind, lanes), part));
  }
  while (parts.size() > 1) {
    const int each = b_.width() / static_cast<int>(parts.size());
    std::vector<int> all(2 * each);
    for (int i = 0; i < 2 * each; ++i) all[i] = i;
    Values joined;
    for (size_t i = 0; i < parts.size(); i += 2) {
      joined.push_back(b_.shuffle(parts[i], parts[i + 1], all));
    }
    parts = std::move(joined);
  }
  return parts[0];
}

Value VectorMath::elementwise(const std::string& name, TypeRef result,
                              std::initializer_list<Value> args) {
  Value out = b_.api().GetPoison(b_.vec(result));
  for (int lane = 0; lane < b_.width(); ++lane) {
    Values one;
    for (const Value a : args) one.push_back(b_.extract(a, lane));
    out = b_.insert(out, b_.call(name, result, one), lane);
  }
  return out;
}

}  // namespace fulmen::codegen::cpu
