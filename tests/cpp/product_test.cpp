#include "kernels/product.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cross_entropy.h"

namespace fulmen::kernels {
namespace {

std::vector<Isa> isas() {
  std::vector<Isa> all;
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
    if (isa <= best_isa()) all.push_back(isa);
  }
  return all;
}

// A matrix in memory that has a guard before and behind it.
class Matrix {
 public:
  // `order`: 'r' rows are contiguous, 'c' columns are, 's' neither.
  Matrix(int64_t rows, int64_t columns, char order, std::mt19937& random)
      : rows_(rows),
        columns_(columns),
        row_(order == 'r'   ? columns
             : order == 'c' ? 1
                            : 2 * columns + 3),
        column_(order == 'r'   ? 1
                : order == 'c' ? rows
                               : 2),
        values_(static_cast<size_t>(2 * kGuard + rows * row_ + columns * column_), kCanary),
        origin_(kGuard -
                static_cast<int64_t>(reinterpret_cast<uintptr_t>(values_.data()) % 64 / 4)) {
    std::uniform_real_distribution<float> value(-1, 1);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) at(r, c) = value(random);
    }
  }
  float& at(int64_t r, int64_t c) {
    return values_[static_cast<size_t>(origin_ + r * row_ + c * column_)];
  }
  Operand operand() { return {values_.data() + origin_, Element::kFloat32, row_, column_}; }
  Result result() { return {values_.data() + origin_, Element::kFloat32, row_, column_}; }
  // Whether nothing but elements was written.
  bool is_intact() {
    std::vector<float> copy = values_;
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < columns_; ++c)
        copy[static_cast<size_t>(origin_ + r * row_ + c * column_)] = kCanary;
    }
    return std::all_of(copy.begin(), copy.end(), [](float v) { return v == kCanary; });
  }

 private:
  static constexpr int64_t kGuard = 64;
  static constexpr float kCanary = 12345.0f;
  int64_t rows_, columns_, row_, column_;
  std::vector<float> values_;
  int64_t origin_;  // of elements, which start at a line of the cache
};

void check_product(int64_t m, int64_t n, int64_t k, const char* orders, Isa isa, int added,
                   std::mt19937& random, const Parallel& parallel = serial()) {
  CAPTURE(m);
  CAPTURE(n);
  CAPTURE(k);
  CAPTURE(orders);
  CAPTURE(static_cast<int>(isa));
  Matrix a(m, k, orders[0], random), b(k, n, orders[1], random), out(m, n, orders[2], random);
  Matrix more(added == 1 ? 1 : m, n, 'r', random);
  Product p{m, n, k, a.operand(), b.operand(), {}, out.result()};
  if (added) p.added = more.operand();
  if (added == 1) p.added.row = 0;
  multiply(p, isa, parallel);
  double worst = 0;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = added ? more.at(added == 1 ? 0 : i, j) : 0, size = std::abs(sum);
      for (int64_t d = 0; d < k; ++d) {
        sum += double{a.at(i, d)} * b.at(d, j);
        size += std::abs(double{a.at(i, d)} * b.at(d, j));
      }
      worst = std::max(worst, std::abs(sum - out.at(i, j)) / (size + 1e-30));
    }
  }
  CHECK(worst < 1e-6);
  CHECK(out.is_intact());
}

TEST_CASE("products of all shapes and layouts are those of double, and write nothing else") {
  std::mt19937 random(7);
  for (const Isa isa : isas()) {
    for (const char* orders : {"rrr", "rcr", "crr", "ccr", "rrc", "rcc", "srr", "rsr", "rrs"}) {
      int added = 0;
      for (const int64_t m : {1, 2, 5, 9, 33, 67}) {
        for (const int64_t n : {1, 3, 16, 50, 97}) {
          for (const int64_t k : {0, 1, 7, 64, 300})
            check_product(m, n, k, orders, isa, added++ % 3, random);
        }
      }
    }
    check_product(40, 70, 5000, "rrr", isa, 2, random);
    check_product(40, 70, 5000, "ccr", isa, 1, random);
  }
}

TEST_CASE("results that are larger than the caches, in uneven parts") {
  std::mt19937 random(5);
  const Parallel threes = {
      [](int64_t units, int64_t, void (*work)(void*, int64_t, int64_t), void* data) {
        for (int64_t i = 0; i < units; i += 3) work(data, i, std::min(i + 3, units));
      },
      2};
  for (const Isa isa : isas()) {
    for (const char* orders : {"rrr", "crr", "rcr", "rrc", "ccc"}) {
      check_product(800, 1040, 9, orders, isa, 1, random, threes);
      check_product(1041, 800, 5, orders, isa, 0, random, threes);
    }
  }
}

// The bits of a float16 or bfloat16, by the definition of rounding to nearest even.
float rounded_to(float v, int kept_bits) {
  uint32_t bits = 0;
  std::memcpy(&bits, &v, 4);
  const uint32_t dropped = 23 - kept_bits, half = 1u << (dropped - 1);
  bits += half - 1 + ((bits >> dropped) & 1);
  bits &= ~((1u << dropped) - 1);
  std::memcpy(&v, &bits, 4);
  return v;
}

TEST_CASE("half types are rounded once, to nearest even") {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> value(0.5f, 2.0f);
  for (const Isa isa : isas()) {
    for (const Element type : {Element::kBFloat16, Element::kFloat16}) {
      const int kept = type == Element::kFloat16 ? 10 : 7;
      for (const int64_t n : {1, 5, 16, 37}) {
        std::vector<float> x(static_cast<size_t>(n));
        for (float& v : x) v = value(random);
        x[0] = 1.0f + std::ldexp(1.0f, -kept - 1);  // a tie
        const float one = 1;
        std::vector<uint16_t> out(x.size() + 8, 7);
        const auto to_half = [&](Result result) {
          multiply({1,
                    n,
                    1,
                    {&one, Element::kFloat32, 1, 1},
                    {x.data(), Element::kFloat32, n, 1},
                    {},
                    result},
                   isa, serial());
        };
        to_half({out.data(), type, n, 1});
        std::vector<float> back(x.size());
        multiply({1,
                  n,
                  1,
                  {&one, Element::kFloat32, 1, 1},
                  {out.data(), type, n, 1},
                  {},
                  {back.data(), Element::kFloat32, n, 1}},
                 isa, serial());
        for (size_t i = 0; i < x.size(); ++i) CHECK(back[i] == rounded_to(x[i], kept));
        CHECK(std::all_of(out.begin() + n, out.end(), [](uint16_t v) { return v == 7; }));
        x[0] = NAN;
        to_half({out.data(), type, n, 1});
        CHECK((out[0] & (type == Element::kFloat16 ? 0x7e00 : 0x7fc0)) ==
              (type == Element::kFloat16 ? 0x7e00 : 0x7fc0));
      }
    }
  }
}

TEST_CASE("a loss in parts has the value and the gradients of one in double") {
  std::mt19937 random(11);
  constexpr int64_t kRows = 130, kFeatures = 12, kClasses = 301;
  for (const Isa isa : isas()) {
    for (const bool mean : {false, true}) {
      Matrix x(kRows, kFeatures, 'r', random), w(kClasses, kFeatures, 'r', random);
      Matrix bias(1, kClasses, 'r', random);
      bias.at(0, 5) = -INFINITY;  // a class that is never right
      std::vector<int64_t> target(kRows);
      for (auto& t : target) t = static_cast<int64_t>(random() % 5);
      target[3] = target[100] = -100;
      std::vector<float> gx(kRows * kFeatures), gw(kClasses * kFeatures), gb(kClasses);
      LinearCrossEntropy l;
      l.rows = kRows;
      l.features = kFeatures;
      l.classes = kClasses;
      l.input = x.operand();
      l.weight = w.operand();
      l.bias = bias.operand();
      l.bias.row = 0;
      l.target = target.data();
      l.ignored = -100;
      l.mean = mean;
      l.input_gradient = gx.data();
      l.weight_gradient = gw.data();
      l.bias_gradient = gb.data();
      l.part_bytes = 1;  // parts of 48 rows
      std::vector<float> scores(static_cast<size_t>(num_scores(l)));
      const double loss = linear_cross_entropy(l, scores.data(), isa, serial());
      std::vector<double> rx(gx.size()), rw(gw.size()), rb(gb.size());
      double expected = 0;
      const double scale = mean ? 1.0 / (kRows - 2) : 1;
      for (int64_t i = 0; i < kRows; ++i) {
        if (target[i] == -100) continue;
        std::vector<double> s(kClasses);
        double sum = 0;
        for (int64_t c = 0; c < kClasses; ++c) {
          s[c] = bias.at(0, c);
          for (int64_t f = 0; f < kFeatures; ++f) s[c] += double{x.at(i, f)} * w.at(c, f);
          sum += std::exp(s[c]);
        }
        expected += scale * (std::log(sum) - s[target[i]]);
        for (int64_t c = 0; c < kClasses; ++c) {
          const double slope = scale * (std::exp(s[c]) / sum - (c == target[i]));
          rb[c] += slope;
          for (int64_t f = 0; f < kFeatures; ++f) {
            rx[i * kFeatures + f] += slope * w.at(c, f);
            rw[c * kFeatures + f] += slope * x.at(i, f);
          }
        }
      }
      CHECK(loss == doctest::Approx(expected).epsilon(1e-6));
      const auto close = [&](const std::vector<float>& got, const std::vector<double>& want) {
        double difference = 0, size = 0;
        for (size_t i = 0; i < got.size(); ++i) {
          difference += (got[i] - want[i]) * (got[i] - want[i]);
          size += want[i] * want[i];
        }
        return std::sqrt(difference / size) < 1e-6;
      };
      CHECK(close(gx, rx));
      CHECK(close(gw, rw));
      CHECK(close(gb, rb));
      CHECK(gb[5] == 0);
    }
  }
}

}  // namespace
}  // namespace fulmen::kernels
