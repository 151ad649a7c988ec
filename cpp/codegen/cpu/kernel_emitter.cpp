#include "codegen/cpu/kernel_emitter.h"

#include <algorithm>

#include "codegen/cpu/row_plan.h"
#include "support/error.h"

namespace fulmen::codegen::cpu {

using I = VectorBuilder::IntCompare;

KernelLayout layout_of(const LoopProgram& program) {
  KernelLayout l;
  l.block = program.loops.size();
  l.num_blocks = l.block + 1;
  l.scratch_row = l.block + 2;
  l.strides = l.block + 3;
  l.count = l.strides + program.accesses.size() * program.loops.size();
  return l;
}

// Results begin at multiples of 64 bytes.
constexpr int kStreamAlignment = 32;

bool can_stream(const LoopProgram& p, const Schedule& s, const Store& store) {
  const Access& a = p.accesses[store.access];
  if (s.narrow || a.strides[s.vector_loop] != 1) return false;
  if (a.offset * itemsize(a.dtype) % kStreamAlignment) return false;
  for (size_t i = 0; i < p.loops.size(); ++i) {
    if (i != s.vector_loop && a.strides[i] * itemsize(a.dtype) % kStreamAlignment) return false;
  }
  return true;
}

KernelEmitter::KernelEmitter(const LoopProgram& program, const Schedule& schedule, const Isa& isa,
                             VectorBuilder& builder, const std::vector<bool>& float_numbers)
    : p_(program),
      s_(schedule),
      b_(builder),
      lanes_(builder, isa),
      float_numbers_(float_numbers),
      pass_(program.passes()) {
  for (size_t i = 0; i < p_.loops.size(); ++i) {
    (p_.loops[i].reduced ? reduced_loops_ : outer_loops_).push_back(i);
  }
  row_mode_ = p_.loops[s_.vector_loop].reduced;
  precision_ = precisions(p_);
  inner_ = inner_nodes(p_, s_);
  varying_ = p_.varying(s_.vector_loop);
  const RowPlan plan = plan_rows(p_, s_);
  last_pass_ = plan.last_pass;
  for (const auto& [node, pass] : plan.kept) {
    kept_.emplace(node, static_cast<int>(kept_.size()));
    kept_from_.emplace(node, pass);
  }
}

void KernelEmitter::emit() {
  const TypeRef params[] = {b_.ptr, b_.ptr, b_.ptr, b_.ptr, b_.i64, b_.i64};
  const Value f = b_.begin_function("kernel", params);
  const auto param = [&](unsigned i) { return b_.api().GetParam(f, i); };
  dims_ = param(1);
  numbers_ = param(2);
  scratch_ = param(3);
  const auto dim = [&](size_t i) {
    return b_.load(b_.i64, b_.address(dims_, b_.i64, b_.index(static_cast<int64_t>(i))), 8);
  };
  const KernelLayout layout = layout_of(p_);
  for (size_t i = 0; i < p_.loops.size(); ++i) sizes_.push_back(dim(layout.sizes + i));
  block_ = dim(layout.block);
  num_blocks_ = dim(layout.num_blocks);
  scratch_row_ = dim(layout.scratch_row);
  for (size_t a = 0; a < p_.accesses.size(); ++a) {
    const auto index = static_cast<int64_t>(a);
    pointers_.push_back(b_.load(b_.ptr, b_.address(param(0), b_.ptr, b_.index(index)), 8));
    Values strides;
    for (size_t i = 0; i < p_.loops.size(); ++i) {
      const bool read = stride_class(p_, p_.accesses[a], i) == StrideClass::kAny;
      strides.push_back(read ? dim(layout.strides + a * p_.loops.size() + i) : nullptr);
    }
    strides_.push_back(std::move(strides));
  }
  b_.loop(param(4), param(5), b_.index(1), {}, [&](Value unit, const Values&) -> Values {
    emit_unit(unit);
    return {};
  });
  if (s_.stream) b_.fence_streams();
  b_.end_function();
}

void KernelEmitter::emit_unit(Value unit) {
  Position at;
  at.index.resize(p_.loops.size(), b_.index(0));
  Value block = nullptr;
  if (!row_mode_) {
    block = b_.URem(unit, num_blocks_);
    unit = b_.UDiv(unit, num_blocks_);
  }
  std::vector<size_t> loops;
  for (const size_t l : outer_loops_) {
    const bool is_row = s_.tile_rows && l + 1 == s_.vector_loop;
    if (l != s_.vector_loop && !is_row) loops.push_back(l);
  }
  for (size_t i = loops.size(); i-- > 0;) {
    at.index[loops[i]] = i ? b_.URem(unit, size(loops[i])) : unit;
    if (i) unit = b_.UDiv(unit, size(loops[i]));
  }
  if (!row_mode_) {
    const size_t blocked = s_.vector_loop - (s_.tile_rows ? 1 : 0);
    const Value begin = b_.Mul(block, block_);
    const Value end = b_.min_index(b_.Add(begin, block_), size(blocked));
    if (!s_.tile_rows) return emit_elements(at, begin, end);
    b_.loop(begin, end, b_.index(1), {}, [&](Value row, const Values&) -> Values {
      Position here = at;
      here.index[blocked] = row;
      emit_elements(here, b_.index(0), size(s_.vector_loop));
      return {};
    });
  } else {
    emit_passes(at);
  }
}

// Without reductions over the lanes: all turns from `begin` to `end` of the vector loop.
void KernelEmitter::emit_elements(Position at, Value begin, Value end) {
  const size_t v = s_.vector_loop;
  if (p_.has_reductions()) {
    // A block is one vector: all passes for these lanes.
    const Value last = b_.Sub(size(v), b_.index(b_.width()));
    at.index[v] = s_.narrow ? b_.index(0) : b_.min_index(begin, last);
    emit_passes(at);
    return;
  }
  Computed outer;
  at.index[v] = b_.index(0);
  compute_outer(at, outer, 0);
  const int64_t step = static_cast<int64_t>(b_.width()) * s_.unroll;
  const Value last = b_.Sub(size(v), b_.index(step));
  const auto turns = [&](Value from, Value to) {
    b_.loop(from, to, b_.index(step), {}, [&](Value i, const Values&) -> Values {
      const Value first = s_.narrow ? b_.index(0) : at.aligned ? i : b_.min_index(i, last);
      for (int u = 0; u < s_.unroll; ++u) {
        Position here = at;
        here.index[v] = u ? b_.Add(first, b_.index(int64_t{u} * b_.width())) : first;
        store_elements(here, outer);
      }
      return {};
    });
  };
  if (s_.narrow || !(s_.exact || s_.stream)) return turns(begin, end);
  // Blocks begin at multiples of the step.
  const Value whole = b_.Add(begin, b_.And(b_.Sub(end, begin), b_.index(-step)));
  at.aligned = true;
  turns(begin, whole);
  at.aligned = false;
  if (!s_.exact) return turns(whole, end);
  at.end = end;
  b_.loop(whole, end, b_.index(b_.width()), {}, [&](Value i, const Values&) -> Values {
    at.index[v] = i;
    store_elements(at, outer);
    return {};
  });
}

// Everything is read before anything is written.
void KernelEmitter::store_elements(const Position& at, Computed known) {
  for (const Store& s : p_.stores) value(s.value, at, known, 0);
  for (const Store& s : p_.stores) store(s, at, known.at(s.value));
}

void KernelEmitter::emit_passes(const Position& at) {
  Computed outer;
  for (int pass = 0; pass <= last_pass_; ++pass) {
    compute_outer(at, outer, pass);
    emit_pass(pass, at, outer);
  }
  compute_outer(at, outer, last_pass_ + 1);
  for (const Store& s : p_.stores) {
    if (!stored_inside(p_, s)) store(s, at, value(s.value, at, outer, last_pass_ + 1));
  }
}

// Values that are the same in all turns of the pass, before it.
void KernelEmitter::compute_outer(const Position& at, Computed& outer, int pass) {
  for (uint32_t n = 0; n < p_.nodes.size(); ++n) {
    if (!inner_[n] && pass_[n] <= pass && p_.nodes[n].kind != NodeKind::kReduce) {
      value(n, at, outer, pass);
    }
  }
}

void KernelEmitter::emit_pass(int pass, const Position& at, Computed& outer) {
  const std::vector<uint32_t> reduces = reductions_of(pass);
  const std::function<Values(size_t, Position, const Values&)> nest =
      [&](size_t depth, Position here, const Values& totals) -> Values {
    if (depth + 1 == reduced_loops_.size()) {
      return row_mode_ ? vector_turns(pass, here, outer, totals)
                       : element_turns(pass, here, outer, totals);
    }
    return b_.loop(b_.index(0), size(reduced_loops_[depth]), b_.index(1), totals,
                   [&](Value i, const Values& turn) {
                     Position next = here;
                     next.index[reduced_loops_[depth]] = i;
                     return nest(depth + 1, next, turn);
                   });
  };
  const Values totals = closed(reduces, nest(0, at, opened(reduces)));
  for (size_t k = 0; k < reduces.size(); ++k) {
    const Node& node = p_.nodes[reduces[k]];
    outer[reduces[k]] = row_mode_ ? horizontal(node.reduce, node.dtype, totals[k]) : totals[k];
  }
}

std::vector<uint32_t> KernelEmitter::reductions_of(int pass) const {
  std::vector<uint32_t> out;
  for (uint32_t n = 0; n < p_.nodes.size(); ++n) {
    if (p_.nodes[n].kind == NodeKind::kReduce && pass_[n] == pass + 1) out.push_back(n);
  }
  return out;
}

// Note [Sums]
// Real numbers are added in blocks of a few turns; the blocks' sums go to a total with what its
// rounding lost beside it (Kahan), so that long sums are at least as exact as eager's, which adds
// in a tree, at no cost per element.
bool KernelEmitter::is_real_sum(uint32_t node) const {
  return p_.nodes[node].reduce == ReduceOp::kSum && is_floating(p_.nodes[node].dtype);
}

Values KernelEmitter::identities(const std::vector<uint32_t>& reduces) const {
  Values out;
  for (const uint32_t n : reduces) {
    out.push_back(lanes_.identity(p_.nodes[n].reduce, p_.nodes[n].dtype));
  }
  return out;
}

// The totals before the first turn; a real sum's lost part follows it.
Values KernelEmitter::opened(const std::vector<uint32_t>& reduces) const {
  Values out;
  for (const uint32_t n : reduces) {
    const Value v = lanes_.identity(p_.nodes[n].reduce, p_.nodes[n].dtype);
    out.push_back(v);
    if (is_real_sum(n)) out.push_back(v);
  }
  return out;
}

Values KernelEmitter::added(const std::vector<uint32_t>& reduces, const Values& totals,
                            const Values& parts) {
  Values out;
  for (size_t k = 0; k < reduces.size(); ++k) {
    const Node& node = p_.nodes[reduces[k]];
    const Value total = totals[out.size()];
    if (!is_real_sum(reduces[k])) {
      out.push_back(lanes_.combine(node.reduce, node.dtype, total, parts[k]));
      continue;
    }
    const Value lost = totals[out.size() + 1];
    const Value part = b_.FSub(parts[k], lost);
    const Value sum = b_.FAdd(total, part);
    const Value error = b_.FSub(b_.FSub(sum, total), part);
    out.push_back(sum);
    // Of an infinite sum nothing is lost; inf - inf would make it a NaN.
    const Value finite = b_.FCmp(VectorBuilder::FloatCompare::kOeq, b_.FSub(sum, sum),
                                 lanes_.identity(node.reduce, node.dtype));
    out.push_back(b_.Select(finite, error, lanes_.identity(node.reduce, node.dtype)));
  }
  return out;
}

Values KernelEmitter::closed(const std::vector<uint32_t>& reduces, const Values& totals) {
  Values out;
  size_t at = 0;
  for (const uint32_t n : reduces) {
    const Value total = totals[at++];
    out.push_back(is_real_sum(n) ? b_.FSub(total, totals[at++]) : total);
  }
  return out;
}

// Calls `body`, which makes the sums of turns from begin to end, block by block where that pays.
Values KernelEmitter::in_blocks(const std::vector<uint32_t>& reduces, Value end, int64_t step,
                                const Values& totals,
                                const std::function<Values(Value, Value)>& body) {
  constexpr int64_t kTurns = 16;
  const bool sums =
      std::any_of(reduces.begin(), reduces.end(), [&](uint32_t n) { return is_real_sum(n); });
  if (!sums) {
    const Values parts = body(b_.index(0), end);
    return reduces.empty() ? Values() : added(reduces, totals, parts);
  }
  const Value block = b_.index(kTurns * step);
  return b_.loop(b_.index(0), end, block, totals, [&](Value i, const Values& carried) {
    return added(reduces, carried, body(i, b_.min_index(b_.Add(i, block), end)));
  });
}

// The last reduced loop, turn by turn: the lanes run across it.
Values KernelEmitter::element_turns(int pass, Position at, const Computed& outer,
                                    const Values& totals) {
  const size_t loop = reduced_loops_.back();
  const std::vector<uint32_t> reduces = reductions_of(pass);
  return in_blocks(reduces, size(loop), 1, totals, [&](Value begin, Value end) {
    return b_.loop(begin, end, b_.index(1), identities(reduces),
                   [&](Value i, const Values& carried) {
                     at.index[loop] = i;
                     return turn(pass, at, outer, carried, nullptr);
                   });
  });
}

// The lanes run along a row; see Note [Tails].
Values KernelEmitter::vector_turns(int pass, Position at, const Computed& outer,
                                   const Values& totals) {
  const size_t v = s_.vector_loop;
  const int width = b_.width();
  const Value n = size(v), lane = b_.lane_numbers(b_.i64);
  const std::vector<uint32_t> reduces = reductions_of(pass);
  const Values nothing = identities(reduces);
  if (s_.narrow) {
    at.index[v] = b_.index(0);
    const Value valid = b_.ICmp(I::kSlt, lane, b_.splat(n));
    return added(reduces, totals, turn(pass, at, outer, nothing, valid));
  }
  const int unroll = reduces.empty() ? 1 : s_.unroll;
  const int64_t step = int64_t{width} * unroll;
  const size_t count = reduces.size();
  const Value whole = b_.And(n, b_.index(-step));
  at.aligned = true;
  const Values main = in_blocks(reduces, whole, step, totals, [&](Value begin, Value end) {
    Values all;
    for (int u = 0; u < unroll; ++u) all.insert(all.end(), nothing.begin(), nothing.end());
    all = b_.loop(begin, end, b_.index(step), all, [&](Value i, const Values& carried) {
      Values next;
      for (int u = 0; u < unroll; ++u) {
        at.index[v] = u ? b_.Add(i, b_.index(int64_t{u} * width)) : i;
        const auto first = carried.begin() + static_cast<ptrdiff_t>(u * count);
        const Values out =
            turn(pass, at, outer, Values(first, first + static_cast<ptrdiff_t>(count)), nullptr);
        next.insert(next.end(), out.begin(), out.end());
      }
      return next;
    });
    for (size_t k = 0; k < count; ++k) {
      const Node& r = p_.nodes[reduces[k]];
      for (int u = 1; u < unroll; ++u) {
        all[k] = lanes_.combine(r.reduce, r.dtype, all[k], all[u * count + k]);
      }
    }
    all.resize(count);
    return all;
  });
  at.aligned = false;
  const Value last = b_.Sub(n, b_.index(width));
  return b_.loop(whole, n, b_.index(width), main, [&](Value i, const Values& carried) {
    at.index[v] = b_.min_index(i, last);
    const Value lanes = b_.Add(b_.splat(at.index[v]), lane);
    const Value fresh = count ? b_.ICmp(I::kSge, lanes, b_.splat(i)) : nullptr;
    return added(reduces, carried, turn(pass, at, outer, nothing, fresh));
  });
}

// One vector of turns of the pass: its reductions, its stores, and what later passes read again.
Values KernelEmitter::turn(int pass, const Position& at, const Computed& outer,
                           const Values& accumulators, Value valid) {
  Computed known = outer;
  Values next;
  for (uint32_t n = 0; n < p_.nodes.size(); ++n) {
    const Node& node = p_.nodes[n];
    if (node.kind != NodeKind::kReduce || pass_[n] != pass + 1) continue;
    Value v = value(node.operands[0], at, known, pass);
    if (valid) v = b_.Select(valid, v, lanes_.identity(node.reduce, node.dtype));
    next.push_back(lanes_.combine(node.reduce, node.dtype, accumulators[next.size()], v));
  }
  for (const Store& s : p_.stores) {
    if (stored_inside(p_, s) && pass_[s.value] == pass)
      store(s, at, value(s.value, at, known, pass));
  }
  for (const auto& [node, from] : kept_from_) {
    if (from == pass && known.contains(node)) {
      b_.store(known[node], scratch_address(node, at), itemsize(p_.nodes[node].dtype));
    }
  }
  return next;
}

Value KernelEmitter::value(uint32_t node, const Position& at, Computed& known, int pass) {
  if (const auto it = known.find(node); it != known.end()) return it->second;
  const Node& n = p_.nodes[node];
  Value out = nullptr;
  const auto kept = kept_from_.find(node);
  if (kept != kept_from_.end() && kept->second < pass) {
    out = b_.load(b_.vec(lanes_.register_type(n.dtype)), scratch_address(node, at),
                  itemsize(n.dtype));
    return known[node] = out;
  }
  switch (n.kind) {
    case NodeKind::kLoad: out = load(p_.accesses[n.index], at); break;
    case NodeKind::kGather: out = gather(n, at, value(n.operands[0], at, known, pass)); break;
    case NodeKind::kIndex: out = loop_index(n.index, at); break;
    case NodeKind::kConstant: out = lanes_.constant(n); break;
    case NodeKind::kNumber: {
      const bool real = float_numbers_[n.index];
      const TypeRef type = real ? b_.f64 : b_.i64;
      const Value address = b_.address(numbers_, b_.i64, b_.index(n.index));
      out = lanes_.number(n, b_.load(type, address, 8), real);
      break;
    }
    case NodeKind::kOp: {
      Values operands;
      for (const uint32_t o : n.operands) operands.push_back(value(o, at, known, pass));
      const Node* constant = nullptr;
      if (n.operands.size() == 2 && p_.nodes[n.operands[1]].kind == NodeKind::kConstant) {
        constant = &p_.nodes[n.operands[1]];
      }
      out = lanes_.operation(n, operands, constant, precision_[node]);
      break;
    }
    case NodeKind::kReduce: internal_error("a reduction is read before its pass");
  }
  return known[node] = out;
}

Value KernelEmitter::element_address(uint32_t access, const Position& at, int lane) {
  const Access& a = p_.accesses[access];
  Value offset = b_.index(0);
  for (size_t i = 0; i < p_.loops.size(); ++i) {
    const StrideClass c = stride_class(p_, a, i);
    if (c == StrideClass::kZero) continue;
    Value index = at.index[i];
    if (i == s_.vector_loop && lane) {
      index = b_.Add(index, b_.index(lane));
      if (by_element(at)) {
        const Value end = at.end ? at.end : size(i);
        index = b_.min_index(index, b_.Sub(end, b_.index(1)));
      }
    }
    offset = b_.Add(offset, c == StrideClass::kOne ? index : b_.Mul(index, strides_[access][i]));
  }
  return b_.address(pointers_[access], lanes_.memory_type(a.dtype), offset);
}

Value KernelEmitter::loop_index(uint32_t access, const Position& at) {
  const Access& a = p_.accesses[access];
  Value sum = b_.index(a.offset), lane_stride = nullptr;
  for (size_t i = 0; i < p_.loops.size(); ++i) {
    const StrideClass c = stride_class(p_, a, i);
    if (c == StrideClass::kZero) continue;
    const Value stride = c == StrideClass::kOne ? b_.index(1) : strides_[access][i];
    sum = b_.Add(sum, b_.Mul(at.index[i], stride));
    if (i == s_.vector_loop) lane_stride = stride;
  }
  const Value first = b_.splat(b_.Trunc(sum, b_.i32));
  if (!lane_stride) return first;
  const Value steps = b_.splat(b_.Trunc(lane_stride, b_.i32));
  Value lanes = b_.lane_numbers(b_.i32);
  if (by_element(at)) {
    // Lanes past the end take the last index: memory may be addressed by it.
    const size_t v = s_.vector_loop;
    const Value after = b_.Sub(at.end ? at.end : size(v), at.index[v]);
    const Value last = b_.splat(b_.Trunc(b_.Sub(after, b_.index(1)), b_.i32));
    lanes = b_.Select(b_.ICmp(I::kSlt, last, lanes), last, lanes);
  }
  return b_.Add(first, b_.Mul(steps, lanes));
}

Value KernelEmitter::load(const Access& a, const Position& at) {
  const auto access = static_cast<uint32_t>(&a - p_.accesses.data());
  const StrideClass c = stride_class(p_, a, s_.vector_loop);
  const auto address = [&](int lane) { return element_address(access, at, lane); };
  if (c == StrideClass::kZero) {
    const Value v = b_.load(lanes_.memory_type(a.dtype), address(0), itemsize(a.dtype));
    return lanes_.from_memory(b_.splat(v), a.dtype);
  }
  return loaded(a, address, c == StrideClass::kOne && !by_element(at));
}

// `offsets` is the same in all lanes where no operand of it moves with them.
Value KernelEmitter::gather(const Node& n, const Position& at, Value offsets) {
  const Access& a = p_.accesses[n.index];
  const TypeRef element = lanes_.memory_type(a.dtype);
  const StrideClass c = stride_class(p_, a, s_.vector_loop);
  const bool same = !varying_[n.operands[0]];
  const Value first = b_.extract(offsets, 0);
  const auto address = [&](int lane) {
    const Value offset = same ? first : b_.extract(offsets, lane);
    return b_.address(element_address(n.index, at, lane), element, offset);
  };
  if (same && c == StrideClass::kZero) {
    return lanes_.from_memory(b_.splat(b_.load(element, address(0), itemsize(a.dtype))), a.dtype);
  }
  return loaded(a, address, same && c == StrideClass::kOne && !by_element(at));
}

// A vector of elements; `in_a_row`: as they stand in memory.
Value KernelEmitter::loaded(const Access& a, const std::function<Value(int lane)>& address,
                            bool in_a_row) {
  const TypeRef element = lanes_.memory_type(a.dtype);
  const int alignment = itemsize(a.dtype);
  if (in_a_row) {
    return lanes_.from_memory(b_.load(b_.vec(element), address(0), alignment), a.dtype);
  }
  Value v = b_.api().GetPoison(b_.vec(element));
  for (int lane = 0; lane < b_.width(); ++lane) {
    v = b_.insert(v, b_.load(element, address(lane), alignment), lane);
  }
  return lanes_.from_memory(v, a.dtype);
}

void KernelEmitter::store(const Store& s, const Position& at, Value v) {
  const Access& a = p_.accesses[s.access];
  v = lanes_.to_memory(v, a.dtype);
  const int alignment = itemsize(a.dtype);
  const StrideClass c = stride_class(p_, a, s_.vector_loop);
  if (c == StrideClass::kZero) {
    b_.store(b_.extract(v, 0), element_address(s.access, at, 0), alignment);
  } else if (c == StrideClass::kOne && !by_element(at)) {
    const Value address = element_address(s.access, at, 0);
    const int bytes = alignment * b_.width();
    if (s_.stream && at.aligned && bytes >= 16 && can_stream(p_, s_, s)) {
      b_.stream(v, address, std::min(bytes, kStreamAlignment));
    } else {
      b_.store(v, address, alignment);
    }
  } else {
    for (int lane = b_.width(); lane-- > 0;) {
      b_.store(b_.extract(v, lane), element_address(s.access, at, lane), alignment);
    }
  }
}

Value KernelEmitter::scratch_address(uint32_t node, const Position& at) {
  const Value row = b_.Mul(scratch_row_, b_.index(kept_[node]));
  const size_t loop = reduced_loops_.back();
  Value index = at.index[loop];
  if (!row_mode_) index = b_.Mul(index, b_.index(b_.width()));
  const Value base = b_.address(scratch_, b_.i8, row);
  return b_.address(base, lanes_.register_type(p_.nodes[node].dtype), index);
}

// Halves are combined until one lane is left, which all lanes then get.
Value KernelEmitter::horizontal(ReduceOp op, DType t, Value v) {
  std::vector<int> lanes(b_.width());
  for (int half = b_.width() / 2; half; half /= 2) {
    for (int i = 0; i < b_.width(); ++i) lanes[i] = (i + half) % b_.width();
    v = lanes_.combine(op, t, v, b_.shuffle(v, v, lanes));
  }
  return b_.splat(b_.extract(v, 0));
}

}  // namespace fulmen::codegen::cpu
