#include "interp/inst.h"

namespace fulmen::interp {

namespace {

struct OpInfo {
  const char* name;
  int8_t pops;
  int8_t pushes;
};
constexpr OpInfo kOps[] = {
#define OP(name, pops, pushes) {#name, pops, pushes},
#include "interp/ops.def"
#undef OP
};

int popped(const Inst& inst) {
  switch (inst.op) {
    case Op::kBUILD_TUPLE:
    case Op::kBUILD_LIST:
    case Op::kBUILD_SET:
    case Op::kBUILD_STRING:
    case Op::kBUILD_SLICE:
    case Op::kRAISE_VARARGS: return inst.arg;
    case Op::kBUILD_MAP: return 2 * inst.arg;
    case Op::kBUILD_CONST_KEY_MAP: return inst.arg + 1;
    case Op::kFORMAT_VALUE: return inst.arg & 4 ? 2 : 1;
    case Op::kCALL: return inst.arg + 2;
    case Op::kCALL_KW: return inst.arg + 3;
    case Op::kCALL_FUNCTION_EX: return 3 + (inst.arg & 1);
    case Op::kMAKE_FUNCTION:
      return 1 + (inst.arg & 1) + (inst.arg >> 1 & 1) + (inst.arg >> 2 & 1) + (inst.arg >> 3 & 1);
    default: return kOps[static_cast<int>(inst.op)].pops;
  }
}

int pushed(const Inst& inst) {
  switch (inst.op) {
    case Op::kUNPACK_SEQUENCE: return inst.arg;
    case Op::kUNPACK_EX: return (inst.arg & 0xff) + (inst.arg >> 8) + 1;
    case Op::kLOAD_GLOBAL: return inst.aux ? 2 : 1;
    case Op::kLOAD_SUPER_ATTR: return inst.aux & 1 ? 2 : 1;
    default: return kOps[static_cast<int>(inst.op)].pushes;
  }
}

}  // namespace

const char* op_name(Op op) { return kOps[static_cast<int>(op)].name; }

StackEffect stack_effect(const Inst& inst) { return {popped(inst), pushed(inst)}; }

StackEffect jump_effect(const Inst& inst) {
  switch (inst.op) {
    case Op::kJUMP_IF_TRUE_OR_POP:
    case Op::kJUMP_IF_FALSE_OR_POP: return {0, 0};
    case Op::kFOR_ITER: return {1, 0};
    case Op::kSEND:  // 3.11 drops the receiver here, later versions by END_SEND
      return {inst.aux ? 2 : 1, 1};
    default: return stack_effect(inst);
  }
}

}  // namespace fulmen::interp
