#pragma once

#include "kernels/product.h"

namespace fulmen::kernels {

// Note [Product tiles]
// A tile of the result has `rows` rows, of which each element of the left operand is broadcast, and
// up to kTileVectors vectors of columns. The left operand is read where it lies if it is float32
// and its rows or columns are contiguous. Else, and for the rows of a tile that is not whole, it is
// packed for some tiles at a time, as blocks of kDepth, in the order in which its elements lie in
// memory, so that packing is copying: by row (kLeftStride floats each, which keeps rows out of one
// another's cache sets), or by depth (the tile's rows side by side). The right one is packed in
// panels of whole vectors: for each of the depth's elements, the panel's columns. Both are float32
// by then. Which operand of the product is which side is the planner's choice: tiles can be stored
// transposed.
inline constexpr int kDepth = 256;
inline constexpr int kLeftStride = kDepth + 16;
inline constexpr int kTileVectors = 3;
inline constexpr int kMostRows = 8, kMostLanes = 16;
inline constexpr int kTileStride =
    kTileVectors * kMostLanes;  // floats from one row of a tile to the next

// Lines of memory that are brought into the second cache while a tile is computed: at its start and
// after each kLinesEvery elements of the depth `count` of them, `step` bytes apart.
struct Lines {
  const char* first = nullptr;
  int64_t step = 0, part_step = 0;
  int count = 0;
};
inline constexpr int kLinesEvery = 16;
// Rows that are fetched ahead of the one that is packed.
inline constexpr int kPackedAhead = 8;

// `left`, `right` and `tile` as in Note [Product tiles]; adds to the tile, or sets it.
// `left_stride`: from a row to the next, or from one of the depth's elements to the next.
using MicroKernel = void (*)(int64_t depth, const float* left, int64_t left_stride,
                             const float* right, float* tile, bool adds, const Lines& ahead);

// The loops for one instruction set.
struct Loops {
  int lanes;            // of a vector
  int rows;             // of a tile
  int dot_shorts;       // short rows for which `dot` reads the long ones once
  int most_dot_shorts;  // up to which `dot` is faster than tiles
  // By row or by depth; half of a tile's rows or all; vectors of columns, less one.
  MicroKernel micro[2][2][kTileVectors];

  // `count` rows into blocks of the left operand, those of each tile's rows one after the other;
  // rows of zeros fill the last tile.
  void (*pack_left)(const char* source, Element type, int64_t row_stride, int64_t depth_stride,
                    int64_t count, int64_t depth, bool by_depth, float* packed);
  // `count` columns into panels; zeros fill the last one's last vector.
  void (*pack_right)(const char* source, Element type, int64_t depth_stride, int64_t column_stride,
                     int64_t count, int64_t depth, float* packed);
  // Sums, in rows that are `stride` apart, with what is added to them, into the result. Changes
  // the sums. `streams`: past the caches; float32 in whole vectors that are aligned.
  void (*store)(float* sums, int64_t stride, int64_t rows, int64_t columns, const Operand& added,
                const Result& out, bool streams);
  // Products of long rows with short rows, both contiguous along the depth: sums[s][l].
  void (*dot)(const char* longs, Element type, int64_t long_stride, int64_t num_longs,
              const float* shorts, int64_t short_stride, int64_t num_shorts, int64_t depth,
              float* sums, int64_t sums_stride);
  // sums[s][c] += shorts[s][d] * rows[d][c], for columns that are contiguous.
  void (*spread)(const char* rows, Element type, int64_t row_stride, int64_t depth,
                 const float* shorts, int64_t short_stride, int64_t num_shorts, int64_t columns,
                 float* sums, int64_t sums_stride);
  // exp(score) over the sum of these, times `scale`, in place of each score if `replaces`; returns
  // the logarithm of the sum.
  double (*softmax_gradient)(float* scores, int64_t count, double scale, bool replaces);
  // Elements to float32.
  void (*widen)(const char* source, Element type, int64_t stride, int64_t count, float* out);
};

// Null where the compiler has no such instructions.
const Loops* avx2_loops();
const Loops* avx512_loops();
// Not for Isa::kNone.
inline const Loops& loops_for(Isa isa) {
  return isa == Isa::kAvx512 ? *avx512_loops() : *avx2_loops();
}

// work(begin, end), for parts of [0, units).
template <class Work>
void in_parallel(const Parallel& parallel, int64_t units, int64_t grain, const Work& work) {
  if (parallel.threads == 1 || units <= grain) return work(int64_t{0}, units);
  parallel.run(
      units, grain,
      [](void* data, int64_t begin, int64_t end) { (*static_cast<const Work*>(data))(begin, end); },
      const_cast<Work*>(&work));
}

}  // namespace fulmen::kernels
