#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/jit_type.h>

#include <mutex>
#include <unordered_map>

#include "bridge/bridge.h"
#include "bridge/ivalue.h"
#include "bridge/scalar_type.h"
#include "ir/control.h"
#include "ir/proxy.h"
#include "support/error.h"

namespace fulmen::bridge {
namespace {

// --- Which ATen call a row is ------------------------------------------------------------------

// One argument of a row's `aten` text, or of the default call.
struct CallArg {
  std::string keyword;  // empty: positional
  Arg value;
};
struct AtenCall {
  std::string op;  // without the namespace "aten::"
  std::vector<CallArg> args;
};

std::string_view trim(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

Arg parse_literal(std::string_view text) {
  if (text == "None") return {};
  if (text == "True") return true;
  if (text == "False") return false;
  if (text.front() == '\'') return Arg(text.substr(1, text.size() - 2));
  const std::string owned(text);
  size_t used = 0;
  if (text.find_first_of(".ein") == std::string_view::npos) {
    const int64_t v = std::stoll(owned, &used);
    if (used == owned.size()) return Arg(v);
  } else {
    const double v = std::stod(owned, &used);
    if (used == owned.size()) return Arg(v);
  }
  internal_error("aten text: not a literal: ", text);
}

// `text` is a parameter name, a literal, or `name ?? other` (the other, which is any of these, if
// None).
Arg evaluate(std::string_view text, const BoundSymbol& bsym) {
  text = trim(text);
  std::string_view otherwise;
  if (const size_t at = text.find("??"); at != std::string_view::npos) {
    otherwise = trim(text.substr(at + 2));
    text = trim(text.substr(0, at));
  }
  const int index = bsym.symbol->info->schema.index(text);
  if (index < 0) return parse_literal(text);
  const Arg value = bsym.args[index];
  return value.is_none() && !otherwise.empty() ? evaluate(otherwise, bsym) : value;
}

bool is_default(const Param& p, const Arg& a) { return p.default_value && *p.default_value == a; }

AtenCall aten_call(const BoundSymbol& bsym) {
  const Symbol& s = *bsym.symbol;
  AtenCall call;
  std::string_view text = s.aten;
  if (!text.empty()) {
    const size_t open = text.find('(');
    if (open == std::string_view::npos) {
      call.op = std::string(text);
    } else {
      call.op = std::string(text.substr(0, open));
      text = text.substr(open + 1, text.rfind(')') - open - 1);
      while (!trim(text).empty()) {
        const size_t comma = std::min(text.find(','), text.size());
        std::string_view item = trim(text.substr(0, comma));
        text.remove_prefix(std::min(comma + 1, text.size()));
        CallArg arg;
        if (const size_t eq = item.find('='); eq != std::string_view::npos) {
          arg.keyword = std::string(trim(item.substr(0, eq)));
          item = item.substr(eq + 1);
        }
        arg.value = evaluate(item, bsym);
        call.args.push_back(std::move(arg));
      }
      if (s.info->functional) call.op += '_';
      return call;
    }
  }
  if (call.op.empty())
    call.op = s.name().substr(0, s.name().find('.'));
  else if (s.info->functional)
    call.op += '_';
  const auto& params = s.info->schema.params;
  size_t n = params.size();
  while (n > 0 && (params[n - 1].keyword_only || is_default(params[n - 1], bsym.args[n - 1]))) --n;
  for (size_t i = 0; i < params.size(); ++i) {
    if (i < n && !params[i].keyword_only) {
      call.args.push_back({"", bsym.args[i]});
    } else if (params[i].keyword_only && !is_default(params[i], bsym.args[i])) {
      call.args.push_back({params[i].name, bsym.args[i]});
    }
  }
  return call;
}

// --- Arg → IValue of the type that an ATen parameter wants --------------------------------------

bool is_reduction_text(std::string_view text, int64_t* out) {
  if (text == "none") return *out = 0, true;
  if (text == "mean") return *out = 1, true;
  if (text == "sum") return *out = 2, true;
  return false;
}

bool convert(const Arg& a, const c10::Type& type, const c10::Type& real_type,
             std::optional<int32_t> list_size, const exec::SlotOf* slot_of, Operand* out);

bool convert_list(const Arg& a, const c10::Type& element, std::optional<int32_t> list_size,
                  const exec::SlotOf* slot_of, Operand* out) {
  SmallVec<Arg, 8> items;
  if (a.is_sequence()) {
    for (const Arg& item : a.items()) items.push_back(item);
  } else if (list_size && (a.is_number() || a.is_tensor())) {
    items.resize(std::max(1, *list_size), a);
  } else {
    return false;
  }
  const bool optional_tensor = element.kind() == c10::TypeKind::OptionalType;
  if (element.kind() == c10::TypeKind::TensorType || optional_tensor) {
    out->kind = optional_tensor ? Operand::Kind::kOptionalTensorList : Operand::Kind::kTensorList;
    for (const Arg& item : items) {
      Operand operand;
      if (!item.is_none() && !item.is_tensor()) return false;
      if (item.is_none() && !optional_tensor) return false;
      if (item.is_tensor() && slot_of) {
        operand.kind = Operand::Kind::kSlot;
        operand.slot = (*slot_of)(item.proxy());
      }
      out->items.push_back(std::move(operand));
    }
    return true;
  }
  if (element.kind() == c10::TypeKind::IntType || element.kind() == c10::TypeKind::SymIntType) {
    c10::List<int64_t> list;
    for (const Arg& item : items) {
      if (item.kind() != Arg::Kind::kInt && item.kind() != Arg::Kind::kBool) return false;
      list.push_back(item.integer());
    }
    out->constant = list;
    return true;
  }
  if (element.kind() == c10::TypeKind::FloatType) {
    c10::List<double> list;
    for (const Arg& item : items) {
      if (item.kind() == Arg::Kind::kFloat)
        list.push_back(item.real());
      else if (item.kind() == Arg::Kind::kInt)
        list.push_back(static_cast<double>(item.integer()));
      else
        return false;
    }
    out->constant = list;
    return true;
  }
  if (element.kind() == c10::TypeKind::BoolType) {
    c10::List<bool> list;
    for (const Arg& item : items) {
      if (item.kind() != Arg::Kind::kBool) return false;
      list.push_back(item.boolean());
    }
    out->constant = list;
    return true;
  }
  return false;
}

std::optional<int64_t> layout_value(std::string_view name) {
  if (name == "strided") return static_cast<int64_t>(c10::Layout::Strided);
  return std::nullopt;
}

std::optional<int64_t> memory_format_value(std::string_view name) {
  if (name == "contiguous_format") return static_cast<int64_t>(c10::MemoryFormat::Contiguous);
  if (name == "preserve_format") return static_cast<int64_t>(c10::MemoryFormat::Preserve);
  if (name == "channels_last") return static_cast<int64_t>(c10::MemoryFormat::ChannelsLast);
  if (name == "channels_last_3d") return static_cast<int64_t>(c10::MemoryFormat::ChannelsLast3d);
  return std::nullopt;
}

// Converts for IntType, whose real type may be ScalarType, Layout or MemoryFormat.
bool convert_int(const Arg& a, const c10::Type& real_type, Operand* out) {
  switch (a.kind()) {
    case Arg::Kind::kInt:
      if (real_type.kind() == c10::TypeKind::ScalarTypeType) return false;
      out->constant = a.integer();
      return true;
    case Arg::Kind::kBool: out->constant = static_cast<int64_t>(a.boolean()); return true;
    case Arg::Kind::kDType:
      if (real_type.kind() != c10::TypeKind::ScalarTypeType) return false;
      out->constant = static_cast<int64_t>(to_scalar_type(a.dtype()));
      return true;
    case Arg::Kind::kString: {
      int64_t v = 0;
      if (!is_reduction_text(a.text(), &v)) return false;
      out->constant = v;
      return true;
    }
    case Arg::Kind::kLayout: {
      const auto v = layout_value(a.text());
      if (v) out->constant = *v;
      return v.has_value();
    }
    case Arg::Kind::kMemoryFormat: {
      const auto v = memory_format_value(a.text());
      if (v) out->constant = *v;
      return v.has_value();
    }
    default: return false;
  }
}

bool convert_number(const Arg& a, Operand* out) {
  switch (a.kind()) {
    case Arg::Kind::kInt: out->constant = a.integer(); return true;
    case Arg::Kind::kBool: out->constant = a.boolean(); return true;
    case Arg::Kind::kFloat: out->constant = a.real(); return true;
    case Arg::Kind::kComplex: out->constant = c10::complex<double>(a.complex()); return true;
    default: return false;
  }
}

// `slot_of` null: only whether it converts.
bool convert(const Arg& a, const c10::Type& type, const c10::Type& real_type,
             std::optional<int32_t> list_size, const exec::SlotOf* slot_of, Operand* out) {
  if (type.kind() == c10::TypeKind::OptionalType) {
    if (a.is_none()) return true;  // a None constant
    const auto& inner = *type.castRaw<c10::OptionalType>()->getElementType();
    const c10::Type* real = &real_type;
    if (real_type.kind() == c10::TypeKind::OptionalType) {
      real = real_type.castRaw<c10::OptionalType>()->getElementType().get();
    }
    return convert(a, inner, *real, list_size, slot_of, out);
  }
  if (a.is_proxy()) {
    const bool tensor = a.is_tensor();
    const auto* number = as_number(a.proxy());
    bool ok = false;
    switch (type.kind()) {
      case c10::TypeKind::TensorType: ok = tensor; break;
      case c10::TypeKind::NumberType: ok = number; break;
      case c10::TypeKind::IntType:
      case c10::TypeKind::SymIntType: ok = number && number->type == NumberType::kInt; break;
      case c10::TypeKind::FloatType: ok = number && number->type == NumberType::kFloat; break;
      case c10::TypeKind::BoolType: ok = number && number->type == NumberType::kBool; break;
      case c10::TypeKind::ListType:
        return convert_list(a, *type.castRaw<c10::ListType>()->getElementType(), list_size, slot_of,
                            out);
      default: break;
    }
    if (ok && slot_of) {
      out->kind = Operand::Kind::kSlot;
      out->slot = (*slot_of)(a.proxy());
    }
    return ok;
  }
  switch (type.kind()) {
    case c10::TypeKind::TensorType: return false;
    case c10::TypeKind::ListType:
      return convert_list(a, *type.castRaw<c10::ListType>()->getElementType(), list_size, slot_of,
                          out);
    case c10::TypeKind::NumberType: return convert_number(a, out);
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType: return convert_int(a, real_type, out);
    case c10::TypeKind::FloatType:
      if (a.kind() == Arg::Kind::kFloat) return out->constant = a.real(), true;
      if (a.kind() == Arg::Kind::kInt)
        return out->constant = static_cast<double>(a.integer()), true;
      return false;
    case c10::TypeKind::BoolType:
      if (a.kind() != Arg::Kind::kBool) return false;
      out->constant = a.boolean();
      return true;
    case c10::TypeKind::StringType:
      if (a.kind() != Arg::Kind::kString) return false;
      out->constant = std::string(a.text());
      return true;
    case c10::TypeKind::DeviceObjType:
      if (a.kind() != Arg::Kind::kDevice) return false;
      out->constant = to_c10(a.device());
      return true;
    default: return false;
  }
}

// A number for a parameter that is a tensor.
bool convert_to_tensor(const Arg& a, const exec::SlotOf* slot_of, Operand* out) {
  if (!a.is_proxy()) {
    if (!convert_number(a, out)) return false;
    out->constant = number_tensor(out->constant.toScalar());
    return true;
  }
  if (!as_number(a.proxy())) return false;
  out->kind = Operand::Kind::kNumberTensor;
  if (slot_of) out->slot = (*slot_of)(a.proxy());
  return true;
}

// --- Overloads ----------------------------------------------------------------------------------

// The overload names of every aten operator but its out= variants, in the order of registration.
const std::vector<std::string>* overload_names(const std::string& op) {
  static std::unordered_map<std::string, std::vector<std::string>>* names = nullptr;
  static std::once_flag once;
  std::call_once(once, [] {
    auto* map = new std::unordered_map<std::string, std::vector<std::string>>;
    for (const c10::OperatorName& n : c10::Dispatcher::singleton().getAllOpNames()) {
      if (!n.name.starts_with("aten::")) continue;
      if (n.overload_name.find("out") != std::string::npos) continue;
      if (n.overload_name.find("names") != std::string::npos ||
          n.overload_name.find("Dimname") != std::string::npos)
        continue;
      (*map)[n.name.substr(6)].push_back(n.overload_name);
    }
    // Deterministic, and the plain Tensor forms first.
    for (auto& [name, overloads] : *map) std::sort(overloads.begin(), overloads.end());
    names = map;
  });
  const auto it = names->find(op);
  return it == names->end() ? nullptr : &it->second;
}

// `numbers_as_tensors`: numbers are passed to parameters that are tensors.
bool bind_call(const c10::FunctionSchema& schema, const AtenCall& call, const exec::SlotOf* slot_of,
               std::vector<Operand>* operands, bool numbers_as_tensors = false) {
  const auto& params = schema.arguments();
  operands->assign(params.size(), Operand());
  std::vector<bool> given(params.size());
  size_t next = 0;
  for (const CallArg& arg : call.args) {
    size_t at = params.size();
    if (arg.keyword.empty()) {
      at = next++;
      if (at >= params.size() || params[at].kwarg_only()) return false;
    } else {
      for (size_t i = 0; i < params.size(); ++i) {
        if (params[i].name() == arg.keyword) at = i;
      }
      if (at == params.size() || given[at]) return false;
    }
    const bool as_tensor = numbers_as_tensors && !arg.value.is_tensor() &&
                           params[at].type()->kind() == c10::TypeKind::TensorType;
    if (as_tensor ? !convert_to_tensor(arg.value, slot_of, &(*operands)[at])
                  : !convert(arg.value, *params[at].type(), *params[at].real_type(), params[at].N(),
                             slot_of, &(*operands)[at])) {
      return false;
    }
    given[at] = true;
  }
  for (size_t i = 0; i < params.size(); ++i) {
    if (given[i]) continue;
    if (!params[i].default_value()) return false;
    (*operands)[i].constant = *params[i].default_value();
  }
  return true;
}

class AtenKernel final : public exec::Kernel {
 public:
  AtenKernel(c10::OperatorHandle op, std::vector<Operand> operands, Target target)
      : op_(op), operands_(std::move(operands)), target_(std::move(target)) {}

  void run(exec::Slot* slots) const override {
    // Kernels nest (a Python kernel may run another program), and use the top of one stack.
    thread_local torch::jit::Stack stack;
    const size_t base = stack.size();
    try {
      for (const Operand& operand : operands_) stack.push_back(operand.load(slots));
      op_.callBoxed(stack);
      store(stack, base, slots);
    } catch (...) {
      stack.resize(base);
      throw;
    }
  }

 private:
  void store(torch::jit::Stack& stack, size_t base, exec::Slot* slots) const {
    const size_t results = stack.size() - base;
    if (results == 1) {
      target_.store(std::move(stack.back()), slots);
    } else if (target_.kind == Target::Kind::kSequence) {
      for (size_t i = 0; i < target_.items.size() && i < results; ++i) {
        target_.items[i].store(std::move(stack[base + i]), slots);
      }
    }
    stack.resize(base);
  }

  c10::OperatorHandle op_;
  std::vector<Operand> operands_;
  Target target_;
};

class ModeKernel final : public exec::Kernel {
 public:
  ModeKernel(void (*set)(bool), bool enabled) : set_(set), enabled_(enabled) {}
  void run(exec::Slot*) const override { set_(enabled_); }

 private:
  void (*set_)(bool);
  bool enabled_;
};

// How the symbol changes the mode in which the program runs; null: it does not.
auto sets_mode(const BoundSymbol& bsym) -> void (*)(bool) {
  if (bsym.symbol->name() == "set_grad_enabled") return set_grad_enabled;
  if (bsym.symbol->name() == "set_inference_mode") return set_inference_mode;
  return nullptr;
}

class AtenExecutor final : public exec::Executor {
 public:
  std::string_view name() const override { return "aten"; }

  bool is_optional() const override { return false; }

  std::string refusal(const exec::Offer& offer) const override {
    const BoundSymbol& bsym = offer.bsym;
    if (sets_mode(bsym) || bsym.symbol == &del_last_used) return {};
    if (bsym.symbol->has(kOpaque)) return "an opaque symbol";
    if (bsym.symbol->aten == "-") return "no ATen operator";
    std::vector<Operand> operands;
    return resolve(bsym, nullptr, &operands) ? "" : "no ATen overload takes these arguments";
  }

  std::unique_ptr<exec::Kernel> compile(
      const BoundSymbol& bsym, const exec::SlotOf& slot_of,
      const std::shared_ptr<const exec::Compilation>&) const override {
    if (const auto set = sets_mode(bsym)) {
      return std::make_unique<ModeKernel>(set, bsym.args[0].boolean());
    }
    std::vector<Operand> operands;
    const auto op = resolve(bsym, &slot_of, &operands);
    if (!op) internal_error(bsym.symbol->name(), ": claimed without an ATen overload");
    Target target = make_target(bsym.output, slot_of);
    return std::make_unique<AtenKernel>(*op, std::move(operands), std::move(target));
  }

 private:
  static std::optional<c10::OperatorHandle> resolve(const BoundSymbol& bsym,
                                                    const exec::SlotOf* slot_of,
                                                    std::vector<Operand>* operands) {
    const AtenCall call = aten_call(bsym);
    const std::vector<std::string>* overloads = overload_names(call.op);
    if (!overloads) return std::nullopt;
    // Its overload for numbers rounds the number to the tensor's dtype; PyTorch's Python calls the
    // one for tensors.
    if (call.op == "mul_") {
      const auto op = c10::Dispatcher::singleton().findSchema({"aten::mul_", "Tensor"});
      if (op && bind_call(op->schema(), call, slot_of, operands, true)) return op;
    }
    for (const std::string& overload : *overloads) {
      const auto op = c10::Dispatcher::singleton().findSchema({"aten::" + call.op, overload});
      if (op && bind_call(op->schema(), call, slot_of, operands)) return op;
    }
    return std::nullopt;
  }
};

// Operators that libraries register: `torch.ops.namespace.name.overload`, which the front ends
// record as opaque.
class CustomOpExecutor final : public exec::Executor {
 public:
  std::string_view name() const override { return "custom_op"; }
  bool concerns(const Symbol& symbol) const override {
    return symbol.has(kOpaque) && symbol.name().starts_with(kPrefix);
  }
  std::string refusal(const exec::Offer& offer) const override {
    const auto op = find(*offer.bsym.symbol);
    if (!op) return "PyTorch has no such operator";
    std::vector<Operand> operands;
    return bind_call(op->schema(), call_of(offer.bsym), nullptr, &operands)
               ? ""
               : "arguments that its schema does not name";
  }
  std::unique_ptr<exec::Kernel> compile(
      const BoundSymbol& bsym, const exec::SlotOf& slot_of,
      const std::shared_ptr<const exec::Compilation>&) const override {
    const auto op = find(*bsym.symbol);
    std::vector<Operand> operands;
    if (!op || !bind_call(op->schema(), call_of(bsym), &slot_of, &operands))
      internal_error(bsym.symbol->name(), ": claimed, but there is no such operator");
    return std::make_unique<AtenKernel>(*op, std::move(operands),
                                        make_target(bsym.output, slot_of));
  }

 private:
  static constexpr std::string_view kPrefix = "torch.ops.";

  // The operator behind torch.ops.namespace.name, or its overload.
  static std::optional<c10::OperatorHandle> find(const Symbol& symbol) {
    std::string_view path = symbol.name();
    path.remove_prefix(kPrefix.size());
    const size_t dot = path.find('.');
    if (dot == std::string_view::npos) return std::nullopt;
    const size_t second = path.find('.', dot + 1);
    const std::string name = cat(path.substr(0, dot), "::", path.substr(dot + 1, second - dot - 1));
    std::string overload(second == std::string_view::npos ? "" : path.substr(second + 1));
    if (overload == "default") overload.clear();
    return c10::Dispatcher::singleton().findSchema({name, overload});
  }

  static AtenCall call_of(const BoundSymbol& bsym) {
    AtenCall call;
    for (const Arg& a : bsym.args[0].items()) call.args.push_back({"", a});
    const auto named = bsym.args[1].items();
    for (size_t i = 0; i + 1 < named.size(); i += 2)
      call.args.push_back({std::string(named[i].text()), named[i + 1]});
    return call;
  }
};

}  // namespace

exec::ExecutorPtr aten_executor() {
  static const auto executor = std::make_shared<const AtenExecutor>();
  return executor;
}

exec::ExecutorPtr custom_op_executor() {
  static const auto executor = std::make_shared<const CustomOpExecutor>();
  return executor;
}

}  // namespace fulmen::bridge
