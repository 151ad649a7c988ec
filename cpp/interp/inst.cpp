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
    case Op::BUILD_TUPLE:
    case Op::BUILD_LIST:
    case Op::BUILD_SET:
    case Op::BUILD_STRING:
    case Op::BUILD_SLICE:
    case Op::RAISE_VARARGS:
      return inst.arg;
    case Op::BUILD_MAP:
      return 2 * inst.arg;
    case Op::BUILD_CONST_KEY_MAP:
      return inst.arg + 1;
    case Op::FORMAT_VALUE:
      return inst.arg & 4 ? 2 : 1;
    case Op::CALL:
      return inst.arg + 2;
    case Op::CALL_KW:
      return inst.arg + 3;
    case Op::CALL_FUNCTION_EX:
      return 3 + (inst.arg & 1);
    case Op::MAKE_FUNCTION:
      return 1 + (inst.arg & 1) + (inst.arg >> 1 & 1) + (inst.arg >> 2 & 1) + (inst.arg >> 3 & 1);
    default:
      return kOps[static_cast<int>(inst.op)].pops;
  }
}

int pushed(const Inst& inst) {
  switch (inst.op) {
    case Op::UNPACK_SEQUENCE:
      return inst.arg;
    case Op::UNPACK_EX:
      return (inst.arg & 0xff) + (inst.arg >> 8) + 1;
    case Op::LOAD_SUPER_ATTR:
      return inst.aux & 1 ? 2 : 1;
    default:
      return kOps[static_cast<int>(inst.op)].pushes;
  }
}

}  // namespace

const char* op_name(Op op) { return kOps[static_cast<int>(op)].name; }

StackEffect stack_effect(const Inst& inst) { return {popped(inst), pushed(inst)}; }

StackEffect jump_effect(const Inst& inst) {
  switch (inst.op) {
    case Op::JUMP_IF_TRUE_OR_POP:
    case Op::JUMP_IF_FALSE_OR_POP:
      return {0, 0};
    case Op::FOR_ITER:
      return {1, 0};
    case Op::SEND:  // 3.11 drops the receiver here, later versions by END_SEND
      return {inst.aux ? 2 : 1, 1};
    default:
      return stack_effect(inst);
  }
}

}  // namespace fulmen::interp
