// Arithmetic with the numbers of a program, as Python does it.
#include <cmath>
#include <functional>
#include <stdexcept>
#include <unordered_map>

#include "bridge/bridge.h"
#include "bridge/ivalue.h"
#include "ops/number.h"
#include "support/error.h"

namespace fulmen::bridge {
namespace {

using Value = c10::IValue;

// PyTorch runs the call anew then, and Python raises, or computes with large integers.
[[noreturn]] void leave_to_python() { throw std::domain_error("not a number of this program"); }

int64_t integer(const Value& v) { return v.isBool() ? int64_t{v.toBool()} : v.toInt(); }

double real(const Value& v) {
  if (v.isDouble()) return v.toDouble();
  return static_cast<double>(integer(v));
}

// A result that Python gives as it is: infinite only where an operand is.
double checked(double result, double a, double b = 0) {
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) leave_to_python();
  return result;
}

template <class Real, class Integer>
Value arithmetic(const Value& a, const Value& b, Real real_op, Integer integer_op) {
  if (a.isDouble() || b.isDouble()) return real_op(real(a), real(b));
  int64_t result = 0;
  if (integer_op(integer(a), integer(b), &result)) leave_to_python();
  return result;
}

Value add(const Value& a, const Value& b) {
  return arithmetic(
      a, b, [](double x, double y) { return x + y; },
      [](int64_t x, int64_t y, int64_t* r) { return __builtin_add_overflow(x, y, r); });
}
Value sub(const Value& a, const Value& b) {
  return arithmetic(
      a, b, [](double x, double y) { return x - y; },
      [](int64_t x, int64_t y, int64_t* r) { return __builtin_sub_overflow(x, y, r); });
}
Value mul(const Value& a, const Value& b) {
  return arithmetic(
      a, b, [](double x, double y) { return x * y; },
      [](int64_t x, int64_t y, int64_t* r) { return __builtin_mul_overflow(x, y, r); });
}
Value truediv(const Value& a, const Value& b) {
  if (real(b) == 0) leave_to_python();
  return real(a) / real(b);
}
Value power(const Value& a, const Value& b) {
  const double x = real(a), y = real(b);
  if ((x == 0 && y < 0) || (x < 0 && std::isfinite(x) && y != std::floor(y))) leave_to_python();
  return checked(std::pow(x, y), x, y);
}
Value negative(const Value& a, const Value&) {
  return a.isDouble() ? Value(-a.toDouble()) : sub(Value(int64_t{0}), a);
}
Value absolute(const Value& a, const Value& b) {
  if (a.isDouble()) return std::fabs(a.toDouble());
  return real(a) < 0 ? negative(a, b) : add(a, Value(int64_t{0}));
}
template <double (*kFunction)(double)>
Value function(const Value& a, const Value&) {
  const double x = real(a), result = kFunction(x);
  if (std::isnan(result) && !std::isnan(x)) leave_to_python();
  return checked(result, x);
}

// Integers beyond 2^53 are no doubles.
template <class Compare>
Value compare(const Value& a, const Value& b) {
  const Compare holds{};
  if (!a.isDouble() && !b.isDouble()) return holds(integer(a), integer(b));
  for (const Value* v : {&a, &b}) {
    if (!v->isDouble() && std::abs(real(*v)) > 0x1p53) leave_to_python();
  }
  return holds(real(a), real(b));
}

using Function = Value (*)(const Value&, const Value&);

Function function_of(const Symbol& symbol) {
  static constexpr std::pair<const char*, Function> kFunctions[] = {
      {"add", add},
      {"sub", sub},
      {"mul", mul},
      {"truediv", truediv},
      {"pow", power},
      {"lt", compare<std::less<>>},
      {"le", compare<std::less_equal<>>},
      {"gt", compare<std::greater<>>},
      {"ge", compare<std::greater_equal<>>},
      {"eq", compare<std::equal_to<>>},
      {"ne", compare<std::not_equal_to<>>},
      {"neg", negative},
      {"abs", absolute},
      {"sqrt", function<std::sqrt>},
      {"exp", function<std::exp>},
      {"log", function<std::log>},
      {"sin", function<std::sin>},
      {"cos", function<std::cos>},
      {"tanh", function<std::tanh>},
  };
  // Every bound symbol of a program is asked for.
  static const auto of_row = [] {
    std::unordered_map<const Symbol*, Function> table;
    for (const auto& [name, function] : kFunctions) table.emplace(ops::number_row(name), function);
    return table;
  }();
  const auto found = of_row.find(&symbol);
  return found == of_row.end() ? nullptr : found->second;
}

class NumberKernel final : public exec::Kernel {
 public:
  NumberKernel(Function function, const BoundSymbol& bsym, const exec::SlotOf& slot_of)
      : function_(function), result_(slot_of(bsym.output.proxy())) {
    for (size_t i = 0; i < bsym.args.size(); ++i) operands_[i] = operand(bsym.args[i], slot_of);
  }
  void run(exec::Slot* slots) const override {
    value_of(slots[result_]) = function_(operands_[0].load(slots), operands_[1].load(slots));
  }

 private:
  static Operand operand(const Arg& a, const exec::SlotOf& slot_of) {
    Operand o;
    if (a.is_proxy()) {
      o.kind = Operand::Kind::kSlot;
      o.slot = slot_of(a.proxy());
    } else {
      o.constant = a.kind() == Arg::Kind::kFloat  ? Value(a.real())
                   : a.kind() == Arg::Kind::kBool ? Value(a.boolean())
                                                  : Value(a.dim().value());
    }
    return o;
  }

  Function function_;
  uint32_t result_;
  Operand operands_[2];
};

class NumberExecutor final : public exec::SoleExecutor {
 public:
  std::string_view name() const override { return "numbers"; }
  bool concerns(const Symbol& symbol) const override { return function_of(symbol) != nullptr; }
  std::unique_ptr<exec::Kernel> compile(
      const BoundSymbol& bsym, const exec::SlotOf& slot_of,
      const std::shared_ptr<const exec::Compilation>&) const override {
    return std::make_unique<NumberKernel>(function_of(*bsym.symbol), bsym, slot_of);
  }
};

}  // namespace

exec::ExecutorPtr number_executor() {
  static const auto executor = std::make_shared<const NumberExecutor>();
  return executor;
}

}  // namespace fulmen::bridge
