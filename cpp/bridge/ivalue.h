#pragma once

#include <ATen/core/ivalue.h>

#include "exec/kernel.h"

namespace fulmen::bridge {

static_assert(sizeof(c10::IValue) == sizeof(exec::Slot));

// A slot holds an IValue from its first write to its destruction; an empty slot is all zero bytes,
// which is the None IValue.
inline c10::IValue& value_of(exec::Slot& slot) { return reinterpret_cast<c10::IValue&>(slot); }

// The 0-d tensor as which PyTorch's Python passes a number: it promotes as a number does.
at::Tensor number_tensor(const c10::Scalar& number);

// A value that an instruction passes on: a constant, the content of a slot, the number in a slot as
// a tensor, or a list of these.
struct Operand {
  enum class Kind : uint8_t { kConstant, kSlot, kNumberTensor, kTensorList, kOptionalTensorList };
  Kind kind = Kind::kConstant;
  uint32_t slot = 0;
  c10::IValue constant;
  std::vector<Operand> items;

  c10::IValue load(exec::Slot* slots) const;
};

// Where results go: a slot, nothing, or one for each element of a sequence.
struct Target {
  enum class Kind : uint8_t { kNone, kSlot, kSequence };
  Kind kind = Kind::kNone;
  uint32_t slot = 0;
  std::vector<Target> items;

  void store(c10::IValue&& value, exec::Slot* slots) const;
};

Target make_target(const Arg& output, const exec::SlotOf& slot_of);

}  // namespace fulmen::bridge
