#include "codegen/cpu/scalar_functions.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <numbers>

namespace fulmen::codegen::cpu {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The derivative of log gamma: reflection for negative arguments, recurrence up to 10, then the
// asymptotic series.
double digamma(double x) {
  if (x == 0.0) return std::copysign(kInfinity, -x);
  double result = 0.0;
  if (x < 0.0) {
    double whole = 0.0;
    const double part = std::modf(x, &whole);
    if (part == 0.0) return kNan;
    result = -std::numbers::pi / std::tan(std::numbers::pi * part);
    x = 1.0 - x;
  }
  while (x < 10.0) {
    result -= 1.0 / x;
    x += 1.0;
  }
  if (x == 10.0) return result + 2.25175258906672110764;
  if (x < 1e17) {
    const double z = 1.0 / (x * x);
    constexpr double kBernoulli[] = {1.0 / 12,  -1.0 / 120,     1.0 / 252, -1.0 / 240,
                                     1.0 / 132, -691.0 / 32760, 1.0 / 12};
    double series = 0.0;
    for (int i = 6; i >= 0; --i) series = series * z + kBernoulli[i];
    result -= series * z;
  }
  return result + std::log(x) - 0.5 / x;
}

// A rational start (Giles 2010), then two steps of Halley's method on erf.
double erfinv(double y) {
  if (!(std::abs(y) <= 1.0)) return kNan;
  if (std::abs(y) == 1.0) return std::copysign(kInfinity, y);
  if (std::abs(y) < 1e-8) return y * (std::sqrt(std::numbers::pi) / 2);
  double w = -std::log((1.0 - y) * (1.0 + y));
  double p = 0.0;
  if (w < 5.0) {
    w -= 2.5;
    for (const double c :
         {2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
          -0.00125372503, -0.00417768164, 0.246640727, 1.50140941}) {
      p = p * w + c;
    }
  } else {
    w = std::sqrt(w) - 3.0;
    for (const double c : {-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844,
                           0.00573950773, -0.0076224613, 0.00943887047, 1.00167406, 2.83297682}) {
      p = p * w + c;
    }
  }
  double x = p * y;
  for (int i = 0; i < 2; ++i) {
    // Near ±1 the difference is taken of erfc, which does not cancel.
    const double error =
        std::abs(y) < 0.5 ? std::erf(x) - y
                          : std::copysign(1.0, y) * ((1.0 - std::abs(y)) - std::erfc(std::abs(x)));
    const double step = error / (2.0 / std::sqrt(std::numbers::pi) * std::exp(-x * x));
    x -= step / (1.0 + x * step);
  }
  return x;
}

// As ATen: a negative exponent gives 0, but for the bases 1 and -1.
int64_t pow_i64(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 1) return 1;
    if (base == -1) return exponent % 2 ? -1 : 1;
    return 0;
  }
  uint64_t result = 1, factor = static_cast<uint64_t>(base);
  for (auto e = static_cast<uint64_t>(exponent); e; e >>= 1) {
    if (e & 1) result *= factor;
    factor *= factor;
  }
  return static_cast<int64_t>(result);
}

}  // namespace

void* find_scalar_function(const char* name) {
  if (!std::strcmp(name, "fulmen_digamma")) return reinterpret_cast<void*>(&digamma);
  if (!std::strcmp(name, "fulmen_erfinv")) return reinterpret_cast<void*>(&erfinv);
  if (!std::strcmp(name, "fulmen_pow_i64")) return reinterpret_cast<void*>(&pow_i64);
  return nullptr;
}

}  // namespace fulmen::codegen::cpu
