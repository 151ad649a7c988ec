#include "passes/inplace_lowering.h"

#include "ir/builder.h"
#include "passes/emit.h"

namespace fulmen::passes {
namespace {

// copy_(self, src): src itself, converted and expanded; a result that leaves the program is cloned
// by the pass. (aten.copy would clone self first, and has no derivative.)
Arg lower_copy(std::span<const Arg> args, Args& values) {
  const TensorProxy* self = args[0].tensor();
  const TensorProxy* src = args[1].tensor();
  if (!self || !src) throw Unsupported("copy_ of something that is no tensor");
  if (self->type.device != src->type.device) throw Unsupported("copy_ between devices");
  if (src->type.dtype != self->type.dtype) src = cast_to(src, self->type.dtype);
  if (!(src->type.shape == self->type.shape)) {
    Args size;
    for (const Dim d : self->type.shape) size.push_back(Arg(d));
    src = emit("expand", {src, Builder::current().ctx().make_collection(Arg::Kind::kList, size)})
              .tensor();
  }
  if (self->type.requires_grad && Builder::current().grad_enabled) {
    // What was overwritten gets a gradient of zeros, not none.
    if (self->type.ndim() == 0) throw Unsupported("copy_ over a number that requires grad");
    src = emit("slice_scatter", {self, src, Arg(0), Arg(0), Arg(self->type.shape[0]), Arg(1)})
              .tensor();
  }
  values.push_back(src);
  return {};
}

// The running statistics are results of the functional form, which takes weight and bias first.
Arg lower_batch_norm(std::span<const Arg> args, Args& values) {
  const Arg out = emit("_native_batch_norm_legit_functional",
                       {args[0], args[3], args[4], args[1], args[2], args[5], args[6], args[7]});
  values.push_back(out.items()[3]);
  values.push_back(out.items()[4]);
  return out.items()[0];
}

constexpr InplaceLowering kLowerings[] = {
    {"copy_", lower_copy},
    {"batch_norm.training", lower_batch_norm, true},
};

}  // namespace

const InplaceLowering* find_inplace_lowering(std::string_view symbol) {
  for (const InplaceLowering& l : kLowerings) {
    if (l.symbol == symbol) return &l;
  }
  return nullptr;
}

const TensorProxy* cast_to(const TensorProxy* value, DType dtype) {
  static constexpr std::string_view kRows[] = {"to.dtype", "to", "_to_copy"};
  for (const auto name : kRows) {
    if (!find_row(name)) continue;
    const Kwarg kwarg{"dtype", Arg(dtype)};
    return emit(name, {value}, Kwargs{kwarg}).tensor();
  }
  throw Unsupported("there is no row that converts to another dtype");
}

}  // namespace fulmen::passes
