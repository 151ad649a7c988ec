#pragma once

#include <Python.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

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
exec::ExecutorPtr aten_executor();
// Multiplies matrices of the shapes and dtypes for which its loops are faster than ATen's.
exec::ExecutorPtr products_executor();
// For PassContext::fuses_loss.
bool (*fuses_loss_for(const exec::Compilation& compilation))(const TensorType& input,
                                                             const TensorType& scores);
// Runs operators of torch.ops that are no rows through the dispatcher.
exec::ExecutorPtr custom_op_executor();
// Runs regions as generated kernels; see codegen/. It makes them, or only runs those that are made.
exec::ExecutorPtr fusion_executor(bool makes_regions);
// Calls the symbol's torch callable from Python: opaque symbols, rows without an ATen operator, and
// operators of the user's.
exec::ExecutorPtr python_executor();
// Arithmetic with Python numbers.
exec::ExecutorPtr number_executor();
// What whole-step programs ask of autograd.
exec::ExecutorPtr grad_state_executor();
// Runs regions under autograd.
exec::ExecutorPtr autograd_executor();
// The kernels of a plug-in, a shared library; see exec/plugin.h. Throws UserError "plugin" where it
// can't be loaded.
exec::ExecutorPtr load_plugin(const std::string& path);
// The chosen executors, between those that every program has.
std::shared_ptr<const exec::Compilation> make_compilation(
    std::vector<exec::ExecutorPtr> chosen = {}, std::shared_ptr<Fuel> fuel = nullptr);

// What a kernel written in Python is called with, and what is done with its result.
struct PythonCall {
  PyObject* callable = nullptr;  // taken over; null: the symbol's own
  bool checked = false;          // see Contract
  bool positional = false;       // all arguments by position, defaults too
  bool detached = false;         // called in no_grad mode
};
std::unique_ptr<exec::Kernel> python_kernel(const BoundSymbol& bsym, const exec::SlotOf& slot_of,
                                            PythonCall call);
// Rules of a symbol that has an implementation in Python.
struct PythonRules : SymbolRules {
  virtual PyObject* implementation() const = 0;  // borrowed; null: none
  // What one use in a program calls: a new reference. One with a state is made for each use.
  virtual PyObject* instance() const { return Py_XNewRef(implementation()); }
};
PyObject* implementation_of(const Symbol& symbol);  // borrowed; null: it has none

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
