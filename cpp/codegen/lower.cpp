#include "codegen/lower.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "analysis/proxy_map.h"
#include "codegen/form.h"
#include "codegen/index_map.h"
#include "codegen/parts.h"
#include "codegen/ranges.h"
#include "ir/builder.h"
#include "ir/region.h"
#include "ops/meta.h"
#include "ops/shape.h"
#include "support/error.h"

namespace fulmen::codegen {
namespace {

// Beyond this place of a loop elements come from elsewhere; caught by `lower`.
struct Split {
  size_t loop;
  int64_t at;
};

class Lowering {
 public:
  // An empty box: all elements.
  Lowering(const Trace& region, Box box)
      : region_(region),
        outputs_(region_outputs(region.output)),
        builder_(region.ctx),
        box_(std::move(box)) {}
  const Box& box() const { return box_; }

  LoopProgram run() {
    uint32_t tensors = 0;
    for (const Proxy* p : region_.inputs) {
      if (as_tensor(p)) {
        inputs_.set(p, static_cast<int>(++tensors));
      } else if (as_number(p)) {
        numbers_.set(p, static_cast<int>(++program_.num_numbers));
      } else {
        refuse("an input that is neither a tensor nor a number");
      }
    }
    for (const BoundSymbol* bsym : region_.body) define(*bsym);
    choose_loops();
    for (const Arg& output : outputs_) add_output(*output.tensor(), tensors++);
    if (program_.writes_inputs) check_writes();
    simplify(program_);
    return std::move(program_);
  }

 private:
  // What computes each value, composites taken apart.
  void define(const BoundSymbol& bsym) {
    const Form form = form_of(bsym);
    if (form != Form::kNone) {
      if (is_reduction(form)) reductions_.push_back(&bsym);
      for_each_proxy(bsym.output, [&](const Proxy* p) { definitions_.set(p, &bsym); });
      return;
    }
    const auto inner = parts_of(region_.ctx, bsym);
    if (inner.empty() && !returns_argument(bsym)) {
      refuse(bsym.symbol->name(), " has no form that is fused");
    }
    for (const BoundSymbol* b : inner) define(*b);
  }

  // The dimensions of what is reduced; without reductions those of the results.
  void choose_loops() {
    if (outputs_.empty()) refuse("a region without results");
    if (reductions_.empty()) {
      sizes_ = sizes_of(outputs_[0].tensor()->type);
      reduced_.resize(sizes_.size(), false);
    } else {
      const BoundSymbol& first = *reductions_[0];
      const TensorType& type = first.args[0].tensor()->type;
      sizes_ = sizes_of(type);
      reduced_.resize(sizes_.size(), false);
      for (const int64_t axis : axes_of(first)) reduced_[axis] = true;
    }
    for (size_t i = 0; i < sizes_.size(); ++i) {
      if (reduced_[i] && sizes_[i] == 0) refuse("a reduction of no elements");
      if (box_.size() <= i) box_.push_back({0, sizes_[i]});
      program_.loops.push_back({box_[i].end - box_[i].begin, reduced_[i]});
    }
  }

  // --- index maps ---

  Affine loop_index(size_t loop) const {
    Affine a;
    a.factors.resize(sizes_.size(), 0);
    a.factors[loop] = 1;
    a.start = box_[loop].begin;
    return a;
  }
  IndexMap identity() const {
    IndexMap map;
    for (size_t i = 0; i < sizes_.size(); ++i) map.push_back(loop_index(i));
    return map;
  }

  // Where an output is stored: every loop, or those that are not reduced.
  IndexMap output_map(const TensorType& t) const {
    const Sizes sizes = sizes_of(t);
    if (sizes == sizes_) return identity();
    IndexMap with_ones, kept;
    bool fits = sizes.size() == sizes_.size();
    for (size_t i = 0; i < sizes_.size(); ++i) {
      with_ones.push_back(reduced_[i] ? Affine() : loop_index(i));
      fits = fits && sizes[i] == (reduced_[i] ? 1 : sizes_[i]);
      if (!reduced_[i]) kept.push_back(loop_index(i));
    }
    if (fits && !reductions_.empty()) return with_ones;
    fits = sizes.size() == kept.size() && !reductions_.empty();
    for (size_t i = 0, k = 0; fits && i < sizes_.size(); ++i) {
      if (!reduced_[i]) fits = sizes[k++] == sizes_[i];
    }
    if (!fits) refuse("results of several shapes");
    return kept;
  }

  // --- nodes ---

  uint32_t add(const Node& n) {
    for (size_t i = 0; i < program_.nodes.size(); ++i) {
      const Node& known = program_.nodes[i];
      const bool same_sign = std::signbit(known.real) == std::signbit(n.real);
      if (known == n && same_sign) return static_cast<uint32_t>(i);
    }
    program_.nodes.push_back(n);
    return static_cast<uint32_t>(program_.nodes.size() - 1);
  }

  uint32_t add_access(const TensorType& t, uint32_t tensor, const IndexMap& map,
                      int64_t first = 0) {
    Access a;
    a.offset = first;
    a.tensor = tensor;
    a.dtype = t.dtype;
    a.strides.resize(sizes_.size(), 0);
    for (size_t d = 0; d < map.size(); ++d) {
      const int64_t stride = t.strides[d].value();
      a.offset += stride * map[d].start;
      for (size_t i = 0; i < map[d].factors.size(); ++i) {
        a.strides[i] += stride * map[d].factors[i];
      }
    }
    return access_number(std::move(a));
  }

  uint32_t access_number(Access a) {
    for (size_t i = 0; i < program_.accesses.size(); ++i) {
      if (program_.accesses[i] == a) return static_cast<uint32_t>(i);
    }
    program_.accesses.push_back(std::move(a));
    return static_cast<uint32_t>(program_.accesses.size() - 1);
  }

  uint32_t converted(uint32_t node, DType to) {
    if (program_.nodes[node].dtype == to) return node;
    Node n;
    n.kind = NodeKind::kOp;
    n.lane = Lane::kConvert;
    n.compute = program_.nodes[node].dtype;
    n.dtype = to;
    n.operands.push_back(node);
    return add(n);
  }

  uint32_t operation(Lane lane, DType compute, DType dtype,
                     std::initializer_list<uint32_t> operands) {
    Node n;
    n.kind = NodeKind::kOp;
    n.lane = lane;
    n.compute = compute;
    n.dtype = dtype;
    for (const uint32_t o : operands) n.operands.push_back(o);
    return add(n);
  }

  // A number as an operand of type `dtype`.
  uint32_t number(const Arg& a, DType dtype, bool in_float) {
    Node n;
    n.dtype = dtype;
    n.in_float = in_float;
    if (a.is_proxy()) {
      n.kind = NodeKind::kNumber;
      n.index = static_cast<uint32_t>(numbers_.get(a.proxy()) - 1);
      if (numbers_.get(a.proxy()) == 0) refuse("a number that the region computes");
      if (as_number(a.proxy())->type == NumberType::kFloat && !is_floating(dtype)) {
        refuse("a float as an integer");
      }
      return add(n);
    }
    n.real = a.kind() == Arg::Kind::kFloat ? a.real() : static_cast<double>(a.integer());
    n.integer = a.kind() == Arg::Kind::kFloat ? static_cast<int64_t>(a.real()) : a.integer();
    if (is_floating(dtype)) {
      n.integer = 0;
    } else {
      n.real = 0;
    }
    if (dtype == DType::kBool) {
      n.integer = a.kind() == Arg::Kind::kFloat ? a.real() != 0 : a.integer() != 0;
    }
    return add(n);
  }

  // --- values ---

  uint32_t value(const Proxy* p, const IndexMap& map) {
    for (const auto& [known, node] : values_[p]) {
      if (known == map) return node;
    }
    const uint32_t node = compute(p, map);
    values_[p].emplace_back(map, node);
    return node;
  }

  uint32_t compute(const Proxy* p, const IndexMap& map) {
    if (const int tensor = inputs_.get(p)) {
      Node n;
      n.kind = NodeKind::kLoad;
      n.dtype = as_tensor(p)->type.dtype;
      n.index = add_access(as_tensor(p)->type, static_cast<uint32_t>(tensor - 1), map);
      return add(n);
    }
    const BoundSymbol* bsym = definitions_.get(p);
    if (!bsym) refuse(p->name, " is computed by nothing in the region");
    const Form form = form_of(*bsym);
    const TensorType& type = as_tensor(p)->type;
    if (form == Form::kCat || form == Form::kPlaced) return joined(*bsym, type, map);
    if (form == Form::kFull) return number(filler_of(*bsym), type.dtype, false);
    if (form == Form::kArange) return counted(*bsym, type, map);
    if (is_gather(form)) return gathered(*bsym, form, type, map);
    if (form == Form::kOneHot) return one_hot(*bsym, map);
    if (form == Form::kMaskedFill) return masked_fill(*bsym, type, map);
    if (form == Form::kPickGradient) return pick_gradient(*bsym, type, map);
    if (form == Form::kLane || form == Form::kConvert) return pointwise(*bsym, type, map);
    if (is_reduction(form)) return reduction(*bsym, form, type, map);
    const TensorProxy* base = bsym->args[0].tensor();
    if (form == Form::kSplit) return value(base, part_map(*bsym, p, map, builder_));
    return value(base, view_map(*bsym, form, base->type, type, map, builder_));
  }

  // Indices of a dimension whose elements are those of a tensor; null: zeros.
  struct Piece {
    int64_t end;
    const TensorProxy* tensor;
    IndexMap map;
  };

  std::vector<Piece> pieces_of(const BoundSymbol& bsym, const IndexMap& map, size_t d) {
    Call call(*bsym.symbol, bsym.args, builder_);
    std::vector<Piece> pieces;
    int64_t begin = 0;
    if (form_of(bsym) == Form::kCat) {
      for (const TensorProxy* t : call.tensors("tensors")) {
        if (t->type.ndim() != map.size()) continue;  // an empty one, which cat() leaves out
        IndexMap own = map;
        own[d].start -= begin;
        begin += t->type.shape[d].value();
        pieces.push_back({begin, t, std::move(own)});
      }
      return pieces;
    }
    const TensorType& whole = bsym.output.tensor()->type;
    const TensorProxy* slice = bsym.args[0].tensor();
    const int64_t size = whole.shape[d].value();
    IndexMap own = map;
    int64_t width = 1;
    if (bsym.symbol == &ops::select_backward) {
      begin = call.integer("index");
      if (begin < 0) begin += size;
      own.erase(own.begin() + static_cast<ptrdiff_t>(d));
    } else {
      begin = call.integer("start");
      if (begin < 0) begin += size;
      begin = std::clamp<int64_t>(begin, 0, size);
      width = slice->type.shape[d].value();
      own[d].start -= begin;
    }
    pieces.push_back({begin, nullptr, {}});
    pieces.push_back({begin + width, slice, std::move(own)});
    pieces.push_back({size, nullptr, {}});
    return pieces;
  }

  // What has these elements of torch.cat, or of a slice among zeros; throws Split where they are of
  // several pieces.
  uint32_t joined(const BoundSymbol& bsym, const TensorType& type, const IndexMap& map) {
    Call call(*bsym.symbol, bsym.args, builder_);
    const auto d = static_cast<size_t>(meta::wrap_dim(call, call.integer("dim"), map.size()));
    const Affine& index = map[d];
    int64_t factor = 0;
    size_t loop = 0;
    for (size_t i = 0; i < index.factors.size(); ++i) {
      if (index.factors[i] == 0 || box_[i].end - box_[i].begin <= 1) continue;
      if (factor) refuse("a joined tensor that is read along several loops");
      factor = index.factors[i];
      loop = i;
    }
    if (factor < 0) refuse("a joined tensor that is read backwards");
    const int64_t turns = factor ? box_[loop].end - box_[loop].begin : 1;
    const int64_t first = index.start, last = first + factor * (turns - 1);
    for (const Piece& piece : pieces_of(bsym, map, d)) {
      if (first >= piece.end) continue;
      if (last >= piece.end) {
        if (reduced_[loop]) refuse("a joined tensor that is reduced");
        throw Split{loop, box_[loop].begin + (piece.end - first + factor - 1) / factor};
      }
      if (!piece.tensor) return converted(number(Arg(0), type.dtype, false), type.dtype);
      return converted(value(piece.tensor, piece.map), type.dtype);
    }
    refuse("a joined tensor without elements");
  }

  uint32_t operand(const Arg& a, const TensorType& result, const IndexMap& map, DType as,
                   bool in_float) {
    if (!a.is_tensor()) return number(a, as, in_float);
    const TensorProxy* t = a.tensor();
    return converted(value(t, broadcast_map(map, result, t->type)), as);
  }

  uint32_t pointwise(const BoundSymbol& bsym, const TensorType& type, const IndexMap& map) {
    if (form_of(bsym) == Form::kConvert) {
      return converted(value(bsym.args[0].proxy(), map), type.dtype);
    }
    const Lane lane = bsym.symbol->lane;
    const Args operands = lane_operands(bsym);
    const DType compute = compute_dtype(bsym);
    const std::string problem = lane_problem(lane, compute, operands);
    if (!problem.empty()) refuse(problem);
    Node n;
    n.kind = NodeKind::kOp;
    n.lane = lane;
    n.compute = compute;
    n.dtype = type.dtype;
    for (size_t i = 0; i < operands.size(); ++i) {
      const bool condition = lane == Lane::kWhere && i == 0;
      n.operands.push_back(operand(operands[i], type, map, condition ? DType::kBool : compute,
                                   takes_wide_numbers(lane)));
    }
    return add(n);
  }

  // where(mask, value, input)
  uint32_t masked_fill(const BoundSymbol& bsym, const TensorType& type, const IndexMap& map) {
    const Arg &input = bsym.args[0], &mask = bsym.args[1], &filler = bsym.args[2];
    if (filler.kind() == Arg::Kind::kComplex) refuse("a complex number");
    Node n;
    n.kind = NodeKind::kOp;
    n.lane = Lane::kWhere;
    n.compute = n.dtype = type.dtype;
    n.operands.push_back(operand(mask, type, map, DType::kBool, false));
    n.operands.push_back(operand(filler, type, map, type.dtype, false));
    n.operands.push_back(operand(input, type, map, type.dtype, false));
    return add(n);
  }

  // Where along the loops an index is, as int32.
  uint32_t index_value(const Affine& index) {
    Access a;
    a.tensor = Access::kNoTensor;
    a.dtype = DType::kInt32;
    a.strides.resize(sizes_.size(), 0);
    a.offset = index.start;
    for (size_t i = 0; i < index.factors.size(); ++i) a.strides[i] = index.factors[i];
    Node n;
    n.kind = NodeKind::kIndex;
    n.dtype = DType::kInt32;
    n.index = access_number(std::move(a));
    return add(n);
  }

  uint32_t counted(const BoundSymbol& bsym, const TensorType& type, const IndexMap& map) {
    const Progression p = progression_of(bsym);
    Affine index = map[0];
    index.start = index.start * p.step + p.start;
    for (int64_t& f : index.factors) f *= p.step;
    return converted(index_value(index), type.dtype);
  }

  // --- gathers ---

  // An index of a dimension: where the loops stand, or what an index tensor has.
  struct Gathered {
    const TensorProxy* index = nullptr;  // null: `affine`
    IndexMap index_map;
    Affine affine;
  };

  uint32_t gathered(const BoundSymbol& bsym, Form form, const TensorType& type,
                    const IndexMap& map) {
    std::vector<Gathered> dims;
    const auto direct = [&](const Affine& a) { dims.push_back({nullptr, {}, a}); };
    const auto part = [](const IndexMap& m, size_t begin, size_t end) {
      return IndexMap(m.begin() + static_cast<ptrdiff_t>(begin),
                      m.begin() + static_cast<ptrdiff_t>(end));
    };
    if (form == Form::kEmbedding) {
      const bool has_input = bsym.symbol->info->schema.index("input") >= 0;
      const TensorProxy* index = argument(bsym, has_input ? "input" : "indices").tensor();
      const size_t n = index->type.ndim();
      dims.push_back({index, part(map, 0, n), {}});
      direct(map[n]);
      return element(argument(bsym, "weight").tensor(), dims, false);
    }
    const TensorProxy* x = argument(bsym, "input").tensor();
    const size_t n = x->type.ndim();
    if (form == Form::kIndex) {
      const auto chosen = indexed_dims(bsym);
      const auto indices = bsym.args[1].items();
      TensorType common = type;  // of the index tensors, broadcast
      const size_t rank = type.ndim() + chosen.size() - n;
      common.shape = Dims();
      for (size_t i = 0; i < rank; ++i) common.shape.push_back(type.shape[chosen[0] + i]);
      const IndexMap own = part(map, chosen[0], chosen[0] + rank);
      for (size_t d = 0, out = 0; d < n; ++d) {
        if (d >= chosen[0] && d <= chosen.back()) {
          const TensorProxy* index = indices[d].tensor();
          dims.push_back({index, broadcast_map(own, common, index->type), {}});
          out = chosen[0] + rank;
        } else {
          direct(map[out++]);
        }
      }
      return element(x, dims, true);
    }
    Call call(*bsym.symbol, bsym.args, builder_);
    const size_t dim = meta::wrap_dim(call, call.integer("dim"), n);
    const TensorProxy* index = argument(bsym, "index").tensor();
    for (size_t d = 0; d < n; ++d) {
      if (d != dim) {
        direct(map[d]);
      } else if (form == Form::kIndexSelect) {
        dims.push_back({index, index->type.ndim() ? IndexMap{map[d]} : IndexMap(), {}});
      } else {
        dims.push_back({index, map, {}});
      }
    }
    if (n == 0) refuse("a gather from a tensor without dimensions");
    return element(x, dims, false);
  }

  uint32_t one_hot(const BoundSymbol& bsym, const IndexMap& map) {
    const TensorProxy* classes = bsym.args[0].tensor();
    const uint32_t own = value(classes, IndexMap(map.begin(), map.end() - 1));
    require_bounds(classes, own, 0, bsym.output.tensor()->type.shape.back().value());
    const uint32_t here = operation(Lane::kEq, DType::kInt32, DType::kBool,
                                    {index_value(map.back()), converted(own, DType::kInt32)});
    return converted(here, DType::kInt64);
  }

  // The element of a tensor in memory; `wraps`: negative indices count from the end.
  uint32_t element(const TensorProxy* x, const std::vector<Gathered>& dims, bool wraps) {
    // A view's memory is walked by its own strides, from its first element.
    const TensorProxy* base = x;
    IndexMap origin(x->type.ndim());
    while (!inputs_.get(base)) {
      const BoundSymbol* view = definitions_.get(base);
      const Form form = view ? form_of(*view) : Form::kNone;
      if (form < Form::kIdentity || form > Form::kSplit || !base->alias_of) {
        refuse("a gather from what the region computes");
      }
      const TensorProxy* from = view->args[0].tensor();
      origin = form == Form::kSplit
                   ? part_map(*view, base, origin, builder_)
                   : view_map(*view, form, from->type, base->type, origin, builder_);
      base = from;
    }
    const int tensor = inputs_.get(base);
    IndexMap map;
    uint32_t offset = number(Arg(0), DType::kInt64, false);
    for (size_t d = 0; d < dims.size(); ++d) {
      map.push_back(dims[d].affine);
      if (!dims[d].index) continue;
      const int64_t size = x->type.shape[d].value();
      const uint32_t own = value(dims[d].index, dims[d].index_map);
      require_bounds(dims[d].index, own, wraps ? -size : 0, size);
      uint32_t i = converted(own, DType::kInt64);
      if (wraps) {
        const uint32_t zero = number(Arg(0), DType::kInt64, false);
        const uint32_t negative = operation(Lane::kLt, DType::kInt64, DType::kBool, {i, zero});
        const uint32_t above = operation(Lane::kAdd, DType::kInt64, DType::kInt64,
                                         {i, number(Arg(size), DType::kInt64, false)});
        i = operation(Lane::kWhere, DType::kInt64, DType::kInt64, {negative, above, i});
      }
      const Arg stride(x->type.strides[d].value());
      i = operation(Lane::kMul, DType::kInt64, DType::kInt64,
                    {i, number(stride, DType::kInt64, false)});
      offset = operation(Lane::kAdd, DType::kInt64, DType::kInt64, {offset, i});
    }
    Node n;
    n.kind = NodeKind::kGather;
    n.dtype = x->type.dtype;
    int64_t first = 0;
    for (size_t d = 0; d < origin.size(); ++d) {
      first += base->type.strides[d].value() * origin[d].start;
    }
    n.index = add_access(x->type, static_cast<uint32_t>(tensor - 1), map, first);
    n.operands.push_back(offset);
    return add(n);
  }

  // Indices are an input of the region, which is checked, or numbers whose range is known.
  void require_bounds(const Proxy* index, uint32_t node, int64_t first, int64_t end) {
    const Range range = range_of(program_, box_, node);
    if (range.begin >= first && range.end <= end) return;
    while (!inputs_.get(index)) {
      const BoundSymbol* view = definitions_.get(index);
      const Form form = view ? form_of(*view) : Form::kNone;
      // Others leave elements out, which may be anything.
      if (form != Form::kIdentity && form != Form::kPermute && form != Form::kExpand &&
          form != Form::kReshape) {
        refuse("indices that the region computes");
      }
      index = view->args[0].proxy();
    }
    // No index is exempt: `first` is in bounds, or there are none.
    const int64_t none = end > 0 ? 0 : std::numeric_limits<int64_t>::min();
    add_check({static_cast<uint32_t>(inputs_.get(index) - 1), first, end, none});
  }

  void add_check(const IndexCheck& check) {
    auto& checks = program_.checks;
    if (std::find(checks.begin(), checks.end(), check) == checks.end()) checks.push_back(check);
  }

  const Arg& argument(const BoundSymbol& bsym, std::string_view name) {
    return bsym.args[static_cast<size_t>(bsym.symbol->info->schema.index(name))];
  }

  struct Picked {
    uint32_t here;     // whether this is the element that the row's target names
    uint32_t ignored;  // whether the row has none
  };
  // `x_map`: of the matrix of scores.
  Picked picked(const BoundSymbol& bsym, const IndexMap& x_map) {
    const TensorProxy* target = argument(bsym, "target").tensor();
    const uint32_t row_target = value(target, {x_map[0]});
    const Arg& ignored = argument(bsym, "ignore_index");
    const uint32_t here = operation(Lane::kEq, DType::kInt32, DType::kBool,
                                    {index_value(x_map[1]), converted(row_target, DType::kInt32)});
    return {here, operation(Lane::kEq, DType::kInt64, DType::kBool,
                            {row_target, number(ignored, DType::kInt64, false)})};
  }

  // The row's sum of what is zero everywhere else.
  uint32_t pick(const BoundSymbol& bsym, const TensorType& type) {
    const TensorProxy* target = argument(bsym, "target").tensor();
    const int input = inputs_.get(target);
    if (!input) refuse("targets that the region computes");
    add_check(
        {static_cast<uint32_t>(input - 1), 0, sizes_[1], argument(bsym, "ignore_index").integer()});
    const auto [here, ignored] = picked(bsym, identity());
    const DType dtype = type.dtype;
    const uint32_t zero = number(Arg(0.0), dtype, false);
    Node sum;
    sum.kind = NodeKind::kReduce;
    sum.dtype = dtype;
    sum.operands.push_back(operation(Lane::kWhere, dtype, dtype,
                                     {here, value(bsym.args[0].proxy(), identity()), zero}));
    const uint32_t found = operation(Lane::kNeg, dtype, dtype, {add(sum)});
    return operation(Lane::kWhere, dtype, dtype, {ignored, zero, found});
  }

  uint32_t pick_gradient(const BoundSymbol& bsym, const TensorType& type, const IndexMap& map) {
    const DType dtype = type.dtype;
    const int64_t reduction = argument(bsym, "reduction").integer();
    const TensorProxy* grad = argument(bsym, "grad_output").tensor();
    if (grad->type.ndim() != (reduction ? 0 : 1)) refuse("a gradient of another shape");
    uint32_t g = value(grad, reduction ? IndexMap() : IndexMap{map[0]});
    g = operation(Lane::kNeg, dtype, dtype, {converted(g, dtype)});
    if (reduction == 1) {
      const uint32_t total = value(argument(bsym, "total_weight").proxy(), {});
      g = operation(Lane::kDiv, dtype, dtype, {g, converted(total, dtype)});
    }
    const auto [here, ignored] = picked(bsym, map);
    const uint32_t zero = number(Arg(0.0), dtype, false);
    g = operation(Lane::kWhere, dtype, dtype, {ignored, zero, g});
    return operation(Lane::kWhere, dtype, dtype, {here, g, zero});
  }

  uint32_t reduction(const BoundSymbol& bsym, Form form, const TensorType& type,
                     const IndexMap& map) {
    const TensorProxy* x = bsym.args[0].tensor();
    if (!(sizes_of(x->type) == sizes_)) refuse("reductions of several shapes");
    std::vector<bool> reduced(sizes_.size());
    for (const int64_t axis : axes_of(bsym)) reduced[axis] = true;
    if (!std::equal(reduced.begin(), reduced.end(), reduced_.begin())) {
      refuse("reductions over several dimensions");
    }
    const bool keeps = type.ndim() == sizes_.size();
    for (size_t i = 0, k = 0; i < sizes_.size(); ++i) {
      if (reduced_[i]) {
        k += keeps;
      } else if (!(map[k++] == loop_index(i)) && sizes_[i] != 1) {
        refuse("a reduction that is read in another order");
      }
    }
    if (form == Form::kPick) return pick(bsym, type);
    const ReduceOp op = reduce_op(form);
    const DType own = type.dtype;
    const bool half = own == DType::kFloat16 || own == DType::kBFloat16;
    const bool sums = op == ReduceOp::kSum || op == ReduceOp::kProd;
    // Sums of half types are made in float32 and rounded once.
    const DType dtype = half && sums                                   ? DType::kFloat32
                        : op == ReduceOp::kAny || op == ReduceOp::kAll ? DType::kBool
                                                                       : own;
    Node n;
    n.kind = NodeKind::kReduce;
    n.reduce = op;
    n.dtype = dtype;
    uint32_t operand = value(x, identity());
    if (sums && own != x->type.dtype) operand = converted(operand, own);
    n.operands.push_back(converted(operand, dtype));
    // A tensor without dimensions is its own sum.
    uint32_t result = sizes_.empty() ? n.operands[0] : add(n);
    if (form == Form::kMean) {
      int64_t count = 1;
      for (size_t i = 0; i < sizes_.size(); ++i) count *= reduced_[i] ? sizes_[i] : 1;
      result = operation(Lane::kDiv, dtype, dtype,
                         {result, number(Arg(static_cast<double>(count)), dtype, false)});
    }
    return converted(result, own);
  }

  void add_output(const TensorProxy& t, uint32_t tensor) {
    const IndexMap map = output_map(t.type);
    const Proxy* result = &t;
    const BoundSymbol* maker = definitions_.get(&t);
    if (maker && form_of(*maker) == Form::kWriteBack) {
      const int input = inputs_.get(maker->args[0].proxy());
      if (!input) refuse("a write to a tensor that is no input");
      tensor = static_cast<uint32_t>(input - 1);
      result = maker->args[1].proxy();
      program_.writes_inputs = true;
    }
    const uint32_t node = value(result, map);
    program_.stores.push_back({add_access(t.type, tensor, map), node});
  }

  // What is written must have been read by the same turn, and by no other.
  void check_writes() const {
    if (!reductions_.empty()) refuse("a reduction beside a write to an input");
    for (const Store& s : program_.stores) {
      for (const Access& a : program_.accesses) {
        const Access& own = program_.accesses[s.access];
        if (&a != &own && a.tensor == own.tensor) refuse("an input that is written is also moved");
      }
      for (const Node& n : program_.nodes) {
        const bool gathers = n.kind == NodeKind::kGather;
        if (gathers && program_.accesses[n.index].tensor == program_.accesses[s.access].tensor) {
          refuse("an input that is written is gathered from");
        }
      }
    }
  }

  const Trace& region_;
  const Args outputs_;
  Builder builder_;  // for dimensions and for calls that views are read through
  LoopProgram program_;
  ProxyMap<int> inputs_, numbers_;  // from 1
  ProxyMap<const BoundSymbol*> definitions_;
  std::vector<const BoundSymbol*> reductions_;
  Sizes sizes_;
  Box box_;
  SmallVec<bool, 8> reduced_;
  std::unordered_map<const Proxy*, std::vector<std::pair<IndexMap, uint32_t>>> values_;
};

bool is_known_view(Form f) {
  return f == Form::kIdentity || (f >= Form::kPermute && f <= Form::kSplit);
}

bool is_concrete(const TensorType& t) {
  const auto known = [](const Dim d) { return d.is_concrete(); };
  return is_fused_dtype(t.dtype) && std::all_of(t.shape.begin(), t.shape.end(), known) &&
         std::all_of(t.strides.begin(), t.strides.end(), known);
}

}  // namespace

bool is_fused_view(const BoundSymbol& bsym) {
  const Form form = form_of(bsym);
  if (is_source(bsym)) {
    const TensorType& t = bsym.output.tensor()->type;
    const Arg filler = filler_of(bsym);
    const bool real = filler.kind() != Arg::Kind::kComplex && !filler.is_proxy();
    return is_concrete(t) && real && t.device.type == DeviceType::kCPU && !t.requires_grad;
  }
  if (!bsym.symbol->has(kView) || !is_known_view(form)) return false;
  const TensorProxy* base = bsym.args[0].tensor();
  if (!base || !is_concrete(base->type)) return false;
  bool is_plain = true;
  for_each_proxy(bsym.output, [&](const Proxy* p) {
    const TensorProxy* t = as_tensor(p);
    is_plain = is_plain && t && is_concrete(t->type) && t->alias_of && !t->type.requires_grad;
  });
  if (!is_plain || form != Form::kReshape) return is_plain;
  return splits_only(sizes_of(base->type), sizes_of(bsym.output.tensor()->type));
}

std::vector<LoopProgram> lower(const Trace& region, std::string* why) {
  constexpr size_t kMostParts = 8;
  std::vector<LoopProgram> parts;
  std::vector<Box> boxes{Box()};
  try {
    while (!boxes.empty()) {
      Lowering lowering(region, std::move(boxes.back()));
      boxes.pop_back();
      try {
        parts.push_back(lowering.run());
      } catch (const Split& split) {
        Box low = lowering.box(), high = low;
        low[split.loop].end = high[split.loop].begin = split.at;
        boxes.push_back(std::move(high));
        boxes.push_back(std::move(low));
      }
      if (parts.size() + boxes.size() > kMostParts) refuse("a tensor that is joined of many");
    }
    if (parts.size() > 1 && parts[0].writes_inputs)
      refuse("a joined tensor is written to an input");
    return parts;
  } catch (const Refusal& r) {
    *why = r.reason;
  } catch (const Unsupported& e) {
    *why = e.what();
  }
  return {};
}

}  // namespace fulmen::codegen
