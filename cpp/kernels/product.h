#pragma once

#include <cstdint>

// Matrix products by loops of our own, for the processors and shapes on which a library is far from
// the machine's limit. No tensors here: pointers and strides.
namespace fulmen::kernels {

enum class Element : uint8_t { kFloat32, kBFloat16, kFloat16 };

constexpr int64_t size_of(Element e) { return e == Element::kFloat32 ? 4 : 2; }

// Strides in elements, 0 for what is broadcast.
struct Operand {
  const void* data = nullptr;
  Element type = Element::kFloat32;
  int64_t row = 0, column = 0;
};

struct Result {
  void* data = nullptr;
  Element type = Element::kFloat32;
  int64_t row = 0, column = 0;
};

// out(m, n) = a(m, k) · b(k, n) + added. Summed in float32 and rounded once, whatever the types.
// `added` may have no data. `out` overlaps nothing that is read, but may be `added` itself.
struct Product {
  int64_t m = 0, n = 0, k = 0;
  Operand a, b, added;
  Result out;
};

// Calls work(data, begin, end) for parts of [0, units) from any threads, and returns when all are
// done; no part is smaller than `grain`, but for the last one.
struct Parallel {
  void (*run)(int64_t units, int64_t grain, void (*work)(void* data, int64_t begin, int64_t end),
              void* data);
  int threads = 1;
};
// In this thread.
Parallel serial();

enum class Isa : uint8_t { kNone, kAvx2, kAvx512 };
// The widest one that this processor has kernels for.
Isa best_isa();

// Throws std::bad_alloc where there is no memory for operands in the order in which they are read.
// `isa` is at most best_isa().
void multiply(const Product& product, Isa isa, const Parallel& parallel);

}  // namespace fulmen::kernels
