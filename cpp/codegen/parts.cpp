#include "codegen/parts.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "codegen/form.h"
#include "ir/builder.h"
#include "ir/rewrite.h"
#include "ops/arith.h"
#include "ops/bitwise.h"
#include "ops/comparison.h"
#include "ops/creation.h"
#include "ops/indexing.h"
#include "ops/meta.h"
#include "ops/ordering.h"
#include "ops/reduction.h"
#include "ops/select.h"
#include "ops/shape.h"
#include "ops/special.h"
#include "ops/unary.h"
#include "support/error.h"
#include "support/flags.h"

namespace fulmen::codegen {
namespace {

using namespace ops;

// 0, 1, … size - 1 along dimension `d` of `ndim`, with ones elsewhere.
Arg indices(int64_t size, size_t d, size_t ndim) {
  Arg out = record(arange, {Arg(size), Arg(DType::kInt64), Arg(), Arg(), Arg(), Arg()});
  for (size_t i = 0; i < ndim; ++i) {
    if (i != d) out = record(unsqueeze, {out, Arg(static_cast<int64_t>(i))});
  }
  return out;
}

Arg filled(Call& in, const Dims& shape, const Arg& value, DType dtype) {
  return record(full, {in.dims_arg(shape), value, Arg(dtype), Arg(), Arg(), Arg(), Arg()});
}

Arg joined(Call& in, std::span<const Arg> pieces, size_t d) {
  return record(ops::cat, {in.list(pieces), Arg(static_cast<int64_t>(d))});
}

Arg piece(const Arg& x, size_t d, int64_t start, int64_t length) {
  return record(narrow, {x, Arg(static_cast<int64_t>(d)), Arg(start), Arg(length)});
}

// Where row and column of a matrix are on the wanted side of the diagonal.
Arg triangle(Call& in, bool lower) {
  const TensorType& t = in.type("input");
  const size_t n = t.ndim();
  const Arg rows = indices(t.shape[n - 2].value(), n - 2, n);
  const Arg columns = indices(t.shape[n - 1].value(), n - 1, n);
  const Arg distance = columns - rows, &diagonal = in["diagonal"];
  const Arg kept = lower ? le(distance, diagonal) : ge(distance, diagonal);
  return where(kept, in["input"], t.dtype == DType::kBool ? Arg(false) : Arg(0));
}

Arg infinite(Call& in, double value) {
  if (!is_floating(in.type("input").dtype)) return {};
  return eq(in["input"], value);
}

Arg is_nan(const Arg& x) { return ne(x, x); }

Arg first_extreme(Call& in, const Symbol& reduce) {
  const TensorType& t = in.type("input");
  if (t.ndim() == 0 || !is_fused_dtype(t.dtype) || t.dtype == DType::kBool) return {};
  Arg x = in["input"];
  size_t d = 0;
  if (in.has("dim")) {
    d = meta::wrap_dim(in, in.integer("dim"), t.ndim());
  } else if (t.ndim() > 1) {
    return {};
  }
  const int64_t size = t.shape[d].value();
  if (size == 0 || size >= std::numeric_limits<int32_t>::max()) return {};
  const Arg dim(static_cast<int64_t>(d)), keep = in["keepdim"];
  // NaN counts as the most extreme; the first of equals is taken.
  const Arg extreme = record(reduce, {x, dim, Arg(true)});
  const Arg found = is_floating(t.dtype) ? logical_or(eq(x, extreme), is_nan(x)) : eq(x, extreme);
  // One is found: with the last index elsewhere, all are indices.
  return amin(where(found, indices(size, d, t.ndim()), size - 1), dim, keep);
}

double largest(DType t) {
  switch (t) {
    case DType::kFloat16: return 65504.0;
    case DType::kBFloat16: return 0x1.fep127;
    case DType::kFloat32: return std::numeric_limits<float>::max();
    default: return std::numeric_limits<double>::max();
  }
}

// NaN and infinities replaced by numbers.
Arg numbers_for(Call& in) {
  const TensorType& t = in.type("input");
  if (!is_floating(t.dtype)) return {};
  const double most = largest(t.dtype);
  const auto given = [&](std::string_view name, double otherwise) {
    return in.has(name) ? in.real(name) : otherwise;
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const Arg x = in["input"];
  Arg out = where(eq(x, kInfinity), given("posinf", most), x);
  out = where(eq(x, -kInfinity), given("neginf", -most), out);
  return where(is_nan(x), given("nan", 0.0), out);
}

// x * log(y), but 0 where x is, and NaN where y is; half types round the logarithm as well.
Arg weighted_log(Call& in) {
  const Arg operands[] = {in["input"], in["other"]};
  const DType dtype = meta::float_dtype(in, meta::result_type(in, operands));
  const auto operand = [&](const Arg& a) {
    return a.is_tensor() ? converted(a, dtype) : filled(in, Dims(), a, dtype);
  };
  const Arg x = operand(in["input"]), y = operand(in["other"]);
  return where(is_nan(y), y, where(eq(x, 0), 0, x * log(y)));
}

// Around each dimension, the last two numbers for the first one from the end.
Arg padded(Call& in, const Arg& value) {
  Arg x = in["input"];
  const TensorType& t = in.type("input");
  Dims shape = t.shape;
  const auto amounts = in["pad"].items();
  for (size_t i = 0; i + 1 < amounts.size(); i += 2) {
    const size_t d = t.ndim() - 1 - i / 2;
    const int64_t before = amounts[i].dim().value(), after = amounts[i + 1].dim().value();
    if (before < 0 || after < 0) return {};
    std::vector<Arg> pieces;
    const auto add = [&](int64_t length) {
      Dims own = shape;
      own[d] = length;
      if (length) pieces.push_back(filled(in, own, value, t.dtype));
    };
    add(before);
    pieces.push_back(x);
    add(after);
    shape[d] = shape[d].value() + before + after;
    x = joined(in, pieces, d);
  }
  return x;
}

Arg rolled(Call& in) {
  const TensorType& t = in.type("input");
  const auto each = [](const Arg& a) { return a.is_sequence() ? Args(a.items()) : Args{a}; };
  const Args shifts = each(in["shifts"]);
  Args dims = in.has("dims") ? each(in["dims"]) : Args();
  if (dims.empty() && t.ndim() == 1) dims.push_back(Arg(0));
  if (dims.size() != shifts.size()) return {};
  Arg x = in["input"];
  for (size_t i = 0; i < dims.size(); ++i) {
    const size_t d = meta::wrap_dim(in, dims[i].dim().value(), t.ndim());
    const int64_t size = t.shape[d].value();
    if (size == 0) return {};
    const int64_t first = ((-shifts[i].dim().value() % size) + size) % size;
    if (first == 0) continue;
    const Arg pieces[] = {piece(x, d, first, size - first), piece(x, d, 0, first)};
    x = joined(in, pieces, d);
  }
  return x;
}

// `src` in the place of input[start : start + length] of a dimension.
Arg replaced(Call& in, const Arg& src, size_t d, int64_t start, int64_t length) {
  const TensorType& t = in.type("input");
  const int64_t size = t.shape[d].value(), end = start + length;
  std::vector<Arg> pieces;
  if (start > 0) pieces.push_back(piece(in["input"], d, 0, start));
  if (length) pieces.push_back(converted(src, t.dtype));
  if (end < size) pieces.push_back(piece(in["input"], d, end, size - end));
  return pieces.empty() ? Arg() : joined(in, pieces, d);
}

Arg scattered_slice(Call& in) {
  const TensorType& t = in.type("input");
  if (in.integer("step") != 1 || t.ndim() == 0) return {};
  const size_t d = meta::wrap_dim(in, in.integer("dim"), t.ndim());
  const int64_t size = t.shape[d].value();
  int64_t start = in.has("start") ? in.integer("start") : 0;
  if (start < 0) start += size;
  start = std::clamp<int64_t>(start, 0, size);
  return replaced(in, in["src"], d, start, in.type("src").shape[d].value());
}

Arg scattered_select(Call& in) {
  const TensorType& t = in.type("input");
  const size_t d = meta::wrap_dim(in, in.integer("dim"), t.ndim());
  int64_t index = in.integer("index");
  if (index < 0) index += t.shape[d].value();
  const Arg src = record(unsqueeze, {in["src"], Arg(static_cast<int64_t>(d))});
  return replaced(in, src, d, index, 1);
}

using Parts = Arg (*)(Call& in);  // None: not with these arguments

const std::unordered_map<const Symbol*, Parts>& table() {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  static const std::unordered_map<const Symbol*, Parts> rows = {
      {&tril, [](Call& in) { return triangle(in, true); }},
      {&triu, [](Call& in) { return triangle(in, false); }},
      {&isposinf, [](Call& in) { return infinite(in, kInfinity); }},
      {&isneginf, [](Call& in) { return infinite(in, -kInfinity); }},
      {&nan_to_num, numbers_for},
      {&xlogy, weighted_log},
      {&argmax, [](Call& in) { return first_extreme(in, amax); }},
      {&argmin, [](Call& in) { return first_extreme(in, amin); }},
      {&constant_pad_nd, [](Call& in) { return padded(in, in["value"]); }},
      {&pad,
       [](Call& in) -> Arg {
         if (in.text("mode") != "constant") return {};
         return padded(in, in.has("value") ? in["value"] : Arg(0.0));
       }},
      {&roll, rolled},
      {&slice_scatter, scattered_slice},
      {&select_scatter, scattered_select},
  };
  return rows;
}

}  // namespace

std::vector<const BoundSymbol*> parts_of(const std::shared_ptr<TraceContext>& ctx,
                                         const BoundSymbol& bsym) {
  const auto found = table().find(bsym.symbol);
  if (found == table().end()) return subsymbols(ctx, bsym);
  Builder builder(ctx);
  builder.source = bsym.source;
  builder.grad_enabled = false;
  Call call(*bsym.symbol, bsym.args, builder);
  Arg out;
  try {
    out = found->second(call);
  } catch (const UserError&) {
    // A mistake of ours costs speed, not the user's program.
    if (flag_bool(Flag::kVerify)) throw;
    return {};
  }
  if (out.is_none() || builder.body().empty()) return {};
  Substitution map;
  map.bind(out, bsym.output);
  std::vector<const BoundSymbol*> body;
  for (const BoundSymbol* b : builder.body()) body.push_back(map.apply(*ctx, *b));
  return body;
}

bool joins_pieces(const BoundSymbol& bsym) {
  const Symbol* s = bsym.symbol;
  const Form form = form_of(bsym);
  return form == Form::kCat || form == Form::kPlaced || s == &pad || s == &constant_pad_nd ||
         s == &roll || s == &slice_scatter || s == &select_scatter;
}

}  // namespace fulmen::codegen
