#include <ATen/Context.h>
#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/autocast_mode.h>
#include <c10/core/DefaultDtype.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include "bridge/bridge.h"
#include "support/cat.h"

namespace fulmen::bridge {
namespace {

struct Field {
  const char* name;
  int width;
  uint64_t (*read)();
};

uint64_t autocast(c10::DeviceType device) {
  if (!at::autocast::is_autocast_enabled(device)) return 0;
  return 1 + static_cast<uint64_t>(at::autocast::get_autocast_dtype(device));
}

constexpr Field kFields[] = {
    {"grad mode", 1, [] { return uint64_t{c10::GradMode::is_enabled()}; }},
    {"inference mode", 1, [] { return uint64_t{c10::InferenceMode::is_enabled()}; }},
    {"autocast on CPU", 8, [] { return autocast(c10::DeviceType::CPU); }},
    {"autocast on CUDA", 8, [] { return autocast(c10::DeviceType::CUDA); }},
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

}  // namespace fulmen::bridge
