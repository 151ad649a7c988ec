#include "codegen/cpu/row_plan.h"

#include <algorithm>
#include <functional>

#include "codegen/cpu/kernel_emitter.h"

namespace fulmen::codegen::cpu {

std::vector<bool> inner_nodes(const LoopProgram& program, const Schedule& schedule) {
  std::vector<bool> inner(program.nodes.size());
  for (size_t loop = 0; loop < program.loops.size(); ++loop) {
    const bool innermost =
        program.has_reductions() ? program.loops[loop].reduced : loop == schedule.vector_loop;
    if (!innermost) continue;
    const std::vector<bool> varies = program.varying(loop);
    for (size_t n = 0; n < inner.size(); ++n) inner[n] = inner[n] || varies[n];
  }
  return inner;
}

bool stored_inside(const LoopProgram& program, const Store& store) {
  const Strides& strides = program.accesses[store.access].strides;
  for (size_t loop = 0; loop < program.loops.size(); ++loop) {
    if (program.loops[loop].reduced && strides[loop] != 0) return true;
  }
  return false;
}

int lane_cost(const Node& n) {
  if (n.kind == NodeKind::kGather) return 4;
  if (n.kind != NodeKind::kOp) return 0;
  switch (n.lane) {
    case Lane::kExp:
    case Lane::kExpm1:
    case Lane::kLog:
    case Lane::kLog1p:
    case Lane::kSin:
    case Lane::kCos:
    case Lane::kErf:
    case Lane::kSigmoid:
    case Lane::kTanh: return 20;
    case Lane::kDiv:
    case Lane::kReciprocal:
    case Lane::kSqrt:
    case Lane::kRsqrt: return 6;
    case Lane::kFloorDiv:
    case Lane::kRemainder:
    case Lane::kFmod:
    case Lane::kNextafter:
    case Lane::kPow:
    case Lane::kExp2:
    case Lane::kLog2:
    case Lane::kLog10:
    case Lane::kTan:
    case Lane::kAsin:
    case Lane::kAcos:
    case Lane::kAtan:
    case Lane::kAtan2:
    case Lane::kSinh:
    case Lane::kCosh:
    case Lane::kAsinh:
    case Lane::kAcosh:
    case Lane::kAtanh:
    case Lane::kHypot:
    case Lane::kErfc:
    case Lane::kErfinv:
    case Lane::kLgamma:
    case Lane::kDigamma: return 60;
    default: return 1;
  }
}

// Nodes that are only added to 1.
std::vector<bool> added_to_one(const LoopProgram& program) {
  std::vector<bool> added(program.nodes.size(), true);
  for (const Store& s : program.stores) added[s.value] = false;
  for (const Node& user : program.nodes) {
    const bool adds = user.kind == NodeKind::kOp && user.lane == Lane::kAdd;
    for (size_t i = 0; i < user.operands.size(); ++i) {
      const Node& other = program.nodes[user.operands[user.operands.size() - 1 - i]];
      const bool one = other.kind == NodeKind::kConstant && other.real == 1.0;
      if (!adds || !one) added[user.operands[i]] = false;
    }
  }
  return added;
}

std::vector<Precision> precisions(const LoopProgram& program) {
  std::vector<bool> coarse(program.nodes.size(), true);
  for (const Store& s : program.stores) coarse[s.value] = false;
  for (size_t n = program.nodes.size(); n-- > 0;) {
    const Node& user = program.nodes[n];
    const bool rounds = user.dtype == DType::kFloat16 || user.dtype == DType::kBFloat16;
    const bool passes_on = user.dtype == DType::kFloat32 && coarse[n];
    if (user.kind == NodeKind::kOp && (rounds || passes_on)) continue;
    for (const uint32_t o : user.operands) coarse[o] = false;
  }
  const std::vector<bool> added = added_to_one(program);
  std::vector<Precision> out(program.nodes.size(), Precision::kFull);
  for (size_t n = 0; n < out.size(); ++n) {
    if (added[n]) out[n] = Precision::kAbsolute;
    if (coarse[n]) out[n] = Precision::kCoarse;
  }
  return out;
}

RowPlan plan_rows(const LoopProgram& program, const Schedule& schedule) {
  RowPlan plan;
  const std::vector<int> pass = program.passes();
  const std::vector<bool> inner = inner_nodes(program, schedule);
  const size_t count = program.nodes.size();
  size_t reduced_loops = 0;
  for (const Loop& l : program.loops) reduced_loops += l.reduced;
  // What each pass computes.
  std::vector<std::vector<uint32_t>> roots;
  const auto add_root = [&](int p, uint32_t node) {
    plan.last_pass = std::max(plan.last_pass, p);
    if (roots.size() <= static_cast<size_t>(p)) roots.resize(p + 1);
    roots[p].push_back(node);
  };
  for (uint32_t n = 0; n < count; ++n) {
    if (program.nodes[n].kind == NodeKind::kReduce) {
      add_root(pass[n] - 1, program.nodes[n].operands[0]);
    }
  }
  for (const Store& s : program.stores) {
    if (stored_inside(program, s)) add_root(pass[s.value], s.value);
  }
  if (!schedule.keep_rows || reduced_loops != 1) return plan;
  // What it takes to compute a node again from memory.
  std::vector<int> cost(count);
  for (uint32_t n = 0; n < count; ++n) {
    if (!inner[n]) continue;
    cost[n] = lane_cost(program.nodes[n]);
    for (const uint32_t o : program.nodes[n].operands) cost[n] = std::min(1000, cost[n] + cost[o]);
  }
  std::vector<int> first(count, -1);
  for (int p = 0; p <= plan.last_pass; ++p) {
    std::vector<bool> seen(count);
    const std::function<void(uint32_t)> visit = [&](uint32_t n) {
      if (!inner[n] || seen[n]) return;
      seen[n] = true;
      const Node& node = program.nodes[n];
      if (first[n] >= 0 && first[n] < p) {
        if (plan.kept.contains(n)) return;
        const bool is_real = node.dtype == DType::kFloat32 || node.dtype == DType::kFloat64;
        if (cost[n] >= 12 && is_real) {
          plan.kept.emplace(n, first[n]);
          return;
        }
      } else if (first[n] < 0) {
        first[n] = p;
      }
      for (const uint32_t o : node.operands) visit(o);
    };
    if (static_cast<size_t>(p) < roots.size()) {
      for (const uint32_t n : roots[p]) visit(n);
    }
  }
  return plan;
}

size_t scratch_rows(const LoopProgram& program, const Schedule& schedule) {
  return plan_rows(program, schedule).kept.size();
}

}  // namespace fulmen::codegen::cpu
