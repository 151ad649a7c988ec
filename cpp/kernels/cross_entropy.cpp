#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/product_loops.h"

namespace fulmen::kernels {
namespace {

// Whole vectors of rows, which are columns of some of the products.
int64_t rows_of_part(const LinearCrossEntropy& l) {
  const int64_t most = std::max<int64_t>(48, l.part_bytes / (l.classes * 4));
  const int64_t parts = std::max<int64_t>(1, (l.rows + most - 1) / most);
  return ((l.rows + parts - 1) / parts + 15) / 16 * 16;
}

Operand rows_of(const Operand& o, int64_t first) {
  return {static_cast<const char*>(o.data) + first * o.row * size_of(o.type), o.type, o.row,
          o.column};
}

}  // namespace

int64_t num_scores(const LinearCrossEntropy& l) { return rows_of_part(l) * l.classes; }

double linear_cross_entropy(const LinearCrossEntropy& l, float* scores, Isa isa,
                            const Parallel& parallel) {
  const Loops& loops = loops_for(isa);
  const auto target = [&](int64_t row) { return l.target[row * l.target_stride]; };
  int64_t count = 0;
  for (int64_t i = 0; i < l.rows; ++i) count += target(i) != l.ignored;
  const double scale = l.mean ? 1.0 / static_cast<double>(count) : 1.0;
  const bool differentiates = l.input_gradient || l.weight_gradient || l.bias_gradient;

  const int64_t part_rows = rows_of_part(l);
  const std::vector<float> ones(l.bias_gradient ? part_rows : 0, 1.0f);
  if (l.bias_gradient) std::fill_n(l.bias_gradient, l.classes, 0.0f);
  if (l.weight_gradient && l.rows == 0)
    std::fill_n(l.weight_gradient, l.classes * l.features, 0.0f);
  std::vector<double> losses(l.rows);

  for (int64_t first = 0; first < l.rows; first += part_rows) {
    const int64_t rows = std::min(part_rows, l.rows - first);
    const Operand x = rows_of(l.input, first);
    const Operand weight_columns{l.weight.data, l.weight.type, l.weight.column, l.weight.row};
    multiply({rows,
              l.classes,
              l.features,
              x,
              weight_columns,
              l.bias,
              {scores, Element::kFloat32, l.classes, 1}},
             isa, parallel);
    in_parallel(parallel, rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float* row = scores + i * l.classes;
        const int64_t own = target(first + i);
        const bool counts = own != l.ignored;
        const double score = counts ? row[own] : 0;
        const double log_sum =
            loops.softmax_gradient(row, l.classes, counts ? scale : 0, differentiates);
        if (!counts) continue;
        losses[first + i] = log_sum - score;
        if (differentiates) row[own] -= static_cast<float>(scale);
      }
    });
    const Operand slopes{scores, Element::kFloat32, l.classes, 1};
    if (l.input_gradient) {
      const Result out{l.input_gradient + first * l.features, Element::kFloat32, l.features, 1};
      multiply({rows, l.features, l.classes, slopes, l.weight, {}, out}, isa, parallel);
    }
    if (l.weight_gradient) {
      const Operand columns{scores, Element::kFloat32, 1, l.classes};
      const Result out{l.weight_gradient, Element::kFloat32, l.features, 1};
      const Operand so_far{out.data, out.type, out.row, out.column};
      multiply({l.classes, l.features, rows, columns, x, first == 0 ? Operand() : so_far, out}, isa,
               parallel);
    }
    if (l.bias_gradient) {
      loops.spread(reinterpret_cast<const char*>(scores), Element::kFloat32, l.classes, rows,
                   ones.data(), rows, 1, l.classes, l.bias_gradient, l.classes);
    }
  }
  double loss = 0;
  for (const double own : losses) loss += own;
  return l.mean ? loss / static_cast<double>(count) : loss;
}

}  // namespace fulmen::kernels
