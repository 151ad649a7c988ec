#include "analysis/cost.h"

#include <algorithm>

namespace fulmen {
namespace {

constexpr double kBytesPerSecond = 8e9;
constexpr double kFlopsPerSecond = 60e9;
constexpr double kElementsPerSecond = 0.7e9;  // of functions like exp
constexpr double kOverhead = 1.5e-6;          // of a call of an operator
constexpr double kFusedOverhead = 0.2e-6;
constexpr double kFusedTraffic = 0.3;  // of that of an operator on its own
constexpr int64_t kSymbolicSize = 64;

int64_t size_of(Dim d) { return d.value_or(kSymbolicSize); }

double count(const TensorType& t) {
  double n = 1;
  for (const Dim d : t.shape) n *= static_cast<double>(size_of(d));
  return n;
}

// Multiplications and additions of a product: twice the size of the result for each element that
// is summed over. All products have that number, but for attention and convolutions, as the last
// size of their first operand.
double flops(const BoundSymbol& b) {
  const TensorProxy *first = nullptr, *second = nullptr, *result = nullptr;
  for (const Arg& a : b.args) {
    for_each_proxy(a, [&](const Proxy* p) {
      if (!as_tensor(p)) return;
      if (!first) {
        first = as_tensor(p);
      } else if (!second) {
        second = as_tensor(p);
      }
    });
  }
  for_each_proxy(b.output, [&](const Proxy* p) {
    if (!result) result = as_tensor(p);
  });
  if (!first || !result || first->type.ndim() == 0) return 0;
  const double out = count(result->type);
  const auto& shape = first->type.shape;
  if (!second || second->type.ndim() == 0)
    return 2 * out * static_cast<double>(size_of(shape[shape.size() - 1]));
  const auto& other = second->type.shape;
  if (b.symbol->name().find("conv") != std::string::npos)
    return 2 * out * count(second->type) / std::max<double>(1, size_of(other[0]));
  if (b.symbol->name().find("attention") != std::string::npos && other.size() >= 2)
    return 4 * out * static_cast<double>(size_of(other[other.size() - 2]));
  return 2 * out * static_cast<double>(size_of(shape[shape.size() - 1]));
}

}  // namespace

int64_t bytes_of(const Proxy* p) {
  const TensorProxy* t = as_tensor(p);
  return t ? static_cast<int64_t>(count(t->type)) * itemsize(t->type.dtype) : 0;
}

double estimated_seconds(const BoundSymbol& b, bool fused) {
  double traffic = 0, elements = 0;
  bool makes_storage = false;
  for (const Arg& a : b.args) {
    for_each_proxy(a, [&](const Proxy* p) { traffic += static_cast<double>(bytes_of(p)); });
  }
  for_each_proxy(b.output, [&](const Proxy* p) {
    const TensorProxy* t = as_tensor(p);
    if (!t) return;
    makes_storage = makes_storage || !t->alias_of;
    traffic += static_cast<double>(bytes_of(p));
    elements += count(t->type);
  });
  const Symbol& s = *b.symbol;
  const bool pointwise = s.has(kPointwise);
  const bool in_kernel = fused && pointwise;
  const double overhead = in_kernel ? kFusedOverhead : kOverhead;
  if (!makes_storage) return overhead;
  if (s.has(kMatmul))
    return overhead + std::max(flops(b) / kFlopsPerSecond, traffic / kBytesPerSecond);
  if (in_kernel) traffic *= kFusedTraffic;
  double seconds = overhead + traffic / kBytesPerSecond;
  if (pointwise && s.has(kFloatResult)) seconds += elements / kElementsPerSecond;
  return seconds;
}

}  // namespace fulmen
