#include "ops/number.h"

#include <algorithm>
#include <optional>

#include "ir/builder.h"
#include "ir/proxy.h"
#include "ops/families.h"

namespace fulmen::ops {
namespace {

std::optional<NumberType> type_of(const Arg& a) {
  switch (a.kind()) {
    case Arg::Kind::kBool: return NumberType::kBool;
    case Arg::Kind::kInt:
    case Arg::Kind::kSymInt: return NumberType::kInt;
    case Arg::Kind::kFloat: return NumberType::kFloat;
    default: break;
  }
  const NumberProxy* n = a.is_proxy() ? as_number(a.proxy()) : nullptr;
  return n ? std::optional(n->type) : std::nullopt;
}

Arg make(Call& in, NumberType type) {
  TraceContext& ctx = in.builder().ctx();
  const Dim value = type == NumberType::kInt ? ctx.make_symbolic_dim() : Dim(0);
  return Arg(static_cast<const Proxy*>(ctx.make_number(type, value)));
}

Arg item_meta(Call& in) {
  const TensorType& t = in["input"].tensor()->type;
  for (const Dim d : t.shape) {
    if (!is_one(d)) in.unsupported("the item of a tensor of several elements");
  }
  if (is_complex(t.dtype) || t.dtype == DType::kBool) in.unsupported("an item that is no number");
  return make(in, is_floating(t.dtype) ? NumberType::kFloat : NumberType::kInt);
}

// Integers stay integers where Python's do, whatever their values.
Arg arithmetic(Call& in) {
  bool integers = true;
  for (const Arg& a : in.args()) {
    const auto type = type_of(a);
    if (!type) in.unsupported("arithmetic of what is no real number");
    integers = integers && type != NumberType::kFloat;
  }
  return make(in, integers ? NumberType::kInt : NumberType::kFloat);
}

Arg comparison(Call& in) {
  arithmetic(in);
  return make(in, NumberType::kBool);
}

Arg real_function(Call& in) {
  for (const Arg& a : in.args()) {
    if (!type_of(a)) in.unsupported("a function of what is no real number");
  }
  return make(in, NumberType::kFloat);
}

}  // namespace

constinit const Symbol item{
    .schema = "number_item(Tensor input) -> any",
    .torch = "fulmen.number.item",
    .tags = kPure | kNonDifferentiable,
    .meta = item_meta,
    .aten = "item(input)",
};

namespace {

#define FULMEN_NUMBER_ROW(NAME, PARAMS, META)                \
  constinit const Symbol NAME##_row{                         \
      .schema = "number_" #NAME "(" PARAMS ") -> any",       \
      .torch = "fulmen.number." #NAME,                       \
      .tags = kPure,                                         \
      .meta = META,                                          \
      .aten = "-",                                           \
  };
FULMEN_NUMBER_ROW(add, "Scalar a, Scalar b", arithmetic)
FULMEN_NUMBER_ROW(sub, "Scalar a, Scalar b", arithmetic)
FULMEN_NUMBER_ROW(mul, "Scalar a, Scalar b", arithmetic)
FULMEN_NUMBER_ROW(truediv, "Scalar a, Scalar b", real_function)
FULMEN_NUMBER_ROW(pow, "Scalar a, Scalar b", real_function)
FULMEN_NUMBER_ROW(lt, "Scalar a, Scalar b", comparison)
FULMEN_NUMBER_ROW(le, "Scalar a, Scalar b", comparison)
FULMEN_NUMBER_ROW(gt, "Scalar a, Scalar b", comparison)
FULMEN_NUMBER_ROW(ge, "Scalar a, Scalar b", comparison)
FULMEN_NUMBER_ROW(eq, "Scalar a, Scalar b", comparison)
FULMEN_NUMBER_ROW(ne, "Scalar a, Scalar b", comparison)
FULMEN_NUMBER_ROW(neg, "Scalar a", arithmetic)
FULMEN_NUMBER_ROW(abs, "Scalar a", arithmetic)
FULMEN_NUMBER_ROW(sqrt, "Scalar a", real_function)
FULMEN_NUMBER_ROW(exp, "Scalar a", real_function)
FULMEN_NUMBER_ROW(log, "Scalar a", real_function)
FULMEN_NUMBER_ROW(sin, "Scalar a", real_function)
FULMEN_NUMBER_ROW(cos, "Scalar a", real_function)
FULMEN_NUMBER_ROW(tanh, "Scalar a", real_function)
#undef FULMEN_NUMBER_ROW

constexpr const Symbol* kRows[] = {&item,    &add_row, &sub_row, &mul_row, &truediv_row,
                                   &pow_row, &lt_row,  &le_row,  &gt_row,  &ge_row,
                                   &eq_row,  &ne_row,  &neg_row, &abs_row, &sqrt_row,
                                   &exp_row, &log_row, &sin_row, &cos_row, &tanh_row};

}  // namespace

const Symbol* number_row(std::string_view function) {
  for (const Symbol* s : kRows) {
    if (s != &item && s->name().substr(std::string_view("number_").size()) == function) return s;
  }
  return nullptr;
}

bool takes_types(const Symbol& row, std::span<const NumberType> types) {
  const bool any_float = std::find(types.begin(), types.end(), NumberType::kFloat) != types.end();
  // An integer to a negative integer is a float; a quotient of large ones is rounded once.
  if (&row == &pow_row || &row == &truediv_row) return any_float;
  return std::none_of(types.begin(), types.end(),
                      [](NumberType t) { return t == NumberType::kComplex; });
}

std::span<const Symbol* const> number_family() { return kRows; }

}  // namespace fulmen::ops
