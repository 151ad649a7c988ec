#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>

#include "bridge/bridge.h"
#include "bridge/contract.h"
#include "bridge/gil.h"
#include "bridge/ivalue.h"
#include "bridge/python_value.h"
#include "ir/control.h"
#include "ir/proxy.h"
#include "support/error.h"

namespace fulmen::bridge {
namespace {

// An owned reference; the GIL must be held when it changes or dies.
class Owned {
 public:
  Owned() = default;
  explicit Owned(PyObject* p) : p_(p) {}
  Owned(Owned&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  Owned& operator=(Owned&& o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  ~Owned() { Py_XDECREF(p_); }
  PyObject* get() const { return p_; }
  PyObject* release() { return std::exchange(p_, nullptr); }

 private:
  PyObject* p_ = nullptr;
};

PyObject* checked(PyObject* p) {
  if (!p) throw python_error();
  return p;
}

// An argument with the slots of its proxies resolved.
struct Node {
  Arg::Kind kind = Arg::Kind::kNone;
  uint32_t slot = 0;
  PyObject* constant = nullptr;  // owned by the kernel
  std::vector<Node> items;
};

class PythonKernel final : public exec::Kernel {
 public:
  PythonKernel(const BoundSymbol& bsym, const exec::SlotOf& slot_of, PythonCall call)
      : callable_(call.callable), detached_(call.detached) {
    const HoldGil gil;
    result_ = make(bsym.output, slot_of);
    if (!callable_) throw python_error();
    if (call.checked) contract_.emplace(bsym, slot_of);
    if (call.positional) {
      for (const Arg& a : bsym.args) args_.push_back(make(a, slot_of));
      return;
    }
    if (bsym.symbol->info->schema.variadic) {
      for (const Arg& a : bsym.args[0].items()) args_.push_back(make(a, slot_of));
      const auto kw = bsym.args[1].items();
      for (size_t i = 0; i + 1 < kw.size(); i += 2) {
        kwargs_.emplace_back(std::string(kw[i].text()), make(kw[i + 1], slot_of));
      }
      return;
    }
    const auto& params = bsym.symbol->info->schema.params;
    bool by_name = false;
    for (size_t i = 0; i < params.size(); ++i) {
      const Param& p = params[i];
      const bool omitted = p.default_value && *p.default_value == bsym.args[i];
      by_name = by_name || p.keyword_only || omitted;
      if (omitted) continue;
      if (by_name) {
        kwargs_.emplace_back(p.name, make(bsym.args[i], slot_of));
      } else {
        args_.push_back(make(bsym.args[i], slot_of));
      }
    }
  }

  ~PythonKernel() override {
    if (!Py_IsInitialized()) return;
    const HoldGil gil;
    Py_XDECREF(callable_);
    for (PyObject* c : constants_) Py_DECREF(c);
  }

  void run(exec::Slot* slots) const override {
    const HoldGil gil;
    Owned args(checked(PyTuple_New(static_cast<Py_ssize_t>(args_.size()))));
    for (size_t i = 0; i < args_.size(); ++i) {
      PyTuple_SET_ITEM(args.get(), static_cast<Py_ssize_t>(i), load(args_[i], slots).release());
    }
    Owned kwargs;
    if (!kwargs_.empty()) {
      kwargs = Owned(checked(PyDict_New()));
      for (const auto& [name, node] : kwargs_) {
        const Owned value = load(node, slots);
        if (PyDict_SetItemString(kwargs.get(), name.c_str(), value.get()) < 0) throw python_error();
      }
    }
    std::vector<int64_t> versions;
    if (contract_) versions = contract_->before(slots);
    const Owned result(call(args.get(), kwargs.get()));
    if (!result.get()) {
      if (contract_) contract_->blame();
      python_error error;
      error.persist();
      throw std::move(error);
    }
    if (contract_) check_structure(result_, result.get());
    store(result_, result.get(), slots);
    if (contract_) contract_->check(slots, versions);
  }

 private:
  PyObject* call(PyObject* args, PyObject* kwargs) const {
    if (!detached_) return PyObject_Call(callable_, args, kwargs);
    const c10::AutoGradMode no_grad(false);
    return PyObject_Call(callable_, args, kwargs);
  }

  void check_structure(const Node& node, PyObject* value) const {
    if (node.kind == Arg::Kind::kProxy) {
      const bool good = THPVariable_Check(value) || PyBool_Check(value) || PyLong_Check(value) ||
                        PyFloat_Check(value) || PyComplex_Check(value);
      if (!good) contract_->refuse_structure(value, -1);
    } else if (node.kind == Arg::Kind::kTuple || node.kind == Arg::Kind::kList) {
      const auto n = static_cast<Py_ssize_t>(node.items.size());
      const bool good =
          (PyTuple_Check(value) || PyList_Check(value)) && PySequence_Size(value) == n;
      if (!good) contract_->refuse_structure(value, n);
    }
  }

  Node make(const Arg& a, const exec::SlotOf& slot_of) {
    Node node{a.kind(), 0, nullptr, {}};
    if (a.is_proxy()) {
      node.slot = slot_of(a.proxy());
    } else if (a.is_collection()) {
      for (const Arg& item : a.items()) node.items.push_back(make(item, slot_of));
    } else {
      node.constant = checked(constant_to_python(a));
      constants_.push_back(node.constant);
    }
    return node;
  }

  static Owned load(const Node& node, exec::Slot* slots) {
    switch (node.kind) {
      case Arg::Kind::kProxy: return Owned(checked(to_python(value_of(slots[node.slot]))));
      case Arg::Kind::kList:
      case Arg::Kind::kTuple: {
        const bool list = node.kind == Arg::Kind::kList;
        const auto n = static_cast<Py_ssize_t>(node.items.size());
        Owned seq(checked(list ? PyList_New(n) : PyTuple_New(n)));
        for (Py_ssize_t i = 0; i < n; ++i) {
          PyObject* item = load(node.items[i], slots).release();
          if (list) {
            PyList_SET_ITEM(seq.get(), i, item);
          } else {
            PyTuple_SET_ITEM(seq.get(), i, item);
          }
        }
        return seq;
      }
      case Arg::Kind::kSlice: {
        const Owned a = load(node.items[0], slots), b = load(node.items[1], slots),
                    c = load(node.items[2], slots);
        return Owned(checked(PySlice_New(a.get(), b.get(), c.get())));
      }
      case Arg::Kind::kDict: {
        Owned dict(checked(PyDict_New()));
        for (size_t i = 0; i + 1 < node.items.size(); i += 2) {
          const Owned key = load(node.items[i], slots), value = load(node.items[i + 1], slots);
          if (PyDict_SetItem(dict.get(), key.get(), value.get()) < 0) throw python_error();
        }
        return dict;
      }
      default: Py_INCREF(node.constant); return Owned(node.constant);
    }
  }

  // Constants of the result need no slot.
  static void store(const Node& node, PyObject* value, exec::Slot* slots) {
    switch (node.kind) {
      case Arg::Kind::kProxy: value_of(slots[node.slot]) = from_python(value); return;
      case Arg::Kind::kList:
      case Arg::Kind::kTuple: {
        const Owned seq(checked(PySequence_Fast(value, "the operator returned no sequence")));
        if (static_cast<size_t>(PySequence_Fast_GET_SIZE(seq.get())) != node.items.size()) {
          internal_error("an operator returned another number of values");
        }
        for (size_t i = 0; i < node.items.size(); ++i) {
          store(node.items[i], PySequence_Fast_GET_ITEM(seq.get(), static_cast<Py_ssize_t>(i)),
                slots);
        }
        return;
      }
      case Arg::Kind::kDict:
        for (size_t i = 0; i + 1 < node.items.size(); i += 2) {
          const Owned key = load(node.items[i], slots);
          const Owned item(checked(PyObject_GetItem(value, key.get())));
          store(node.items[i + 1], item.get(), slots);
        }
        return;
      default: return;
    }
  }

  PyObject* callable_ = nullptr;
  bool detached_ = false;
  std::optional<Contract> contract_;
  std::vector<Node> args_;
  std::vector<std::pair<std::string, Node>> kwargs_;
  std::vector<PyObject*> constants_;
  Node result_;
};

class PythonExecutor final : public exec::Executor {
 public:
  std::string_view name() const override { return "python"; }
  bool is_optional() const override { return false; }
  std::string refusal(const exec::Offer& offer) const override {
    const Symbol& s = *offer.bsym.symbol;
    if (&s == &del_last_used || implementation_of(s)) return {};
    // A region's name is no callable's.
    return s.info->torch_names.empty() || s.info->rules ? "no Python callable" : "";
  }
  std::unique_ptr<exec::Kernel> compile(
      const BoundSymbol& bsym, const exec::SlotOf& slot_of,
      const std::shared_ptr<const exec::Compilation>&) const override {
    return python_kernel(bsym, slot_of, {});
  }
};

}  // namespace

exec::ExecutorPtr python_executor() {
  static const auto executor = std::make_shared<const PythonExecutor>();
  return executor;
}

PyObject* implementation_of(const Symbol& symbol) {
  const auto* rules = dynamic_cast<const PythonRules*>(symbol.info->rules.get());
  return rules ? rules->implementation() : nullptr;
}

std::unique_ptr<exec::Kernel> python_kernel(const BoundSymbol& bsym, const exec::SlotOf& slot_of,
                                            PythonCall call) {
  if (!call.callable) {
    const HoldGil gil;
    if (implementation_of(*bsym.symbol)) {
      call.callable = static_cast<const PythonRules&>(*bsym.symbol->info->rules).instance();
      call.checked = true;
    } else {
      call.callable = resolve_torch_name(bsym.symbol->info->torch_names.at(0));
    }
  }
  return std::make_unique<PythonKernel>(bsym, slot_of, call);
}

PyObject* to_python(const c10::IValue& v) {
  if (v.isTensor()) return THPVariable_Wrap(v.toTensor());
  if (v.isNone()) Py_RETURN_NONE;
  if (v.isBool()) return PyBool_FromLong(v.toBool());
  if (v.isInt()) return PyLong_FromLongLong(v.toInt());
  if (v.isDouble()) return PyFloat_FromDouble(v.toDouble());
  if (v.isComplexDouble()) {
    const auto c = v.toComplexDouble();
    return PyComplex_FromDoubles(c.real(), c.imag());
  }
  PyErr_Format(PyExc_TypeError, "an operator returned a %s, which Fulmen can't pass on",
               v.tagKind().c_str());
  return nullptr;
}

c10::IValue from_python(PyObject* o) {
  if (THPVariable_Check(o)) return THPVariable_Unpack(o);
  if (o == Py_None) return {};
  if (PyBool_Check(o)) return o == Py_True;
  if (PyLong_Check(o)) {
    const long long v = PyLong_AsLongLong(o);
    if (v == -1 && PyErr_Occurred()) throw python_error();
    return static_cast<int64_t>(v);
  }
  if (PyFloat_Check(o)) return PyFloat_AS_DOUBLE(o);
  if (PyComplex_Check(o)) {
    return c10::complex<double>(PyComplex_RealAsDouble(o), PyComplex_ImagAsDouble(o));
  }
  PyErr_Format(PyExc_TypeError, "expected a tensor or a number, got a %s", Py_TYPE(o)->tp_name);
  throw python_error();
}

}  // namespace fulmen::bridge
