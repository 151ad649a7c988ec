#include "bridge/ivalue.h"

#include <ATen/ScalarOps.h>
#include <ATen/core/Tensor.h>

#include "bridge/bridge.h"
#include "ir/proxy.h"
#include "support/error.h"

namespace fulmen::bridge {

at::Tensor number_tensor(const c10::Scalar& number) {
  at::Tensor t = at::detail::scalar_tensor_static(number, number.type(), c10::kCPU);
  t.unsafeGetTensorImpl()->set_wrapped_number(true);
  return t;
}

c10::IValue Operand::load(exec::Slot* slots) const {
  switch (kind) {
    case Kind::kConstant: return constant;
    case Kind::kSlot: return value_of(slots[slot]);
    case Kind::kNumberTensor: return number_tensor(value_of(slots[slot]).toScalar());
    case Kind::kTensorList: {
      c10::List<at::Tensor> list;
      list.reserve(items.size());
      for (const Operand& item : items) list.push_back(item.load(slots).toTensor());
      return list;
    }
    case Kind::kOptionalTensorList: {
      c10::List<std::optional<at::Tensor>> list;
      list.reserve(items.size());
      for (const Operand& item : items) {
        c10::IValue v = item.load(slots);
        list.push_back(v.isNone() ? std::optional<at::Tensor>() : v.toTensor());
      }
      return list;
    }
  }
  internal_error("unknown operand kind");
}

void Target::store(c10::IValue&& value, exec::Slot* slots) const {
  switch (kind) {
    case Kind::kNone: return;
    case Kind::kSlot: value_of(slots[slot]) = std::move(value); return;
    case Kind::kSequence: {
      if (value.isTensorList()) {
        const c10::List<at::Tensor> list = std::move(value).toTensorList();
        if (list.size() != items.size())
          internal_error("an operator returned another number of tensors");
        for (size_t i = 0; i < items.size(); ++i) items[i].store(c10::IValue(list.get(i)), slots);
      } else {
        const auto elements =
            value.isTuple() ? value.toTupleRef().elements().vec() : value.toList().vec();
        if (elements.size() != items.size())
          internal_error("an operator returned another number of values");
        for (size_t i = 0; i < items.size(); ++i) items[i].store(c10::IValue(elements[i]), slots);
      }
      return;
    }
  }
}

Target make_target(const Arg& output, const exec::SlotOf& slot_of) {
  Target t;
  if (output.is_proxy()) {
    t.kind = Target::Kind::kSlot;
    t.slot = slot_of(output.proxy());
  } else if (output.is_sequence()) {
    t.kind = Target::Kind::kSequence;
    for (const Arg& item : output.items()) t.items.push_back(make_target(item, slot_of));
  }
  // Anything else is a constant of the trace, which needs no slot.
  return t;
}

const exec::SlotOps& slot_ops() {
  static constexpr exec::SlotOps ops{[](exec::Slot* slot) { value_of(*slot) = c10::IValue(); }};
  return ops;
}

}  // namespace fulmen::bridge
