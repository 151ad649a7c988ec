#include <ATen/Context.h>
#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/autocast_mode.h>
#include <c10/core/AutogradState.h>
#include <c10/core/DefaultDtype.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include "bridge/bridge.h"
#include "bridge/scalar_type.h"
#include "support/cat.h"

namespace fulmen::bridge {
namespace {

struct Field {
  const char* name;
  int width;
  uint64_t (*read)();
};

c10::DeviceType c10_type(DeviceType device) {
  return device == DeviceType::kCUDA ? c10::DeviceType::CUDA : c10::DeviceType::CPU;
}

uint64_t autocast_bits(c10::DeviceType device) {
  return uint64_t{at::autocast::is_autocast_enabled(device)} |
         static_cast<uint64_t>(at::autocast::get_autocast_dtype(device)) << 1;
}

void set_autocast(c10::DeviceType device, Autocast state) {
  at::autocast::set_autocast_enabled(device, state.enabled);
  at::autocast::set_autocast_dtype(device, to_scalar_type(state.dtype));
}

constexpr Field kFields[] = {
    {"grad mode", 1, [] { return uint64_t{c10::GradMode::is_enabled()}; }},
    {"inference mode", 1, [] { return uint64_t{c10::InferenceMode::is_enabled()}; }},
    {"autocast on CPU", 8, [] { return autocast_bits(c10::DeviceType::CPU); }},
    {"autocast on CUDA", 8, [] { return autocast_bits(c10::DeviceType::CUDA); }},
    {"the cache of autocast", 1,
     [] { return uint64_t{at::autocast::is_autocast_cache_enabled()}; }},
    {"default dtype", 8,
     [] { return static_cast<uint64_t>(c10::get_default_dtype_as_scalartype()); }},
    {"deterministic algorithms", 2,
     [] {
       return uint64_t{at::globalContext().deterministicAlgorithms()} |
              uint64_t{at::globalContext().deterministicAlgorithmsWarnOnly()} << 1;
     }},
    {"the stack of torch function modes", 8,
     [] { return static_cast<uint64_t>(at::impl::PythonTorchFunctionTLS::stack_len()); }},
};

}  // namespace

AmbientState ambient_state() {
  AmbientState state;
  int shift = 0;
  for (const Field& f : kFields) {
    state.bits |= f.read() << shift;
    shift += f.width;
  }
  return state;
}

std::string ambient_difference(AmbientState expected, AmbientState got) {
  int shift = 0;
  for (const Field& f : kFields) {
    const uint64_t mask = (uint64_t{1} << f.width) - 1;
    const uint64_t a = expected.bits >> shift & mask, b = got.bits >> shift & mask;
    if (a != b) return cat(f.name, " changed");
    shift += f.width;
  }
  return "PyTorch's state changed";
}

NoTorchFunction::NoTorchFunction()
    : outer_(static_cast<int>(at::impl::PythonTorchFunctionTLS::get_disabled_state())) {
  at::impl::PythonTorchFunctionTLS::set_disabled_state(
      at::impl::TorchFunctionDisabledState::ALL_DISABLED);
}

NoTorchFunction::~NoTorchFunction() {
  at::impl::PythonTorchFunctionTLS::set_disabled_state(
      static_cast<at::impl::TorchFunctionDisabledState>(outer_));
}

WithoutMode::WithoutMode() {
  if (at::impl::PythonTorchFunctionTLS::stack_len() > 0)
    mode_ = std::const_pointer_cast<c10::SafePyObject>(
        std::shared_ptr<const c10::SafePyObject>(at::impl::PythonTorchFunctionTLS::pop_stack()));
}

WithoutMode::~WithoutMode() {
  if (mode_) {
    at::impl::PythonTorchFunctionTLS::push_onto_stack(
        std::static_pointer_cast<c10::SafePyObject>(mode_));
  }
}

bool grad_enabled() { return c10::GradMode::is_enabled(); }
void set_grad_enabled(bool enabled) { c10::GradMode::set_enabled(enabled); }
bool inference_mode() { return c10::InferenceMode::is_enabled(); }

void set_inference_mode(bool enabled) {
  // What excluded autograd before inference mode did: it stays excluded afterwards.
  thread_local c10::DispatchKeySet outside;
  const bool was_enabled = inference_mode();
  c10::AutogradState state = c10::AutogradState::get_tls_state();
  state.set_grad_mode(!enabled);
  state.set_inference_mode(enabled);
  state.set_fw_grad_mode(!enabled);
  state.set_multithreading_enabled(!enabled);
  c10::AutogradState::set_tls_state(state);
  if (enabled == was_enabled) return;
  const c10::impl::LocalDispatchKeySet keys = c10::impl::tls_local_dispatch_key_set();
  c10::impl::PODLocalDispatchKeySet changed{};
  if (enabled) {
    outside = keys.excluded_ & c10::autograd_dispatch_keyset;
    changed.set_included(keys.included_.remove(c10::DispatchKey::ADInplaceOrView));
    changed.set_excluded(keys.excluded_ | c10::autograd_dispatch_keyset);
  } else {
    changed.set_included(keys.included_.add(c10::DispatchKey::ADInplaceOrView));
    changed.set_excluded((keys.excluded_ - c10::autograd_dispatch_keyset) | outside);
    outside = {};
  }
  c10::impl::_force_tls_local_dispatch_key_set(changed);
}

DType default_dtype() {
  return from_scalar_type(c10::get_default_dtype_as_scalartype()).value_or(DType::kFloat32);
}

Autocast autocast(DeviceType device) {
  const c10::DeviceType type = c10_type(device);
  return {at::autocast::is_autocast_enabled(type),
          from_scalar_type(at::autocast::get_autocast_dtype(type)).value_or(DType::kFloat32)};
}

bool autocast_cache_enabled() { return at::autocast::is_autocast_cache_enabled(); }

Modes Modes::current() {
  Modes m;
  m.grad_ = grad_enabled();
  m.inference_ = bridge::inference_mode();
  m.cpu_ = autocast(DeviceType::kCPU);
  m.cuda_ = autocast(DeviceType::kCUDA);
  m.cache_ = autocast_cache_enabled();
  at::autocast::increment_nesting();
  m.nesting_ = at::autocast::decrement_nesting();
  return m;
}

void Modes::restore_autograd() const {
  if (bridge::inference_mode() != inference_) set_inference_mode(inference_);
  set_grad_enabled(grad_);
}

void Modes::restore() const {
  restore_autograd();
  const Modes now = current();
  if (same_autocast(now)) return;
  set_autocast(c10::DeviceType::CPU, cpu_);
  set_autocast(c10::DeviceType::CUDA, cuda_);
  at::autocast::set_autocast_cache_enabled(cache_);
  for (int i = now.nesting_; i < nesting_; ++i) at::autocast::increment_nesting();
  for (int i = now.nesting_; i > nesting_; --i) at::autocast::decrement_nesting();
  if (nesting_ == 0) at::autocast::clear_cache();
}

bool Modes::same_autocast(const Modes& other) const {
  return cpu_ == other.cpu_ && cuda_ == other.cuda_ && cache_ == other.cache_ &&
         nesting_ == other.nesting_;
}

}  // namespace fulmen::bridge
