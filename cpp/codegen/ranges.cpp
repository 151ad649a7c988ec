#include "codegen/ranges.h"

#include <algorithm>

namespace fulmen::codegen {
namespace {

constexpr Range kAny{-(int64_t{1} << 62), int64_t{1} << 62};
// Sums and products of larger numbers may wrap around.
constexpr int64_t kLarge = int64_t{1} << 31;
// Operands of operands that are looked at: programs are graphs, and are walked as trees here.
constexpr int kDepth = 8;

Range of_dtype(DType t) {
  switch (t) {
    case DType::kBool: return {0, 2};
    case DType::kUInt8: return {0, 256};
    case DType::kInt8: return {-128, 128};
    case DType::kInt16: return {-32768, 32768};
    case DType::kInt32: return {-kLarge, kLarge};
    default: return kAny;
  }
}

bool within(Range r, Range all) { return r.begin >= all.begin && r.end <= all.end; }
bool is_small(Range r) { return within(r, {-kLarge, kLarge}); }
int64_t floor_divided(int64_t a, int64_t b) { return a / b - (a % b < 0); }

class Ranges {
 public:
  Ranges(const LoopProgram& program, const Box& box) : program_(program), box_(box) {}

  Range of(uint32_t node, int depth) const {
    const Node& n = program_.nodes[node];
    const Range all = of_dtype(n.dtype);
    if (!is_integral(n.dtype) || depth == 0) return all;
    Range r = all;
    if (n.kind == NodeKind::kConstant) r = {n.integer, n.integer + 1};
    if (n.kind == NodeKind::kIndex) r = of_loops(program_.accesses[n.index]);
    if (n.kind == NodeKind::kReduce && (n.reduce == ReduceOp::kMax || n.reduce == ReduceOp::kMin)) {
      r = of(n.operands[0], depth - 1);
    }
    if (n.kind == NodeKind::kOp && is_integral(n.compute)) {
      r = of_operation(n, depth - 1);
      if (n.lane != Lane::kConvert && !within(r, of_dtype(n.compute))) return all;
    }
    return within(r, all) ? r : all;
  }

 private:
  Range of_loops(const Access& a) const {
    Range r{a.offset, a.offset + 1};
    for (size_t i = 0; i < a.strides.size(); ++i) {
      const int64_t reach = a.strides[i] * std::max<int64_t>(box_[i].end - box_[i].begin - 1, 0);
      (reach < 0 ? r.begin : r.end) += reach;
    }
    return r;
  }

  Range of_operation(const Node& n, int depth) const {
    const auto operand = [&](size_t i) { return of(n.operands[i], depth); };
    if (n.lane == Lane::kConvert) return operand(0);
    if (n.lane == Lane::kWhere) {
      const Range x = operand(1), y = operand(2);
      return {std::min(x.begin, y.begin), std::max(x.end, y.end)};
    }
    if (n.operands.size() != 2) return kAny;
    const Range x = operand(0), y = operand(1);
    const int64_t a = x.begin, b = x.end - 1, c = y.begin, d = y.end - 1;
    if (n.lane == Lane::kMaximum) return {std::max(a, c), std::max(b, d) + 1};
    if (n.lane == Lane::kMinimum) return {std::min(a, c), std::min(b, d) + 1};
    const bool by_number = c == d && c > 0;
    if (n.lane == Lane::kRemainder && by_number) return a >= 0 && b < c ? x : Range{0, c};
    if (!is_small(x) || !is_small(y)) return kAny;
    switch (n.lane) {
      case Lane::kAdd: return {a + c, b + d + 1};
      case Lane::kSub: return {a - d, b - c + 1};
      case Lane::kRsub: return {c - b, d - a + 1};
      case Lane::kMul: {
        const auto [least, most] = std::minmax({a * c, a * d, b * c, b * d});
        return {least, most + 1};
      }
      case Lane::kFloorDiv:
        return by_number ? Range{floor_divided(a, c), floor_divided(b, c) + 1} : kAny;
      default: return kAny;
    }
  }

  const LoopProgram& program_;
  const Box& box_;
};

}  // namespace

Range range_of(const LoopProgram& program, const Box& box, uint32_t node) {
  return Ranges(program, box).of(node, kDepth);
}

}  // namespace fulmen::codegen
