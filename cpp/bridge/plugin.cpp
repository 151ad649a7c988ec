#include "exec/plugin.h"

#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty_strided.h>
#include <dlfcn.h>

#include <deque>
#include <unordered_map>

#include "bridge/bridge.h"
#include "bridge/contract.h"
#include "bridge/ivalue.h"
#include "bridge/scalar_type.h"
#include "ir/builder.h"
#include "ir/proxy.h"
#include "support/error.h"

namespace fulmen::bridge {
namespace {

int32_t plugin_dtype(DType t) {
  switch (t) {
    case DType::kBool: return FULMEN_BOOL;
    case DType::kUInt8: return FULMEN_UINT8;
    case DType::kInt8: return FULMEN_INT8;
    case DType::kInt16: return FULMEN_INT16;
    case DType::kInt32: return FULMEN_INT32;
    case DType::kInt64: return FULMEN_INT64;
    case DType::kFloat16: return FULMEN_FLOAT16;
    case DType::kBFloat16: return FULMEN_BFLOAT16;
    case DType::kFloat32: return FULMEN_FLOAT32;
    case DType::kFloat64: return FULMEN_FLOAT64;
    default: return FULMEN_OTHER_DTYPE;
  }
}

// A tensor's metadata, as a plug-in sees it. Its address must stay.
struct Description {
  TensorType type;
  std::vector<int64_t> sizes, strides;

  explicit Description(const TensorType& t) : type(t) {
    for (const Dim d : t.shape) sizes.push_back(d.value());
    for (const Dim d : t.strides) strides.push_back(d.value());
  }
  Description(const Description&) = delete;

  FulmenTensor view(void* data) const {
    FulmenTensor v{};
    v.data = data;
    v.sizes = sizes.data();
    v.strides = strides.data();
    v.ndim = static_cast<int32_t>(sizes.size());
    v.dtype = plugin_dtype(type.dtype);
    v.device = type.device.type == DeviceType::kCPU    ? FULMEN_CPU
               : type.device.type == DeviceType::kCUDA ? FULMEN_CUDA
                                                       : FULMEN_OTHER_DEVICE;
    v.device_index = type.device.index;
    return v;
  }
};

bool has_known_sizes(const BoundSymbol& bsym) {
  bool known = true;
  const auto look = [&](const Proxy* p) {
    const TensorProxy* t = as_tensor(p);
    if (!t) return;
    for (const Dim d : t->type.shape) known = known && d.is_concrete();
    for (const Dim d : t->type.strides) known = known && d.is_concrete();
  };
  for (const Arg& a : bsym.args) for_each_proxy(a, look);
  for_each_proxy(bsym.output, look);
  return known;
}

// The arguments and results of one call as a plug-in takes them; tensors without data.
class Call {
 public:
  Call(const BoundSymbol& bsym, const exec::SlotOf* slot_of) {
    for (const Arg& a : bsym.args) args_.push_back(make(a, slot_of));
    for_each_proxy(bsym.output, [&](const Proxy* p) {
      const Description& d = descriptions_.emplace_back(as_tensor(p)->type);
      results_.push_back(d.view(nullptr));
      result_slots_.push_back(slot_of ? (*slot_of)(p) : 0);
    });
  }
  Call(const Call&) = delete;

  const char* check(const FulmenOperator& op) const {
    return op.check ? op.check(args_.data(), args_.size(), results_.data(), results_.size())
                    : nullptr;
  }

  // With the values of one run: `f(args, results)`.
  template <class F>
  void with_values(exec::Slot* slots, F&& f) const {
    std::vector<FulmenValue> args;
    std::deque<std::vector<FulmenValue>> items;
    std::vector<at::Tensor> keep;
    for (const Node& n : nodes_) args.push_back(load(n, slots, items, keep));
    std::vector<FulmenTensor> results = results_;
    std::vector<at::Tensor> made;
    size_t at = descriptions_.size() - results.size();
    for (FulmenTensor& r : results) {
      const Description& d = descriptions_[at++];
      made.push_back(at::empty_strided(
          d.sizes, d.strides,
          at::TensorOptions(to_scalar_type(d.type.dtype)).device(to_c10(d.type.device))));
      r.data = made.back().data_ptr();
    }
    f(args, results);
    for (size_t i = 0; i < made.size(); ++i) value_of(slots[result_slots_[i]]) = std::move(made[i]);
  }

 private:
  // An argument; of a proxy where its value is.
  struct Node {
    FulmenValue value{};
    int slot = -1;
    const Description* description = nullptr;
    std::vector<Node> items;
  };

  FulmenValue make(const Arg& a, const exec::SlotOf* slot_of) {
    nodes_.push_back(node(a, slot_of));
    return freeze(nodes_.back());
  }

  // The value without data; lists are kept for good.
  FulmenValue freeze(const Node& n) {
    FulmenValue v = n.value;
    if (v.kind != FULMEN_ITEMS) return v;
    auto& list = lists_.emplace_back();
    for (const Node& item : n.items) list.push_back(freeze(item));
    v.items = list.data();
    return v;
  }

  Node node(const Arg& a, const exec::SlotOf* slot_of) {
    Node n;
    n.value.kind = FULMEN_OTHER;
    if (a.is_proxy()) {
      if (slot_of) n.slot = static_cast<int>((*slot_of)(a.proxy()));
      if (const TensorProxy* t = as_tensor(a.proxy())) {
        n.description = &descriptions_.emplace_back(t->type);
        n.value.kind = FULMEN_TENSOR;
        n.value.tensor = n.description->view(nullptr);
      }
      return n;
    }
    switch (a.kind()) {
      case Arg::Kind::kNone: n.value.kind = FULMEN_NONE; break;
      case Arg::Kind::kBool:
      case Arg::Kind::kInt:
        n.value.kind = FULMEN_INTEGER;
        n.value.integer = a.integer();
        break;
      case Arg::Kind::kFloat:
        n.value.kind = FULMEN_REAL;
        n.value.real = a.real();
        break;
      case Arg::Kind::kString:
        n.value.kind = FULMEN_TEXT;
        n.value.text = strings_.emplace_back(a.text()).c_str();
        break;
      case Arg::Kind::kList:
      case Arg::Kind::kTuple:
        n.value.kind = FULMEN_ITEMS;
        n.value.count = static_cast<int32_t>(a.items().size());
        for (const Arg& item : a.items()) n.items.push_back(node(item, slot_of));
        break;
      default: break;
    }
    return n;
  }

  static FulmenValue load(const Node& n, exec::Slot* slots,
                          std::deque<std::vector<FulmenValue>>& items,
                          std::vector<at::Tensor>& keep) {
    FulmenValue v = n.value;
    if (v.kind == FULMEN_ITEMS) {
      std::vector<FulmenValue> list;
      for (const Node& item : n.items) list.push_back(load(item, slots, items, keep));
      items.push_back(std::move(list));
      v.items = items.back().data();
    } else if (n.description) {
      v.tensor.data = data_of(value_of(slots[n.slot]).toTensor(), *n.description, keep);
    } else if (n.slot >= 0) {
      const c10::IValue& number = value_of(slots[n.slot]);
      if (number.isDouble()) {
        v.kind = FULMEN_REAL;
        v.real = number.toDouble();
      } else if (number.isInt() || number.isBool()) {
        v.kind = FULMEN_INTEGER;
        v.integer = number.isBool() ? number.toBool() : number.toInt();
      }
    }
    return v;
  }

  // In the layout that `check` saw.
  static void* data_of(const at::Tensor& t, const Description& d, std::vector<at::Tensor>& keep) {
    const bool same =
        t.scalar_type() == to_scalar_type(d.type.dtype) && t.sizes() == c10::IntArrayRef(d.sizes);
    if (!same) internal_error("a plug-in's argument is not of the type that it was compiled for");
    if (t.strides() == c10::IntArrayRef(d.strides) && !t.is_conj() && !t.is_neg())
      return const_cast<void*>(t.const_data_ptr());
    keep.push_back(at::empty_strided(d.sizes, d.strides, t.options()));
    keep.back().copy_(t);
    return keep.back().data_ptr();
  }

  std::deque<Description> descriptions_;  // the results' are the last
  std::deque<std::string> strings_;
  std::deque<std::vector<FulmenValue>> lists_;
  std::vector<Node> nodes_;
  std::vector<FulmenValue> args_;
  std::vector<FulmenTensor> results_;
  std::vector<uint32_t> result_slots_;
};

void parallel_for(int64_t begin, int64_t end, int64_t grain,
                  void (*body)(void* data, int64_t from, int64_t to), void* data) {
  at::parallel_for(begin, end, grain, [&](int64_t from, int64_t to) { body(data, from, to); });
}

constexpr FulmenHost kHost = {parallel_for};

class PluginKernel final : public exec::Kernel {
 public:
  PluginKernel(const FulmenOperator& op, const BoundSymbol& bsym, const exec::SlotOf& slot_of)
      : op_(op),
        call_(bsym, &slot_of),
        what_(cat(bsym.symbol->name(), "()", source_suffix(bsym.source))) {}

  void run(exec::Slot* slots) const override {
    call_.with_values(slots, [&](const auto& args, const auto& results) {
      const char* problem =
          op_.run(args.data(), args.size(), results.data(), results.size(), &kHost);
      if (problem) throw_kernel_error(cat("a plug-in's kernel for ", what_, ": ", problem));
    });
  }

 private:
  const FulmenOperator& op_;
  const Call call_;
  const std::string what_;
};

class PluginExecutor final : public exec::Executor {
 public:
  explicit PluginExecutor(const FulmenPlugin& plugin) : name_(plugin.name) {
    for (size_t i = 0; i < plugin.num_operators; ++i)
      operators_.emplace(plugin.operators[i].symbol, &plugin.operators[i]);
  }

  std::string_view name() const override { return name_; }
  bool concerns(const Symbol& s) const override { return operators_.contains(s.name()); }

  std::string refusal(const exec::Offer& offer) const override {
    const BoundSymbol& b = offer.bsym;
    if (offer.under_autograd) return "PyTorch's autograd has to see it";
    if (b.symbol->has(kInplace | kEffect | kRandom | kOpaque))
      return "it does more than to compute its results";
    bool good = true;
    for_each_proxy(b.output, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      good = good && t && !t->alias_of;
    });
    if (!good) return "its results are not all tensors of their own";
    if (!has_known_sizes(b)) return "sizes that only the run knows";
    const char* why = Call(b, nullptr).check(*operators_.at(b.symbol->name()));
    return why ? why : "";
  }

  std::unique_ptr<exec::Kernel> compile(
      const BoundSymbol& bsym, const exec::SlotOf& slot_of,
      const std::shared_ptr<const exec::Compilation>&) const override {
    return std::make_unique<PluginKernel>(*operators_.at(bsym.symbol->name()), bsym, slot_of);
  }

 private:
  const std::string name_;
  std::unordered_map<std::string, const FulmenOperator*> operators_;
};

template <class... Parts>
[[noreturn]] void refuse(const std::string& path, const Parts&... parts) {
  throw UserError(ErrorKind::kValue, "plugin", cat("load_plugin('", path, "'): ", parts...));
}

}  // namespace

exec::ExecutorPtr load_plugin(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) refuse(path, "the library can't be loaded: ", dlerror());
  using Entry = const FulmenPlugin* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(library, "fulmen_plugin"));
  if (!entry) refuse(path, "it exports no function fulmen_plugin; see exec/plugin.h");
  const FulmenPlugin* plugin = entry();
  if (!plugin) refuse(path, "its fulmen_plugin returned no table");
  if (plugin->version != FULMEN_PLUGIN_VERSION) {
    refuse(path, "got version ", uint64_t{plugin->version}, " of the plug-in interface; expected ",
           uint64_t{FULMEN_PLUGIN_VERSION}, ". Compile it with this Fulmen's header");
  }
  if (!plugin->name || !*plugin->name) refuse(path, "its table has no name");
  for (size_t i = 0; i < plugin->num_operators; ++i) {
    if (!plugin->operators[i].symbol || !plugin->operators[i].run)
      refuse(path, "operator ", uint64_t{i}, " has no symbol or no kernel");
  }
  return std::make_shared<const PluginExecutor>(*plugin);
}

}  // namespace fulmen::bridge
