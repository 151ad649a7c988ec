#pragma once

#include <Python.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "exec/kernel.h"
#include "exec/program.h"
#include "ir/type.h"

// Everything that the rest of Fulmen knows of PyTorch, behind plain structs. The implementation is
// the only code that includes torch headers. Functions that take a PyObject need the GIL; a false
// or null result means that a Python error is set.
namespace fulmen::bridge {

bool is_tensor(PyObject* object);

// An instance of `type`, a subclass of torch.Tensor, around an undefined tensor.
PyObject* new_undefined_tensor(PyTypeObject* type);

struct TensorInfo {
  TensorType type;
  bool is_leaf = false;
  bool is_inference = false;
  bool plain = false;  // strided, no subclass or functorch wrapper, not conjugated or negated
  const void* storage = nullptr;  // identity of the storage; null if it has none
  int64_t storage_offset = 0;     // in elements
};
// Throws Unsupported for a tensor that TensorType can't describe (sparse, quantized, other
// devices).
TensorInfo read_tensor(PyObject* tensor);

// Checks that an argument is what the program was compiled for, in nanoseconds.
class InputCheck {
 public:
  virtual ~InputCheck() = default;
  // True if all fit. Otherwise, when `why` is given, it says which argument does not, and how.
  virtual bool accepts(PyObject* const* args, size_t n, std::string* why) const = 0;
};
// Inputs are tensors and numbers; numbers must have the given constant values (null: any).
std::unique_ptr<InputCheck> make_input_check(const Trace& trace,
                                             const std::vector<PyObject*>& number_values);

const exec::SlotOps& slot_ops();
// Runs a symbol's ATen operator through the dispatcher; no Python on the way.
const exec::Executor& aten_executor();
// Runs regions as generated kernels; see codegen/.
const exec::Executor& fusion_executor();
// Calls the symbol's torch callable from Python: opaque symbols, and rows without an ATen operator.
const exec::Executor& python_executor();
// Arithmetic with Python numbers.
const exec::Executor& number_executor();
// What whole-step programs ask of autograd.
const exec::Executor& grad_state_executor();
// All executors, in the order in which they are asked; the first one runs regions under autograd.
std::span<const exec::Executor* const> executors();

// Runs the program on positional arguments; new reference to its result, or null with a Python
// error set. A failing instruction's error gets the user's source line as a note; `failed_clean`
// then says whether nothing but results came of the instructions before it.
PyObject* call_program(const exec::Program& program, PyObject* const* args, size_t n,
                       bool* failed_clean = nullptr);

// The object behind a dotted name ("torch.nn.functional.linear"), of torch or another package; new
// reference or null.
PyObject* resolve_torch_name(std::string_view name);

// Arg → Python constant (no proxies): new reference. Needs init_constants.
PyObject* constant_to_python(const Arg& a);
// torch.dtype, torch.device, torch.layout, torch.memory_format objects → Arg; false if `object` is
// none of them.
bool torch_constant(PyObject* object, Arg* out);

// What of PyTorch's own state decides which program a call means: grad and inference mode,
// autocast, default dtype, deterministic algorithms, modes of torch functions, this thread's and
// the process's.
struct AmbientState {
  uint64_t bits = 0;
  bool operator==(const AmbientState&) const = default;
};
AmbientState ambient_state();
// What differs between the two, for a message.
std::string ambient_difference(AmbientState expected, AmbientState got);

// A scope in which neither modes nor subclasses see torch functions of this thread.
class NoTorchFunction {
 public:
  NoTorchFunction();
  ~NoTorchFunction();
  NoTorchFunction(const NoTorchFunction&) = delete;
  NoTorchFunction& operator=(const NoTorchFunction&) = delete;

 private:
  int outer_;
};

// A scope without the innermost mode of torch functions, as a mode's own handler has it.
class WithoutMode {
 public:
  WithoutMode();
  ~WithoutMode();
  WithoutMode(const WithoutMode&) = delete;
  WithoutMode& operator=(const WithoutMode&) = delete;

 private:
  std::shared_ptr<void> mode_;
};

bool grad_enabled();
void set_grad_enabled(bool enabled);
bool inference_mode();
// Sets the grad mode as well, as PyTorch's own guard does.
void set_inference_mode(bool enabled);
DType default_dtype();

struct Autocast {
  bool enabled = false;
  DType dtype = DType::kFloat32;  // also while it is disabled
  bool operator==(const Autocast&) const = default;
};
Autocast autocast(DeviceType device);
bool autocast_cache_enabled();

// The modes of this thread that a program may change.
class Modes {
 public:
  static Modes current();
  void restore_autograd() const;  // grad and inference mode
  void restore() const;           // and autocast
  bool same_autocast(const Modes& other) const;

 private:
  bool grad_ = true, inference_ = false;
  Autocast cpu_, cuda_;
  bool cache_ = true;
  int nesting_ = 0;  // of autocast regions
};

}  // namespace fulmen::bridge
