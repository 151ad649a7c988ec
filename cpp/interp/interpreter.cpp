#include "interp/interpreter.h"

#include <pthread.h>

#include <vector>

#include "interp/intercept.h"
#include "interp/lookaside.h"
#include "interp/protocol.h"
#include "interp/slots.h"
#include "interp/unwind.h"
#include "py/names.h"

namespace fulmen::interp {

namespace {

thread_local Context* running_context = nullptr;

// What native code may still need below an interpreted frame.
constexpr size_t kReserve = 2 << 20;

struct StackEnd {
  const char* limit = nullptr;
  size_t reserve = 0;
};

StackEnd find_stack_end() {
  pthread_attr_t attributes;
  void* base = nullptr;
  size_t size = 0;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return {};
  pthread_attr_getstack(&attributes, &base, &size);
  pthread_attr_destroy(&attributes);
  const size_t reserve = size >= 4 * kReserve ? kReserve : size / 4;
  return {static_cast<const char*>(base) + reserve, reserve};
}

const StackEnd& stack_end() {
  thread_local const StackEnd end = find_stack_end();
  return end;
}

}  // namespace

Context* current_context() { return running_context; }

bool init() {
  static bool ready = false;  // under the GIL
  if (ready) return true;
  ready =
      py::names::init() && py::check_layout() && init_slots() && init_tick() && init_lookasides();
  return ready;
}

Session::Session(Hooks* hooks, bool intercept) {
  context_.thread = PyThreadState_Get();
  context_.hooks = hooks;
  context_.outer = running_context;
  context_.stack_limit = stack_end().limit;
  context_.stack_reserve = stack_end().reserve;
  running_context = &context_;
  frame_ = Frame{};
  frame_.context = &context_;
  frame_.hooks = hooks;
  context_.root = &frame_;
  context_.intercepts = intercept;
  if (intercept) begin_intercepting();
}

Session::~Session() {
  if (context_.intercepts) end_intercepting();
  running_context = context_.outer;
}

PyObject* interpret(PyObject* callee, PyObject* const* args, Py_ssize_t count, PyObject* names,
                    bool intercept, Counters* counters) {
  if (!init()) return nullptr;
  Session session(nullptr, intercept);
  const Py_ssize_t total = count + (names ? PyTuple_GET_SIZE(names) : 0);
  std::vector<PyObject*> objects(total + 1);
  for (Py_ssize_t i = 0; i < total; i++) objects[i + 1] = args[i];
  Val result;
  const bool ok = call(session.frame(), {callee, nullptr},
                       Args{objects.data() + 1, nullptr, count, names, true}, &result);
  if (counters) *counters = session.counters();
  return ok ? result.o : nullptr;
}

}  // namespace fulmen::interp
