#include "interp/code.h"

#include <memory>

namespace fulmen::interp {

namespace {

#if FULMEN_PY_311
Py_ssize_t request_index(freefunc free) { return _PyEval_RequestCodeExtraIndex(free); }
int get_extra(PyObject* code, Py_ssize_t index, void** extra) {
  return _PyCode_GetExtra(code, index, extra);
}
int set_extra(PyObject* code, Py_ssize_t index, void* extra) {
  return _PyCode_SetExtra(code, index, extra);
}
#else
Py_ssize_t request_index(freefunc free) { return PyUnstable_Eval_RequestCodeExtraIndex(free); }
int get_extra(PyObject* code, Py_ssize_t index, void** extra) {
  return PyUnstable_Code_GetExtra(code, index, extra);
}
int set_extra(PyObject* code, Py_ssize_t index, void* extra) {
  return PyUnstable_Code_SetExtra(code, index, extra);
}
#endif

void free_code(void* code) { delete static_cast<Code*>(code); }

#ifdef FULMEN_INTERP_CHECKS
// Follows the stack effects through the code: every path to an instruction must agree on the depth.
void check_depths(Code& code) {
  code.depth_at.assign(code.insts.size() + 1, -1);
  std::vector<std::pair<uint32_t, int>> work{{0, 0}};
  for (const ExceptionRow& row : code.exceptions) {
    work.emplace_back(row.target, row.depth + 1 + row.push_unit);
  }
  while (!work.empty()) {
    auto [i, depth] = work.back();
    work.pop_back();
    for (;; i++) {
      if (i >= code.insts.size() || code.depth_at[i] == depth) break;
      if (code.depth_at[i] >= 0) {
        code.refusal = "INTERNAL: paths disagree on the stack depth";
        return;
      }
      code.depth_at[i] = depth;
      const Inst& inst = code.insts[i];
      if (inst.target >= 0 && inst.op != Op::kLOAD_GLOBAL) {
        const StackEffect jump = jump_effect(inst);
        work.emplace_back(inst.target, depth - jump.pops + jump.pushes);
      }
      const StackEffect effect = stack_effect(inst);
      depth += effect.pushes - effect.pops;
      if (depth < 0 || depth > code.object->co_stacksize) {
        code.refusal = "INTERNAL: an instruction's stack effect is wrong";
        return;
      }
      if (inst.op == Op::kRETURN_VALUE || inst.op == Op::kRETURN_CONST || inst.op == Op::kJUMP ||
          inst.op == Op::kJUMP_BACKWARD || inst.op == Op::kRAISE_VARARGS ||
          inst.op == Op::kRERAISE) {
        break;
      }
    }
  }
}
#endif

}  // namespace

Py_ssize_t code_extra_index = -1;

Code* make_decoded(PyCodeObject* code) {
  if (code_extra_index < 0) code_extra_index = request_index(free_code);
  const Py_ssize_t index = code_extra_index;
  auto* object = reinterpret_cast<PyObject*>(code);
  void* extra = nullptr;
  if (get_extra(object, index, &extra) < 0) return nullptr;
  if (extra) return static_cast<Code*>(extra);
  auto made = std::make_unique<Code>();
  if (!decode(code, *made)) return nullptr;
#ifdef FULMEN_INTERP_CHECKS
  if (!made->refusal) check_depths(*made);
#endif
  if (set_extra(object, index, made.get()) < 0) return nullptr;
  return made.release();
}

}  // namespace fulmen::interp
