#include "codegen/cpu/compiled_region.h"

#include <unistd.h>

#include <algorithm>

#include "codegen/cpu/kernel_emitter.h"
#include "codegen/cpu/row_plan.h"
#include "codegen/form.h"
#include "codegen/lower.h"
#include "codegen/open.h"
#include "support/error.h"
#include "support/flags.h"

namespace fulmen::codegen::cpu {
namespace {

// A thread is woken for this much work, in cycles of one lane, roughly.
constexpr int64_t kThreadCost = 300'000;
// A unit of a pointwise program has about this many elements.
constexpr int64_t kBlock = 4096;
// Rows that are kept must stay in the second-level cache.
constexpr int64_t kScratchLimit = 256 << 10;

int64_t element_cost(const LoopProgram& p) {
  int64_t cost = static_cast<int64_t>(p.accesses.size());
  for (const Node& n : p.nodes) cost += lane_cost(n);
  return std::max<int64_t>(cost, 1);
}

// Results larger than this are not found in a cache when they are read again.
int64_t cached_bytes() {
  static const int64_t bytes = [] {
    const long last_level = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return last_level > 0 ? int64_t{last_level} / 2 : int64_t{16} << 20;
  }();
  return bytes;
}

bool streams(const LoopProgram& p, const Schedule& s) {
  constexpr int64_t kShortRow = 128;  // would leave lines half written
  if (p.loops[s.vector_loop].size < kShortRow) return false;
  int64_t turns = 1, bytes = 0;
  for (const Loop& l : p.loops) turns *= l.size;
  for (const Store& store : p.stores) {
    const bool reduced = p.has_reductions() && !stored_inside(p, store);
    if (!reduced && can_stream(p, s, store)) {
      bytes += turns * itemsize(p.accesses[store.access].dtype);
    }
  }
  return bytes > cached_bytes();
}

}  // namespace

Schedule schedule_for(const LoopProgram& p, int width) {
  Schedule s;
  int last_outer = -1, last_reduced = -1;
  int64_t reduced_turns = 1;
  for (size_t i = 0; i < p.loops.size(); ++i) {
    (p.loops[i].reduced ? last_reduced : last_outer) = static_cast<int>(i);
    if (p.loops[i].reduced) reduced_turns *= p.loops[i].size;
  }
  s.vector_loop = static_cast<size_t>(last_reduced >= 0 ? last_reduced : last_outer);
  if (last_reduced >= 0 && last_outer >= 0) {
    // The lanes go along the loop in which memory is contiguous; short rows go side by side.
    int along_rows = 0, across_rows = 0;
    for (const Node& n : p.nodes) {
      if (n.kind != NodeKind::kLoad) continue;
      const Strides& strides = p.accesses[n.index].strides;
      along_rows += strides[last_reduced] == 1;
      across_rows += strides[last_outer] == 1 && strides[last_reduced] != 0;
    }
    const bool short_rows = reduced_turns < width / 2 && p.loops[last_outer].size >= width;
    if (across_rows > along_rows || short_rows) s.vector_loop = static_cast<size_t>(last_outer);
  }
  const int64_t n = p.loops[s.vector_loop].size;
  s.narrow = n < width;
  int cost = 0;
  for (const Node& node : p.nodes) cost += lane_cost(node);
  const int wanted = p.has_reductions() ? (cost < 20 ? 4 : 1) : cost < 20 ? 2 : 1;
  const bool unrolled = p.loops[s.vector_loop].reduced || !p.has_reductions();
  for (s.unroll = unrolled ? wanted : 1; s.unroll > 1 && n < int64_t{s.unroll} * width;) {
    s.unroll /= 2;
  }
  const int64_t row =
      p.loops[s.vector_loop].reduced ? std::max<int64_t>(n, width) : reduced_turns * width;
  s.keep_rows = p.has_reductions();
  const auto rows = static_cast<int64_t>(scratch_rows(p, s));
  s.keep_rows = rows > 0 && rows * row * 8 <= kScratchLimit;
  s.tile_rows = !p.has_reductions() && s.vector_loop > 0 && n <= kBlock / 2;
  s.exact = p.writes_inputs;
  s.stream = !s.exact && streams(p, s);
  return s;
}

std::optional<CompiledRegion> CompiledRegion::compile(const Trace& region, std::string* why) {
  std::vector<bool> float_numbers;
  for (const Proxy* p : region.inputs) {
    if (const NumberProxy* n = as_number(p)) {
      if (n->type == NumberType::kComplex) {
        *why = "a complex number";
        return std::nullopt;
      }
      float_numbers.push_back(n->type == NumberType::kFloat);
    }
  }
  std::vector<LoopProgram> programs = lower(region, why);
  if (programs.empty()) return std::nullopt;
  CompiledRegion r;
  for (LoopProgram& program : programs) {
    auto part = CompiledLoops::compile(std::move(program), float_numbers, why);
    if (!part) return std::nullopt;
    r.parts_.push_back(std::move(*part));
  }
  return r;
}

std::optional<CompiledLoops> CompiledLoops::compile(LoopProgram program,
                                                    const std::vector<bool>& float_numbers,
                                                    std::string* why) {
  const Isa isa = current_isa();
  CompiledLoops r;
  r.program_ = std::move(program);
  r.schedule_ = schedule_for(r.program_, isa.width);
  r.kernel_ = kernel_for(r.program_, r.schedule_, isa, float_numbers, why);
  if (!r.kernel_) return std::nullopt;

  const LoopProgram& p = r.program_;
  const KernelLayout layout = layout_of(p);
  r.dims_.resize(layout.count);
  int64_t outer = 1, reduced = 1;
  bool empty = false;
  for (size_t i = 0; i < p.loops.size(); ++i) {
    const Loop& l = p.loops[i];
    r.dims_[layout.sizes + i] = l.size;
    (l.reduced ? reduced : outer) *= l.size;
    empty = empty || (!l.reduced && l.size == 0);
  }
  const bool row_mode = p.loops[r.schedule_.vector_loop].reduced;
  int64_t unit = reduced;  // elements
  r.units_ = outer;
  if (!row_mode) {
    const int64_t n = p.loops[r.schedule_.vector_loop].size;
    const int64_t step = int64_t{isa.width} * r.schedule_.unroll;
    const bool rows = r.schedule_.tile_rows;
    // Turns of the loop that is divided into blocks, and of what is in one of them.
    const int64_t turns = rows ? p.loops[r.schedule_.vector_loop - 1].size : n;
    const int64_t inside = rows ? n : 1;
    const int64_t block = p.has_reductions() ? isa.width
                          : rows            ? std::max<int64_t>(kBlock / std::max<int64_t>(n, 1), 1)
                          : n <= 2 * kBlock ? std::max<int64_t>(n, 1)
                                            : kBlock / step * step;
    const int64_t blocks = (turns + block - 1) / block;
    r.dims_[layout.block] = block;
    r.dims_[layout.num_blocks] = blocks;
    r.units_ = empty ? 0 : outer / (turns * inside) * blocks;
    unit = std::max<int64_t>(block * inside * reduced, 1);
  }
  if (empty) r.units_ = 0;
  r.grain_ = std::max<int64_t>(1, kThreadCost / (std::max<int64_t>(unit, 1) * element_cost(p)));
  if (r.schedule_.keep_rows) {
    const int64_t n = p.loops[r.schedule_.vector_loop].size;
    const int64_t row = row_mode ? std::max<int64_t>(n, isa.width) : reduced * isa.width;
    r.dims_[layout.scratch_row] = (row * 8 + 63) / 64 * 64;
    r.scratch_bytes_ =
        static_cast<size_t>(r.dims_[layout.scratch_row]) * scratch_rows(p, r.schedule_);
  }
  for (size_t a = 0; a < p.accesses.size(); ++a) {
    for (size_t i = 0; i < p.loops.size(); ++i) {
      r.dims_[layout.strides + a * p.loops.size() + i] = p.accesses[a].strides[i];
    }
  }
  return r;
}

passes::FusionRules fusion_rules(const std::shared_ptr<TraceContext>& ctx) {
  passes::FusionRules rules;
  rules.refusal = [ctx](const BoundSymbol& b) { return fusion_refusal(b, ctx); };
  rules.is_view = is_fused_view;
  rules.joins_pieces = [](const BoundSymbol& b) {
    return form_of(b) == Form::kCat || form_of(b) == Form::kPlaced;
  };
  rules.opened = [ctx](const BoundSymbol& b) { return opened(b, ctx); };
  rules.region_refusal = [](const Trace& region) {
    std::string why;
    try {
      CompiledRegion::compile(region, &why);
    } catch (const InternalError& e) {
      // A mistake of ours costs speed, not the user's program; the pass notes it.
      if (flag_bool(Flag::kVerify)) throw;
      why = e.what();
    }
    return why;
  };
  return rules;
}

}  // namespace fulmen::codegen::cpu
