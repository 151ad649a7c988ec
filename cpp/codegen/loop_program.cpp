#include "codegen/loop_program.h"

#include <algorithm>
#include <cstring>

#include "support/cat.h"

namespace fulmen::codegen {
namespace {

// The access that decides in which order loops of one kind are walked: the first store for outer
// loops, for reduced ones the first load that moves with them.
const Access* guide(const LoopProgram& p, bool reduced) {
  if (!reduced) return p.stores.empty() ? nullptr : &p.accesses[p.stores[0].access];
  for (const Node& n : p.nodes) {
    if (n.kind != NodeKind::kLoad) continue;
    for (size_t i = 0; i < p.loops.size(); ++i) {
      if (p.loops[i].reduced && p.accesses[n.index].strides[i] != 0) return &p.accesses[n.index];
    }
  }
  return nullptr;
}

void reorder(LoopProgram& p, const std::vector<size_t>& order) {
  std::vector<Loop> loops;
  for (const size_t i : order) loops.push_back(p.loops[i]);
  for (Access& a : p.accesses) {
    Strides strides;
    for (const size_t i : order) strides.push_back(a.strides[i]);
    a.strides = strides;
  }
  p.loops = std::move(loops);
}

bool joinable(const LoopProgram& p, size_t outer) {
  const size_t inner = outer + 1;
  if (p.loops[outer].reduced != p.loops[inner].reduced) return false;
  return std::all_of(p.accesses.begin(), p.accesses.end(), [&](const Access& a) {
    return a.strides[outer] == a.strides[inner] * p.loops[inner].size;
  });
}

constexpr std::string_view kReduceNames[] = {"sum", "prod", "max", "min", "any", "all"};

void append_node(std::string& s, const Node& n) {
  switch (n.kind) {
    case NodeKind::kLoad: append(s, cat("load ", n.index)); break;
    case NodeKind::kConstant:
      append(s, "constant ");
      if (is_floating(n.dtype)) {
        // The bits: NaN and -0.0 are values of their own.
        uint64_t bits = 0;
        std::memcpy(&bits, &n.real, sizeof bits);
        append(s, cat(n.real, " bits ", bits, n.in_float ? " wide" : ""));
      } else {
        append(s, n.integer);
      }
      break;
    case NodeKind::kIndex: append(s, cat("index ", n.index)); break;
    case NodeKind::kNumber: append(s, cat("number ", n.index, n.in_float ? " wide" : "")); break;
    case NodeKind::kOp:
      append(s, cat("lane ", static_cast<int>(n.lane), " in ", short_name(n.compute)));
      break;
    case NodeKind::kReduce: append(s, kReduceNames[static_cast<int>(n.reduce)]); break;
  }
  for (const uint32_t operand : n.operands) append(s, cat(" %", operand));
  append(s, cat(": ", short_name(n.dtype), "\n"));
}

}  // namespace

bool LoopProgram::has_reductions() const {
  return std::any_of(loops.begin(), loops.end(), [](const Loop& l) { return l.reduced; });
}

std::vector<bool> LoopProgram::varying(size_t loop) const {
  std::vector<bool> out(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Node& n = nodes[i];
    if (n.kind == NodeKind::kLoad || n.kind == NodeKind::kIndex)
      out[i] = accesses[n.index].strides[loop] != 0;
    if (n.kind == NodeKind::kReduce && loops[loop].reduced) continue;
    for (const uint32_t operand : n.operands) out[i] = out[i] || out[operand];
  }
  return out;
}

std::vector<int> LoopProgram::passes() const {
  std::vector<int> out(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const uint32_t operand : nodes[i].operands) out[i] = std::max(out[i], out[operand]);
    if (nodes[i].kind == NodeKind::kReduce) ++out[i];
  }
  return out;
}

void simplify(LoopProgram& p) {
  std::vector<size_t> kept, reduced;
  for (size_t i = 0; i < p.loops.size(); ++i) {
    if (p.loops[i].size != 1) (p.loops[i].reduced ? reduced : kept).push_back(i);
  }
  // A reduction over dimensions of size 1 is still a reduction.
  const bool needs_reduced = p.has_reductions() && reduced.empty();
  for (const bool is_reduced : {false, true}) {
    auto& order = is_reduced ? reduced : kept;
    if (const Access* a = guide(p, is_reduced)) {
      std::stable_sort(order.begin(), order.end(),
                       [&](size_t x, size_t y) { return a->strides[x] > a->strides[y]; });
    }
  }
  kept.insert(kept.end(), reduced.begin(), reduced.end());
  reorder(p, kept);
  if (p.loops.empty() || needs_reduced) {
    p.loops.push_back({1, needs_reduced});
    for (Access& a : p.accesses) a.strides.push_back(0);
  }
  for (size_t i = p.loops.size() - 1; i-- > 0;) {
    if (!joinable(p, i)) continue;
    p.loops[i + 1].size *= p.loops[i].size;
    p.loops.erase(p.loops.begin() + static_cast<ptrdiff_t>(i));
    for (Access& a : p.accesses) a.strides.erase(i);
  }
}

StrideClass stride_class(const LoopProgram& p, const Access& a, size_t loop) {
  if (a.strides[loop] == 0 || p.loops[loop].size == 1) return StrideClass::kZero;
  return a.strides[loop] == 1 ? StrideClass::kOne : StrideClass::kAny;
}

std::string canonical_text(const LoopProgram& p, const Schedule& schedule) {
  std::string s =
      cat("vector ", schedule.vector_loop, schedule.narrow ? " narrow" : "", " unroll ",
          schedule.unroll, schedule.keep_rows ? " keep" : "", schedule.tile_rows ? " rows" : "",
          schedule.stream ? " stream" : "", schedule.exact ? " exact" : "", "\n");
  for (const Loop& l : p.loops) append(s, l.reduced ? "reduced " : "loop ");
  append(s, "\n");
  for (const Access& a : p.accesses) {
    append(s, cat("access ", short_name(a.dtype)));
    if (a.tensor == Access::kNoTensor) append(s, cat(" from ", a.offset));
    for (size_t i = 0; i < p.loops.size(); ++i) {
      append(s, cat(" ", std::string_view(&"01s"[static_cast<int>(stride_class(p, a, i))], 1)));
    }
    append(s, "\n");
  }
  for (const Node& n : p.nodes) append_node(s, n);
  for (const Store& store : p.stores)
    append(s, cat("store ", store.access, " %", store.value, "\n"));
  return s;
}

}  // namespace fulmen::codegen
