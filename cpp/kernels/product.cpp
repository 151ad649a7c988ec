#include "kernels/product.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/product_loops.h"

namespace fulmen::kernels {
namespace {

constexpr int64_t kLeastDotDepth = 64;
constexpr int64_t kDotLongs = 64;  // long rows whose sums are stored at once
// Columns whose sums stay in the first cache; of one or two rows more, as long reads are faster.
constexpr int64_t kSpread = 512, kWideSpread = 4096;
constexpr int64_t kMostSpreadShorts = 8;
constexpr int64_t kMostDepth = 4096, kSlice = 1024;  // deeper products are cut into slices
constexpr int64_t kPackedBytes = 4 << 20;            // of the right operand
constexpr int64_t kMostTogether = 8;                 // rows of tiles
constexpr int64_t kElementsPerPart = 16 << 10;
constexpr int64_t kBytesPerPart = 128 << 10;
constexpr int64_t kFlopsPerPart = 1 << 20;

int64_t second_cache() {
  static const int64_t bytes = std::max<int64_t>(sysconf(_SC_LEVEL2_CACHE_SIZE), 512 << 10);
  return bytes;
}
// Of the left operand's rows that are multiplied together: they stay in the second cache.
int64_t left_bytes() { return second_cache() / 8 * 5; }

int64_t parts_of(int64_t n, int64_t part) { return (n + part - 1) / part; }

// Memory of this thread, which stays for the next product.
class Scratch {
 public:
  float* floats(int64_t count) {
    const auto bytes = static_cast<size_t>(parts_of(count * 4, 4096) * 4096);
    if (bytes > size_) {
      size_ = 0;
      memory_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
      if (!memory_) throw std::bad_alloc();
      size_ = bytes;
    }
    return memory_.get();
  }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> memory_;
  size_t size_ = 0;
};
thread_local Scratch shared_scratch, own_scratch;

const char* at(const Operand& o, int64_t row, int64_t column) {
  return static_cast<const char*>(o.data) + (row * o.row + column * o.column) * size_of(o.type);
}
Operand moved(const Operand& o, int64_t row, int64_t column) {
  if (!o.data) return o;
  return {at(o, row, column), o.type, o.row, o.column};
}
Result moved(const Result& r, int64_t row, int64_t column) {
  char* data = static_cast<char*>(r.data) + (row * r.row + column * r.column) * size_of(r.type);
  return {data, r.type, r.row, r.column};
}

// The same product of transposed matrices.
Product transposed(const Product& p) {
  const auto swapped = [](auto o) {
    std::swap(o.row, o.column);
    return o;
  };
  return {p.n, p.m, p.k, swapped(p.b), swapped(p.a), swapped(p.added), swapped(p.out)};
}

// The rows of the short operand in float32, contiguous, and not all in the same cache sets.
const float* short_rows(const Product& p, const Loops& loops, int64_t* stride) {
  const bool collides = p.m > 4 && p.a.row % 256 == 0;
  if (p.a.type == Element::kFloat32 && (p.a.column == 1 || p.k == 1) && !collides) {
    *stride = p.a.row;
    return static_cast<const float*>(p.a.data);
  }
  *stride = parts_of(p.k, 16) * 16 + 16;
  float* rows = shared_scratch.floats(p.m * *stride);
  for (int64_t i = 0; i < p.m; ++i)
    loops.widen(at(p.a, i, 0), p.a.type, p.a.column, p.k, rows + i * *stride);
  return rows;
}

// b's columns are contiguous along the depth.
void dot_products(const Product& p, const Loops& loops, const Parallel& parallel) {
  int64_t stride = 0;
  const float* shorts = short_rows(p, loops, &stride);
  const int64_t grain = std::max<int64_t>(4, kBytesPerPart / (p.k * size_of(p.b.type) + 1));
  const bool widens = p.b.type != Element::kFloat32 && p.m > loops.dot_shorts;
  in_parallel(parallel, p.n, grain, [&](int64_t begin, int64_t end) {
    float* sums = own_scratch.floats(p.m * kDotLongs + (widens ? 4 * p.k : 0));
    float* wide = sums + p.m * kDotLongs;
    for (int64_t j = begin; j < end; j += kDotLongs) {
      const int64_t count = std::min(kDotLongs, end - j);
      if (widens) {
        for (int64_t l = 0; l < count; l += 4) {
          const int64_t some = std::min<int64_t>(4, count - l);
          for (int64_t i = 0; i < some; ++i)
            loops.widen(at(p.b, 0, j + l + i), p.b.type, 1, p.k, wide + i * p.k);
          loops.dot(reinterpret_cast<const char*>(wide), Element::kFloat32, p.k, some, shorts,
                    stride, p.m, p.k, sums + l, kDotLongs);
        }
      } else {
        loops.dot(at(p.b, 0, j), p.b.type, p.b.column, count, shorts, stride, p.m, p.k, sums,
                  kDotLongs);
      }
      loops.store(sums, kDotLongs, p.m, count, moved(p.added, 0, j), moved(p.out, 0, j), false);
    }
  });
}

// b's rows are contiguous.
void spread_products(const Product& p, const Loops& loops, const Parallel& parallel) {
  int64_t stride = 0;
  const float* shorts = short_rows(p, loops, &stride);
  const int64_t chunks = parts_of(p.n, p.m <= 2 ? kWideSpread / p.m : kSpread);
  // Even parts of whole cache lines.
  const int64_t parts = std::max<int64_t>(chunks, std::min<int64_t>(parallel.threads, p.n / 64));
  const int64_t width = parts_of(parts_of(p.n, std::max<int64_t>(parts, 1)), 32) * 32;
  const int64_t grain = std::max<int64_t>(1, kBytesPerPart / (width * p.k * size_of(p.b.type) + 1));
  in_parallel(parallel, parts_of(p.n, width), grain, [&](int64_t begin, int64_t end) {
    float* sums = own_scratch.floats(2 * p.m * width);
    float* part = sums + p.m * width;
    for (int64_t j = begin * width; j < std::min(p.n, end * width); j += width) {
      const int64_t count = std::min(width, p.n - j);
      std::fill(sums, part, 0.0f);
      // A sum of sums is closer than one long sum.
      for (int64_t d = 0; d < p.k; d += kDepth) {
        std::fill(part, part + p.m * width, 0.0f);
        loops.spread(at(p.b, d, j), p.b.type, p.b.row, std::min<int64_t>(kDepth, p.k - d),
                     shorts + d, stride, p.m, count, part, width);
        for (int64_t i = 0; i < p.m * width; ++i) sums[i] += part[i];
      }
      loops.store(sums, width, p.m, count, moved(p.added, 0, j), moved(p.out, 0, j), false);
    }
  });
}

// Rows of the left operand that are multiplied next, in parts, one for each of `parts` tiles.
// Whole rows of a depth block, or all rows of parts of it.
class Ahead {
 public:
  Ahead(const Operand& a, int64_t row, int64_t rows, int64_t parts, bool by_depth)
      : a_(a), row_(row), rows_(rows), parts_(parts), by_depth_(by_depth) {}

  // While rows [first, first + height) of those before are multiplied.
  Lines lines(int64_t first, int64_t height, int64_t depth, int64_t length, int64_t part) const {
    height = std::min(height, rows_ - first);
    if (height <= 0) return {};
    const int64_t size = size_of(a_.type), of = by_depth_ ? length : height;
    const int64_t each = parts_of(of, parts_), begin = part * each;
    const int64_t count = std::min(each, of - begin);
    if (count <= 0) return {};
    if (!by_depth_) {
      return {at(a_, row_ + first + begin, depth), a_.row * size, kLinesEvery * size,
              static_cast<int>(count)};
    }
    const int64_t rate = parts_of(count * kLinesEvery, length);
    return {at(a_, row_ + first, depth + begin), a_.column * size, rate * a_.column * size,
            static_cast<int>(rate)};
  }

 private:
  const Operand& a_;
  int64_t row_, rows_, parts_;
  bool by_depth_;
};

// Brings the part of the result that comes next, which may be far from the one before.
void fetch_result(const Result& out, int64_t rows, int64_t columns) {
  const bool wide = out.column == 1;
  if (!wide && out.row != 1) return;
  if (!wide) std::swap(rows, columns);
  const int64_t line = 64 / size_of(out.type), stride = wide ? out.row : out.column;
  const auto* data = static_cast<const char*>(out.data);
  for (int64_t r = 0; r < rows; ++r) {
    const char* row = data + r * stride * size_of(out.type);
    for (int64_t c = 0; c < columns; c += line)
      __builtin_prefetch(row + c * size_of(out.type), 1, 2);
  }
}

bool on_a_line(const Result& out) { return reinterpret_cast<uintptr_t>(out.data) % 64 == 0; }

// Whether the result is written past the caches, in which it wouldn't stay: reading its lines first
// is a tenth of a product of little depth. By whole lines: their parts would be slow.
bool streams(const Product& p, const Loops& loops) {
  const int64_t stride = p.out.column == 1 ? p.out.row : p.out.row == 1 ? p.out.column : 1;
  return p.out.type == Element::kFloat32 && loops.lanes * 4 == 64 && stride % 16 == 0 &&
         on_a_line(p.out) && p.m * p.n * 4 > second_cache();
}
// Orders what is written past the caches before what follows.
void fence() {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

// Columns of the right operand that are packed at once.
int64_t packed_columns(const Product& p, const Loops& loops) {
  const int64_t width = kTileVectors * loops.lanes;
  const int64_t fitting = kPackedBytes / (std::max<int64_t>(p.k, 1) * 4) / width * width;
  return std::max<int64_t>(2 * width, fitting);
}

// What is copied, in elements of the left operand. The right one's copy goes through a larger
// cache; a result that is stored transposed meets whole lines as well, but in more places.
double copying_cost(const Product& p, const Loops& loops) {
  const auto of = [](int64_t a, int64_t b) {
    return static_cast<double>(a) * static_cast<double>(b);
  };
  const auto blocks = static_cast<double>(parts_of(p.n, packed_columns(p, loops)));
  return of(p.m, p.k) * blocks + 2 * of(p.n, p.k) + (p.out.column == 1 ? 0 : of(p.m, p.n));
}

// One column block of a tiled product, whose right operand is packed.
struct Packed {
  const Product& p;
  const Loops& loops;
  bool streams;
  int64_t begin, columns;  // of the block
  const float* right;

  int64_t width() const { return kTileVectors * loops.lanes; }
  int64_t panels() const { return parts_of(columns, width()); }
  int vectors(int64_t panel) const {
    return static_cast<int>(
        std::min<int64_t>(kTileVectors, parts_of(columns - panel * width(), loops.lanes)));
  }
  const float* panel(int64_t i) const { return right + i * width() * p.k; }
};

// Rows of tiles from `from` to `to`. Some of them are taken together, so that a part of the right
// operand is used several times while it is in the first cache.
void multiply_rows(const Packed& packed, int64_t from, int64_t to) {
  const Product& p = packed.p;
  const Loops& loops = packed.loops;
  const int64_t blocks = std::max<int64_t>(1, parts_of(p.k, kDepth));
  const int64_t left_block = loops.rows * kLeftStride;
  const int64_t together =
      std::clamp<int64_t>(left_bytes() / (blocks * left_block * 4), 1, kMostTogether);
  float* left = own_scratch.floats(together * blocks * left_block);
  const bool by_depth = p.a.row == 1 && p.a.column != 1;
  // By depth a tile's rows are a part of a line: of less than half a line, copies pay.
  const bool in_place =
      p.a.type == Element::kFloat32 && (by_depth ? loops.rows >= 8 : p.a.column == 1);
  const int64_t stride = by_depth ? p.a.column : p.a.row;
  const int64_t packed_stride = by_depth ? loops.rows : kLeftStride;
  const auto& micro = loops.micro[by_depth ? 1 : 0];
  alignas(64) float tiles[kMostTogether * kMostRows * kTileStride];
  const int64_t panels = packed.panels();
  for (int64_t i = from; i < to; i += together) {
    const int64_t first = i * loops.rows;
    const int64_t rows = std::min(together, to - i);
    const int64_t last = std::min(p.m, first + rows * loops.rows);
    const auto height = [&](int64_t r) {
      return static_cast<int>(std::min<int64_t>(loops.rows, p.m - first - r * loops.rows));
    };
    const int64_t unpacked = in_place ? (last - first) / loops.rows : 0;  // tiles
    const int64_t packed_from = first + unpacked * loops.rows;
    loops.pack_left(at(p.a, packed_from, 0), p.a.type, p.a.row, p.a.column, last - packed_from, p.k,
                    by_depth, left);
    const int64_t next = std::min(p.m, to * loops.rows) - last;
    const Ahead ahead(p.a, last, std::clamp<int64_t>(next, 0, last - first), panels, by_depth);
    for (int64_t j = 0; j < panels; ++j) {
      const int vectors = packed.vectors(j);
      const int64_t column = packed.begin + j * packed.width();
      const int64_t count = std::min(packed.width(), p.n - column);
      const Result out = moved(p.out, first, column);
      for (int64_t b = 0; b < blocks; ++b) {
        const int64_t depth = b * kDepth, length = std::min<int64_t>(kDepth, p.k - depth);
        const float* right = packed.panel(j) + depth * vectors * loops.lanes;
        for (int64_t r = 0; r < rows; ++r) {
          if (b == 0 && !packed.streams)
            fetch_result(moved(out, r * loops.rows, 0), height(r), count);
          const int all = height(r) > loops.rows / 2 ? 1 : 0;
          const bool lies = r < unpacked;
          const float* block =
              lies ? reinterpret_cast<const float*>(at(p.a, first + r * loops.rows, depth))
                   : left + ((r - unpacked) * blocks + b) * left_block;
          micro[all][vectors - 1](length, block, lies ? stride : packed_stride, right,
                                  tiles + r * loops.rows * kTileStride, b > 0,
                                  ahead.lines(r * loops.rows, loops.rows, depth, length, j));
        }
      }
      loops.store(tiles, kTileStride, last - first, count, moved(p.added, first, column), out,
                  packed.streams && on_a_line(out));
    }
  }
  if (packed.streams) fence();
}

// See Note [Product tiles].
void tiled_product(const Product& p, const Loops& loops, const Parallel& parallel, bool streams) {
  const int64_t width = kTileVectors * loops.lanes;
  const int64_t block = packed_columns(p, loops);
  for (int64_t begin = 0; begin < p.n; begin += block) {
    const int64_t columns = std::min(block, p.n - begin);
    float* right = shared_scratch.floats(parts_of(columns, width) * width * p.k);
    const Packed packed{p, loops, streams, begin, columns, right};
    const auto pack = [&](int64_t from, int64_t to) {
      const int64_t first = from * width, count = std::min(to * width, columns) - first;
      loops.pack_right(at(p.b, 0, begin + first), p.b.type, p.b.row, p.b.column, count, p.k,
                       right + first * p.k);
    };
    in_parallel(parallel, packed.panels(), kElementsPerPart / (width * p.k + 1) + 1, pack);
    in_parallel(parallel, parts_of(p.m, loops.rows),
                kFlopsPerPart / (2 * loops.rows * columns * p.k + 1) + 1,
                [&](int64_t from, int64_t to) { multiply_rows(packed, from, to); });
  }
}

void best_tiled_product(const Product& p, const Loops& loops, const Parallel& parallel,
                        bool streams) {
  const Product other = transposed(p);
  const bool as_it_is = copying_cost(p, loops) <= copying_cost(other, loops);
  tiled_product(as_it_is ? p : other, loops, parallel, streams);
}

// In slices of the depth, so that what is packed stays in the cache.
void sliced_product(const Product& p, const Loops& loops, const Parallel& parallel) {
  const bool in_place = p.out.type == Element::kFloat32;
  Scratch sums;
  Product slice = p;
  if (!in_place) slice.out = {sums.floats(p.m * p.n), Element::kFloat32, p.n, 1};
  for (int64_t d = 0; d < p.k; d += kSlice) {
    slice.k = std::min<int64_t>(kSlice, p.k - d);
    slice.a = moved(p.a, 0, d);
    slice.b = moved(p.b, d, 0);
    if (d > 0) slice.added = {slice.out.data, Element::kFloat32, slice.out.row, slice.out.column};
    best_tiled_product(slice, loops, parallel, false);
  }
  if (!in_place) loops.store(static_cast<float*>(slice.out.data), p.n, p.m, p.n, {}, p.out, false);
}

}  // namespace

Parallel serial() {
  return {[](int64_t units, int64_t, void (*work)(void*, int64_t, int64_t), void* data) {
            work(data, 0, units);
          },
          1};
}

Isa best_isa() {
#if defined(__x86_64__)
  static const Isa isa = [] {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return !avx2 ? Isa::kNone : avx512 ? Isa::kAvx512 : Isa::kAvx2;
  }();
  return isa;
#else
  return Isa::kNone;
#endif
}

void multiply(const Product& product, Isa isa, const Parallel& parallel) {
  const Loops& loops = loops_for(isa);
  if (product.m == 0 || product.n == 0) return;
  Product p = product.m <= product.n ? product : transposed(product);
  const bool deep = p.b.row == 1 || p.k == 1;
  const bool wide = p.b.column == 1 || p.n == 1;
  const bool few = p.m <= loops.most_dot_shorts && (p.k >= kLeastDotDepth || p.m == 1);
  if (deep && few) return dot_products(p, loops, parallel);
  if (wide && p.m <= kMostSpreadShorts) return spread_products(p, loops, parallel);
  if (p.k > kMostDepth) return sliced_product(p, loops, parallel);
  best_tiled_product(p, loops, parallel, streams(p, loops));
}

}  // namespace fulmen::kernels
