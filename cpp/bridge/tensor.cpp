#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/autograd/variable.h>

#include "bridge/alias_check.h"
#include "bridge/bridge.h"
#include "bridge/gil.h"
#include "bridge/scalar_type.h"
#include "ir/proxy.h"
#include "support/error.h"

namespace fulmen::bridge {
namespace {

Device device_of(c10::Device d) {
  switch (d.type()) {
    case c10::DeviceType::CPU: return {};
    case c10::DeviceType::CUDA: return {DeviceType::kCUDA, static_cast<int8_t>(d.index())};
    case c10::DeviceType::Meta: return {DeviceType::kMeta, -1};
    default: throw Unsupported(cat("tensors on device ", d.str()));
  }
}

// TensorImpl::autograd_meta() without its call, which lies in another library: an explicit
// instantiation may name a private member.
template <auto kMember>
struct Expose {
  friend const c10::AutogradMetaInterface* autograd_meta(const c10::TensorImpl& impl) {
    return (impl.*kMember).get();
  }
};
const c10::AutogradMetaInterface* autograd_meta(const c10::TensorImpl& impl);
template struct Expose<&c10::TensorImpl::autograd_meta_>;

constexpr c10::DispatchKeySet kNotPlain({c10::DispatchKey::Python,
                                         c10::DispatchKey::FuncTorchGradWrapper,
                                         c10::DispatchKey::FuncTorchBatched,
                                         c10::DispatchKey::Functionalize,
                                         c10::DispatchKey::Conjugate, c10::DispatchKey::Negative});

bool is_plain(const at::Tensor& t) {
  return t.layout() == c10::kStrided && !t.key_set().has_any(kNotPlain) && !t.is_quantized();
}

// The metadata of all inputs in one stream of words, in the order in which they are looked at: for
// each tensor its dispatch keys as last seen, the rest of what fits into a word, sizes, strides.
class TensorChecks {
 public:
  void add(const TensorType& type, bool is_inference) {
    const auto first = static_cast<uint32_t>(words_.size());
    starts_.push_back(first);
    inference_.push_back(is_inference);
    words_.push_back(0);
    words_.push_back(traits(to_scalar_type(type.dtype), to_c10(type.device), type.requires_grad,
                            type.shape.size()));
    for (const Dim d : type.shape) words_.push_back(d.value());
    for (const Dim d : type.strides) words_.push_back(d.value());
  }
  void add_nothing() {
    starts_.push_back(static_cast<uint32_t>(words_.size()));
    inference_.push_back(false);
  }

  bool accepts(size_t i, const c10::TensorImpl* impl) const {
    int64_t* w = words_.data() + starts_[i];
    const auto keys = static_cast<int64_t>(impl->key_set().raw_repr());
    if (w[0] != keys) {
      // Every tensor that comes by has the keys of the one before, mostly.
      if (impl->key_set().has_any(kNotPlain) || impl->layout() != c10::kStrided) return false;
      if (is_inference(impl) != inference_[i]) return false;
      w[0] = keys;
    }
    const c10::IntArrayRef sizes = impl->sizes(), strides = impl->strides();
    const size_t n = sizes.size();
    if (w[1] !=
        traits(c10::typeMetaToScalarType(impl->dtype()), impl->device(), needs_grad(impl), n))
      return false;
    const int64_t *expected_sizes = w + 2, *expected_strides = w + 2 + n;
    for (size_t d = 0; d < n; ++d) {
      if (sizes[d] != expected_sizes[d] || strides[d] != expected_strides[d]) return false;
    }
    return true;
  }

 private:
  // TensorImpl::is_inference: a question of its keys alone.
  static bool is_inference(const c10::TensorImpl* impl) {
    return !impl->key_set().has_any(c10::inplace_or_view_ks | c10::autograd_dispatch_keyset);
  }
  static int64_t traits(c10::ScalarType dtype, c10::Device device, bool requires_grad, size_t n) {
    return static_cast<int64_t>(dtype) | static_cast<int64_t>(device.type()) << 8 |
           static_cast<int64_t>(static_cast<uint8_t>(device.index())) << 16 |
           static_cast<int64_t>(requires_grad) << 24 | static_cast<int64_t>(n) << 32;
  }
  // TensorImpl::requires_grad, whose virtual call only a view needs.
  static bool needs_grad(const c10::TensorImpl* impl) {
    const auto* meta = static_cast<const torch::autograd::AutogradMeta*>(autograd_meta(*impl));
    if (!meta) return false;
    return meta->requires_grad_ || meta->grad_fn_ || (meta->is_view_ && meta->requires_grad());
  }

  mutable std::vector<int64_t> words_;  // under the GIL
  std::vector<uint32_t> starts_;
  std::vector<bool> inference_;
};

bool fits_ivalue(PyObject* number) {
  if (!PyLong_Check(number)) return true;
  int overflow = 0;
  const long long v = PyLong_AsLongLongAndOverflow(number, &overflow);
  return !overflow && !(v == -1 && PyErr_Occurred());
}

void prefetch(const c10::TensorImpl* impl) {
  for (size_t line = 0; line < sizeof(c10::TensorImpl); line += 64)
    __builtin_prefetch(reinterpret_cast<const char*>(impl) + line);
}
void prefetch_autograd(const c10::TensorImpl* impl) {
  const auto* meta = static_cast<const torch::autograd::AutogradMeta*>(autograd_meta(*impl));
  if (meta) __builtin_prefetch(&meta->requires_grad_);
}

class TraceInputCheck final : public InputCheck {
 public:
  TraceInputCheck(const Trace& trace, const std::vector<PyObject*>& values) : aliases_(trace) {
    for (size_t i = 0; i < trace.inputs.size(); ++i) {
      const Proxy* p = trace.inputs[i];
      names_.emplace_back(p->name);
      if (const TensorProxy* t = as_tensor(p)) {
        checks_.add(t->type, t->is_inference);
        kinds_.push_back(nullptr);
        types_.emplace_back();
        append(types_.back(), t->type);
        if (t->is_inference) append(types_.back(), " inference");
      } else {
        checks_.add_nothing();
        PyObject* v = i < values.size() && values[i] ? values[i] : Py_None;
        Py_INCREF(v);
        kinds_.push_back(v);
        types_.emplace_back("a number");
      }
    }
  }
  ~TraceInputCheck() override {
    if (!Py_IsInitialized()) return;
    const HoldGil gil;
    for (PyObject* v : kinds_) Py_XDECREF(v);
  }

  bool accepts(PyObject* const* args, size_t n, std::string* why) const override {
    if (n != kinds_.size()) {
      if (why) *why = cat("got ", n, " arguments; expected ", kinds_.size());
      return false;
    }
    // What the tensors hold lies far apart; most of them are of one class.
    constexpr size_t kAhead = 8, kNear = 4;
    PyTypeObject* type = nullptr;
    const auto impl_of = [&](size_t i) -> const c10::TensorImpl* {
      return i < n && Py_TYPE(args[i]) == type ? THPVariable_Unpack(args[i]).unsafeGetTensorImpl()
                                               : nullptr;
    };
    for (size_t i = 0; i < n; ++i) {
      if (const auto* far = impl_of(i + kAhead)) prefetch(far);
      if (const auto* near = impl_of(i + kNear)) prefetch_autograd(near);
      if (kinds_[i]) {
        if (kinds_[i] == Py_None) {
          if (fits_ivalue(args[i])) continue;
          if (why) *why = cat("argument '", names_[i], "' is an integer beyond 64 bits");
          return false;
        }
        const int same = PyObject_RichCompareBool(args[i], kinds_[i], Py_EQ);
        if (same == 1) continue;
        PyErr_Clear();
        if (why) *why = cat("argument '", names_[i], "' has another value than at compilation");
        return false;
      }
      if (Py_TYPE(args[i]) == type) {
        // is known to be one of tensors
      } else if (THPVariable_Check(args[i])) {
        type = Py_TYPE(args[i]);
      } else {
        if (why)
          *why = cat("argument '", names_[i], "': got an object of type ",
                     Py_TYPE(args[i])->tp_name, "; expected a tensor ", types_[i]);
        return false;
      }
      const at::Tensor& t = THPVariable_Unpack(args[i]);
      if (checks_.accepts(i, t.unsafeGetTensorImpl())) continue;
      if (why) {
        std::string got;
        try {
          append(got, read_tensor(args[i]).type);
          if (t.is_inference()) append(got, " inference");
        } catch (const Unsupported& e) {
          got = e.what();
        }
        *why = cat("argument '", names_[i], "': got ", got, "; expected ", types_[i]);
      }
      return false;
    }
    if (aliases_.trivial()) return true;
    std::vector<const void*> storages(n);
    for (size_t i = 0; i < n; ++i) {
      if (kinds_[i]) continue;
      const at::Tensor& t = THPVariable_Unpack(args[i]);
      if (t.has_storage()) storages[i] = t.storage().unsafeGetStorageImpl();
    }
    if (aliases_.accepts(storages)) return true;
    if (why) *why = "inputs share storage in another way than at compilation";
    return false;
  }

 private:
  AliasCheck aliases_;
  TensorChecks checks_;
  std::vector<PyObject*> kinds_;  // null for a tensor, else the number's value (None: any)
  std::vector<std::string> names_, types_;
};

}  // namespace

c10::Device to_c10(Device d) {
  switch (d.type) {
    case DeviceType::kCPU: return c10::Device(c10::kCPU);
    case DeviceType::kCUDA: return c10::Device(c10::kCUDA, d.index);
    case DeviceType::kMeta: return c10::Device(c10::kMeta);
  }
  internal_error("unknown device");
}

PyObject* new_undefined_tensor(PyTypeObject* type) {
  PyObject* o = type->tp_alloc(type, 0);
  if (o) new (&reinterpret_cast<THPVariable*>(o)->cdata) at::Tensor();
  return o;
}

bool is_tensor(PyObject* object) { return THPVariable_Check(object); }

TensorInfo read_tensor(PyObject* object) {
  const at::Tensor& t = THPVariable_Unpack(object);
  if (t.layout() != c10::kStrided) throw Unsupported("a tensor that is not strided");
  if (t.is_quantized()) throw Unsupported("a quantized tensor");
  const auto dtype = from_scalar_type(t.scalar_type());
  if (!dtype) throw Unsupported(cat("dtype ", c10::toString(t.scalar_type())));
  if (t.unsafeGetTensorImpl()->has_symbolic_sizes_strides()) throw Unsupported("symbolic sizes");
  TensorInfo info;
  info.type.dtype = *dtype;
  info.type.device = device_of(t.device());
  info.type.requires_grad = t.requires_grad();
  for (const int64_t v : t.sizes()) info.type.shape.push_back(v);
  for (const int64_t v : t.strides()) info.type.strides.push_back(v);
  info.is_leaf = t.is_leaf();
  info.is_inference = t.is_inference();
  info.plain = is_plain(t);
  if (t.has_storage()) info.storage = t.storage().unsafeGetStorageImpl();
  info.storage_offset = t.storage_offset();
  return info;
}

std::unique_ptr<InputCheck> make_input_check(const Trace& trace,
                                             const std::vector<PyObject*>& number_values) {
  return std::make_unique<TraceInputCheck>(trace, number_values);
}

}  // namespace fulmen::bridge
