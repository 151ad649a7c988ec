#include "codegen/form.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "codegen/lower.h"
#include "codegen/parts.h"
#include "ir/builder.h"
#include "ir/write_back.h"
#include "ops/conversion.h"
#include "ops/creation.h"
#include "ops/embedding.h"
#include "ops/indexing.h"
#include "ops/loss.h"
#include "ops/meta.h"
#include "ops/ordering.h"
#include "ops/power.h"
#include "ops/reduction.h"
#include "ops/shape.h"
#include "ops/unary.h"
#include "support/cat.h"
#include "support/error.h"

namespace fulmen::codegen {
namespace {

const std::unordered_map<const Symbol*, Form>& forms() {
  using namespace ops;
  static const std::unordered_map<const Symbol*, Form> table = {
      {&masked_fill, Form::kMaskedFill},
      {&masked_fill_tensor, Form::kMaskedFill},
      {&to_dtype, Form::kConvert},
      {&to_other, Form::kConvert},
      {&type_as, Form::kConvert},
      {&convert, Form::kConvert},
      {&sum, Form::kSum},
      {&sum_dim, Form::kSum},
      {&mean, Form::kMean},
      {&mean_dim, Form::kMean},
      {&prod, Form::kProd},
      {&prod_dim, Form::kProd},
      {&amax, Form::kMax},
      {&amin, Form::kMin},
      {&ops::max, Form::kMax},
      {&ops::min, Form::kMin},
      {&any, Form::kAny},
      {&any_dim, Form::kAny},
      {&all, Form::kAll},
      {&all_dim, Form::kAll},
      {&nll_loss, Form::kPick},
      {&nll_loss_backward, Form::kPickGradient},
      {&contiguous, Form::kIdentity},
      {&clone, Form::kIdentity},
      {&detach, Form::kIdentity},
      {&data, Form::kIdentity},
      {&permute, Form::kPermute},
      {&transpose, Form::kPermute},
      {&t, Form::kPermute},
      {&mT, Form::kPermute},
      {&numpy_T, Form::kPermute},
      {&expand, Form::kExpand},
      {&select, Form::kSelect},
      {&narrow, Form::kNarrow},
      {&slice, Form::kSlice},
      {&view, Form::kReshape},
      {&split, Form::kSplit},
      {&split_sizes, Form::kSplit},
      {&split_with_sizes, Form::kSplit},
      {&chunk, Form::kSplit},
      {&ops::cat, Form::kCat},
      {&slice_backward, Form::kPlaced},
      {&select_backward, Form::kPlaced},
      {&unsqueeze, Form::kReshape},
      {&squeeze, Form::kReshape},
      {&squeeze_dim, Form::kReshape},
      {&squeeze_dims, Form::kReshape},
      {&reshape, Form::kReshape},
      {&flatten, Form::kReshape},
      {&unflatten, Form::kReshape},
      {&zeros, Form::kFull},
      {&ones, Form::kFull},
      {&full, Form::kFull},
      {&zeros_like, Form::kFull},
      {&ones_like, Form::kFull},
      {&full_like, Form::kFull},
      {&new_zeros, Form::kFull},
      {&new_ones, Form::kFull},
      {&new_full, Form::kFull},
      {&scalar_tensor, Form::kFull},
      {&fill, Form::kFull},
      {&zero, Form::kFull},
      {&arange, Form::kArange},
      {&arange_start, Form::kArange},
      {&arange_start_step, Form::kArange},
      {&embedding, Form::kEmbedding},
      {&embedding_weight_first, Form::kEmbedding},
      {&index_select, Form::kIndexSelect},
      {&gather, Form::kGather},
      {&ops::index, Form::kIndex},
      {&one_hot, Form::kOneHot},
  };
  return table;
}

// Whether this nll_loss, or its gradient, is one of rows: a matrix, int64 targets, no weights; the
// loss of every row for itself.
bool picks_of_rows(const BoundSymbol& bsym) {
  const bool forward = bsym.symbol == &ops::nll_loss;
  const auto arg = [&](std::string_view name) -> const Arg& {
    return bsym.args[static_cast<size_t>(bsym.symbol->info->schema.index(name))];
  };
  const TensorType& x = arg(forward ? "input" : "self").tensor()->type;
  if (x.ndim() != 2 || !arg("weight").is_none() || !arg("ignore_index").is_int()) return false;
  if (arg("target").tensor()->type.dtype != DType::kInt64) return false;
  if (!x.shape[1].is_concrete() || x.shape[1].value() >= int64_t{1} << 31) return false;
  return forward ? arg("reduction").text() == "none" : arg("reduction").is_int();
}

const Arg* find_argument(const BoundSymbol& bsym, std::string_view name) {
  const int at = bsym.symbol->info->schema.index(name);
  return at < 0 ? nullptr : &bsym.args[static_cast<size_t>(at)];
}

bool is_index(const Arg& a) {
  const TensorProxy* t = a.is_tensor() ? a.tensor() : nullptr;
  return t && (t->type.dtype == DType::kInt64 || t->type.dtype == DType::kInt32);
}

// Integers that float32 and int32 hold exactly, in a row.
bool counts(const BoundSymbol& bsym) {
  const TensorType& t = bsym.output.tensor()->type;
  for (const std::string_view name : {"start", "step", "end"}) {
    const Arg* a = find_argument(bsym, name);
    if (a && (a->is_proxy() || (a->kind() != Arg::Kind::kInt && a->kind() != Arg::Kind::kFloat))) {
      return false;
    }
    if (a && name != "end" && a->kind() == Arg::Kind::kFloat && a->real() != std::trunc(a->real()))
      return false;
  }
  const Progression p = progression_of(bsym);
  const int64_t limit = is_floating(t.dtype) ? int64_t{1} << 24 : int64_t{1} << 30;
  const auto size = static_cast<double>(t.shape[0].value_or(limit));
  return std::abs(static_cast<double>(p.start)) + std::abs(static_cast<double>(p.step)) * size <
         static_cast<double>(limit);
}

// Whether this gather is one of a tensor's elements by checked indices, and nothing more.
bool gathers(const BoundSymbol& bsym, Form form) {
  if (form == Form::kIndex) return !indexed_dims(bsym).empty();
  if (form != Form::kEmbedding) return is_index(*find_argument(bsym, "index"));
  const Arg* limit = find_argument(bsym, "max_norm");
  const bool first = bsym.symbol == &ops::embedding_weight_first;
  return (!limit || limit->is_none()) &&
         is_index(*find_argument(bsym, first ? "indices" : "input"));
}

// Whether integers of type `t` can be `value`.
bool holds(DType t, int64_t value) {
  const int bits = 8 * static_cast<int>(itemsize(t));
  if (t == DType::kBool || t == DType::kUInt8) return value >= 0 && value < 256;
  return bits == 64 || (value >= -(int64_t{1} << (bits - 1)) && value < int64_t{1} << (bits - 1));
}

Call call_of(const BoundSymbol& bsym, Builder& builder) {
  return Call(*bsym.symbol, bsym.args, builder);
}

std::string write_back_refusal(const BoundSymbol& bsym) {
  const TensorProxy *target = bsym.args[0].tensor(), *value = bsym.args[1].tensor();
  if (!target || !value || target->alias_of) return "it writes to a view";
  const TensorType &to = target->type, &from = value->type;
  if (to.device.type != DeviceType::kCPU) return "a tensor on another device";
  if (!is_fused_dtype(to.dtype)) return cat("dtype ", name(to.dtype));
  const auto concrete = [](const Dim d) { return d.is_concrete(); };
  if (!std::all_of(to.shape.begin(), to.shape.end(), concrete) ||
      !std::all_of(to.strides.begin(), to.strides.end(), concrete)) {
    return "symbolic sizes";
  }
  if (to.dtype != from.dtype || !(to.shape == from.shape)) return "it converts or broadcasts";
  return meta::is_non_overlapping_and_dense(to) ? "" : "it writes to a tensor with gaps";
}

std::string refusal_of(const BoundSymbol& bsym, const std::shared_ptr<TraceContext>& ctx,
                       bool outermost) {
  const Symbol& s = *bsym.symbol;
  if (is_write_back(bsym)) return write_back_refusal(bsym);
  if (s.has(kInplace | kEffect | kRandom | kOpaque)) return cat(s.name(), " is not pure");
  if (outermost && s.has(kView)) return "a view costs nothing";
  if (outermost && is_source(bsym)) return "it is made where it is read";
  std::string problem;
  bool tensors = false;
  const auto check = [&](const Proxy* p) {
    const TensorProxy* t = as_tensor(p);
    if (!t) return;
    tensors = true;
    if (t->type.device.type != DeviceType::kCPU) problem = "a tensor on another device";
    if (!is_fused_dtype(t->type.dtype)) problem = cat("dtype ", name(t->type.dtype));
    for (const Dim d : t->type.shape) {
      if (!d.is_concrete()) problem = "symbolic sizes";
    }
    for (const Dim d : t->type.strides) {
      if (!d.is_concrete()) problem = "symbolic sizes";
    }
  };
  for_each_proxy(bsym.output, [&](const Proxy* p) {
    check(p);
    const TensorProxy* t = as_tensor(p);
    if (!t || (outermost && t->alias_of)) problem = "a result that is no fresh tensor";
  });
  for (const Arg& a : bsym.args) for_each_proxy(a, check);
  if (!problem.empty()) return problem;
  if (!tensors) return "no tensors";
  const Form form = form_of(bsym);
  if (form == Form::kLane) {
    return lane_problem(s.lane, compute_dtype(bsym), lane_operands(bsym));
  }
  if (form != Form::kNone) return {};
  const auto inner = parts_of(ctx, bsym);
  if (inner.empty() && !returns_argument(bsym)) return cat(s.name(), " has no form that is fused");
  if (outermost && returns_argument(bsym)) return "nothing to compute";
  for (const BoundSymbol* b : inner) {
    const std::string reason = refusal_of(*b, ctx, false);
    if (!reason.empty()) return reason;
  }
  return {};
}

}  // namespace

Form form_of(const BoundSymbol& bsym) {
  if (is_write_back(bsym)) return Form::kWriteBack;
  if (returns_argument(bsym)) return Form::kNone;
  if (!bsym.output.is_tensor()) {
    const auto known = forms().find(bsym.symbol);
    const bool splits = known != forms().end() && known->second == Form::kSplit;
    return splits ? Form::kSplit : Form::kNone;
  }
  if (bsym.symbol->lane != Lane::kNone) return Form::kLane;
  const auto it = forms().find(bsym.symbol);
  if (it == forms().end()) return Form::kNone;
  if (bsym.symbol == &ops::slice_backward) {
    const Arg& step = bsym.arg("step");
    if (!step.is_int() || step.integer() != 1) return Form::kNone;
  }
  const bool picks = it->second == Form::kPick || it->second == Form::kPickGradient;
  const bool fits = picks                         ? picks_of_rows(bsym)
                    : it->second == Form::kArange ? counts(bsym)
                    : is_gather(it->second)       ? gathers(bsym, it->second)
                                                  : true;
  return fits ? it->second : Form::kNone;
}

bool is_source(const BoundSymbol& bsym) {
  const Form form = form_of(bsym);
  return form == Form::kFull || form == Form::kArange;
}

Arg filler_of(const BoundSymbol& bsym) {
  using namespace ops;
  const Symbol* s = bsym.symbol;
  for (const std::string_view name : {"fill_value", "value", "s"}) {
    if (const Arg* a = find_argument(bsym, name)) return *a;
  }
  return Arg(s == &ones || s == &ones_like || s == &new_ones ? 1 : 0);
}

Progression progression_of(const BoundSymbol& bsym) {
  const auto integer = [&](std::string_view name, int64_t otherwise) {
    const Arg* a = find_argument(bsym, name);
    if (!a) return otherwise;
    return a->kind() == Arg::Kind::kFloat ? static_cast<int64_t>(a->real()) : a->integer();
  };
  return {integer("start", 0), integer("step", 1)};
}

SmallVec<size_t, 6> indexed_dims(const BoundSymbol& bsym) {
  SmallVec<size_t, 6> dims;
  const auto indices = bsym.args[1].items();
  for (size_t i = 0; i < indices.size(); ++i) {
    if (indices[i].is_none()) continue;
    const bool adjacent = dims.empty() || dims.back() + 1 == i;
    if (!adjacent || !is_index(indices[i])) return {};
    dims.push_back(i);
  }
  return dims;
}

ReduceOp reduce_op(Form f) {
  switch (f) {
    case Form::kProd: return ReduceOp::kProd;
    case Form::kMax: return ReduceOp::kMax;
    case Form::kMin: return ReduceOp::kMin;
    case Form::kAny: return ReduceOp::kAny;
    case Form::kAll: return ReduceOp::kAll;
    default: return ReduceOp::kSum;
  }
}

bool returns_argument(const BoundSymbol& bsym) {
  bool all = true, some = false;
  for_each_proxy(bsym.output, [&](const Proxy* p) {
    bool found = false;
    for (const Arg& a : bsym.args) {
      for_each_proxy(a, [&](const Proxy* q) { found = found || p == q; });
    }
    all = all && found;
    some = true;
  });
  return some && all;
}

SmallVec<int64_t, 6> axes_of(const BoundSymbol& reduction) {
  const auto n = static_cast<int64_t>(reduction.args[0].tensor()->type.ndim());
  if (reduction.symbol == &ops::nll_loss) return {1};
  SmallVec<int64_t, 6> axes;
  const int at = reduction.symbol->info->schema.index("dim");
  if (at >= 0 && !reduction.args[at].is_none()) {
    const Arg& dim = reduction.args[at];
    const auto add = [&](const Arg& a) {
      const int64_t axis = a.dim().value();
      if (n) axes.push_back(axis < 0 ? axis + n : axis);
    };
    if (dim.is_sequence()) {
      for (const Arg& a : dim.items()) add(a);
    } else {
      add(dim);
    }
    if (!axes.empty() || !n) return axes;
  }
  for (int64_t i = 0; i < n; ++i) axes.push_back(i);
  return axes;
}

size_t permutation(const BoundSymbol& view, size_t i) {
  const auto n = static_cast<int64_t>(view.args[0].tensor()->type.ndim());
  const auto wrapped = [&](const Arg& a) {
    const int64_t d = a.dim().value();
    return static_cast<size_t>(d < 0 ? d + n : d);
  };
  if (view.symbol == &ops::permute) return wrapped(view.args[1].items()[i]);
  if (view.symbol == &ops::numpy_T) return static_cast<size_t>(n) - 1 - i;
  size_t a = 0, b = n < 2 ? 0 : 1;
  if (view.symbol == &ops::transpose) a = wrapped(view.args[1]), b = wrapped(view.args[2]);
  if (view.symbol == &ops::mT) a = static_cast<size_t>(n) - 2, b = static_cast<size_t>(n) - 1;
  return i == a ? b : i == b ? a : i;
}

Args lane_operands(const BoundSymbol& bsym) {
  Args operands;
  const auto& params = bsym.symbol->info->schema.params;
  for (size_t i = 0; i < params.size(); ++i) {
    const ParamKind kind = params[i].kind;
    if ((kind == ParamKind::kTensor || kind == ParamKind::kTensorOrScalar ||
         kind == ParamKind::kScalar) &&
        !bsym.args[i].is_none()) {
      operands.push_back(bsym.args[i]);
    }
  }
  return operands;
}

DType compute_dtype(const BoundSymbol& bsym) {
  const DType result = bsym.output.tensor()->type.dtype;
  if (result != DType::kBool) return result;
  const Args operands = lane_operands(bsym);
  if (bsym.symbol->lane == Lane::kWhere) return result;
  Builder* current = Builder::current_or_null();
  if (!current) internal_error("compute_dtype: no builder");
  return meta::result_type(call_of(bsym, *current), operands);
}

bool takes_wide_numbers(Lane lane) {
  return lane == Lane::kAdd || lane == Lane::kSub || lane == Lane::kRsub || lane == Lane::kMul ||
         lane == Lane::kDiv || lane == Lane::kPow;
}

std::string lane_problem(Lane lane, DType compute, const Args& operands) {
  if (!is_fused_dtype(compute)) return cat("dtype ", name(compute));
  for (const Arg& a : operands) {
    if (a.kind() == Arg::Kind::kComplex) return "a complex number";
  }
  const bool divides = lane == Lane::kFloorDiv || lane == Lane::kRemainder || lane == Lane::kFmod;
  if (divides && is_integral(compute)) {
    const Arg& divisor = operands[1];
    if (divisor.kind() != Arg::Kind::kInt || divisor.integer() == 0 || divisor.integer() == -1 ||
        !holds(compute, divisor.integer())) {
      return "an integer division that may raise";
    }
  }
  if (lane == Lane::kNextafter && compute != DType::kFloat32 && compute != DType::kFloat64) {
    return "nextafter of a half type";
  }
  return {};
}

bool is_fused_dtype(DType t) {
  switch (t) {
    case DType::kBool:
    case DType::kUInt8:
    case DType::kInt8:
    case DType::kInt16:
    case DType::kInt32:
    case DType::kInt64:
    case DType::kFloat16:
    case DType::kBFloat16:
    case DType::kFloat32:
    case DType::kFloat64: return true;
    default: return false;
  }
}

std::string fusion_refusal(const BoundSymbol& bsym, const std::shared_ptr<TraceContext>& ctx,
                           bool under_autograd) {
  // A kernel leaves writes that autograd records, or refuses, to the dispatcher.
  const Arg& result = is_write_back(bsym) ? bsym.args[1] : bsym.output;
  if (under_autograd && any_requires_grad(result)) return "autograd records it";
  Builder builder(ctx);
  return refusal_of(bsym, ctx, true);
}

}  // namespace fulmen::codegen
