// Canonical instructions: what the decoder makes of any supported Python's bytecode.
#pragma once
#include <cstdint>

namespace fulmen::interp {

enum class Op : uint16_t {
#define OP(name, pops, pushes) k##name,
#include "interp/ops.def"
#undef OP
};

inline constexpr int kVaries = -1;
inline constexpr int kOpCount = 0
#define OP(name, pops, pushes) +1
#include "interp/ops.def"
#undef OP
    ;

struct Inst {
  Op op;
  uint16_t aux;
  int32_t arg;
  int32_t target;  // index of the instruction that a jump goes to; LOAD_GLOBAL: of its cache; or -1
  uint32_t unit;   // code unit in the original bytecode, for lines and for suspended frames
};
static_assert(sizeof(Inst) == 16);

const char* op_name(Op op);

struct StackEffect {
  int pops;
  int pushes;
};
// What `inst` takes from and leaves on the value stack when control goes to the next instruction.
StackEffect stack_effect(const Inst& inst);
// The same when control goes to `inst.target`.
StackEffect jump_effect(const Inst& inst);

}  // namespace fulmen::interp
