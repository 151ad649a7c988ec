#include "ops/conversion.h"

#include "ops/families.h"
#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

// Tensor.to(): the tensor itself when nothing changes and no copy is asked for.
Arg moved(Call& in, std::optional<DType> dtype, std::optional<Device> device, bool copy,
          const Arg& memory_format) {
  const TensorType& t = in.type("input");
  TensorType out = t;
  out.dtype = dtype.value_or(t.dtype);
  out.device = device.value_or(t.device);
  if (out.device.type == DeviceType::kCUDA && out.device.index < 0) {
    in.unsupported("a CUDA device without index");
  }
  const bool preserves = memory_format.is_none() || memory_format.text() == "preserve_format";
  const std::string_view suggested = !meta::suggests_channels_last(t) ? "contiguous_format"
                                     : t.ndim() == 4                  ? "channels_last"
                                                                      : "channels_last_3d";
  if (!copy && out.dtype == t.dtype && out.device == t.device &&
      (preserves || memory_format.text() == suggested)) {
    return in["input"];
  }
  out.strides = meta::format_strides(in, t, memory_format);
  return in.make(out);
}

// The same conversion as a call of to.dtype.
Arg as_to_dtype(Call& in, DType dtype, const Arg& memory_format) {
  const Arg args[] = {in["input"], Arg(dtype), Arg(false), Arg(false), memory_format};
  return in.builder().call(to_dtype, args);
}

Arg as_to_device(Call& in, Device device, const Arg& non_blocking) {
  const Arg args[] = {in["input"],  Arg(device), Arg(),
                      non_blocking, Arg(false),  in["memory_format"]};
  return in.builder().call(to_device, args);
}

Args convert_vjp(Call& in, const Arg&, const Arg& grad) {
  const TensorType& t = in.type("input");
  const Arg own = converted(real_if(t, grad), t.dtype);
  return grads(in, {own.tensor()->type.device == t.device ? own : to_device(own, t.device)});
}

Device cuda_device(Call& in) {
  const auto device = in.device("device");
  if (!device || device->type != DeviceType::kCUDA) in.unsupported("the current CUDA device");
  return *device;
}

}  // namespace

constinit const Symbol to_dtype{
    .schema =
        "to.dtype(Tensor input, dtype dtype, bool non_blocking=False, bool copy=False, *, "
        "memory_format? memory_format=None) -> Tensor",
    .torch = "torch.Tensor.to",
    .tags = kPure,
    .meta =
        [](Call& in) {
          return moved(in, in.dtype("dtype"), {}, in.flag("copy"), in["memory_format"]);
        },
    .vjp = convert_vjp,
};
constinit const Symbol to_other{
    .schema =
        "to.other(Tensor input, Tensor other, bool non_blocking=False, bool copy=False, *, "
        "memory_format? memory_format=None) -> Tensor",
    .torch = "torch.Tensor.to",
    .tags = kPure,
    .meta =
        [](Call& in) {
          return moved(in, in.type("other").dtype, in.type("other").device, in.flag("copy"),
                       in["memory_format"]);
        },
    .vjp = convert_vjp,
};
constinit const Symbol to_device{
    .schema =
        "to.device(Tensor input, device? device=None, dtype? dtype=None, bool "
        "non_blocking=False, bool copy=False, *, memory_format? memory_format=None) -> "
        "Tensor",
    .torch = "torch.Tensor.to",
    .tags = kPure,
    .meta =
        [](Call& in) {
          return moved(in, in.dtype("dtype"), in.device("device"), in.flag("copy"),
                       in["memory_format"]);
        },
    .vjp = convert_vjp,
    .aten =
        "to(input, dtype=dtype, device=device, non_blocking=non_blocking, copy=copy, "
        "memory_format=memory_format)",
};
constinit const Symbol type_as{
    .schema = "type_as(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.Tensor.type_as",
    .tags = kPure | kOthersAreLike,
    .meta =
        [](Call& in) {
          return moved(in, in.type("other").dtype, in.type("other").device, false, Arg());
        },
    .vjp = convert_vjp,
};
constinit const Symbol type{
    .schema = "type(Tensor input, dtype dtype, bool non_blocking=False) -> Tensor",
    .torch = "torch.Tensor.type",
    .tags = kPure,
    .meta = [](Call& in) { return moved(in, in.dtype("dtype"), {}, false, Arg()); },
    .decompose = [](Call& in) { return as_to_dtype(in, *in.dtype("dtype"), Arg()); },
    .aten = "-",
};
constinit const Symbol cpu{
    .schema = "cpu(Tensor input, *, memory_format? memory_format=None) -> Tensor",
    .torch = "torch.Tensor.cpu",
    .tags = kPure,
    .meta = [](Call& in) { return moved(in, {}, Device{}, false, in["memory_format"]); },
    .decompose = [](Call& in) { return as_to_device(in, Device{}, Arg(false)); },
    .aten = "-",
};
constinit const Symbol cuda{
    .schema =
        "cuda(Tensor input, device? device=None, bool non_blocking=False, *, memory_format? "
        "memory_format=None) -> Tensor",
    .torch = "torch.Tensor.cuda",
    .tags = kPure,
    .meta = [](Call& in) { return moved(in, {}, cuda_device(in), false, in["memory_format"]); },
    .decompose = [](Call& in) { return as_to_device(in, cuda_device(in), in["non_blocking"]); },
    .aten = "-",
};

#define X(row, method, type)                                                                     \
  constinit const Symbol row{                                                                    \
      .schema = method "(Tensor input, *, memory_format? memory_format=None) -> Tensor",         \
      .torch = "torch.Tensor." method,                                                           \
      .tags = kPure,                                                                             \
      .meta = [](Call& in) { return moved(in, DType::type, {}, false, in["memory_format"]); }, \
      .decompose = [](Call& in) { return as_to_dtype(in, DType::type, in["memory_format"]); },   \
      .aten = "-",                                                                               \
  };
FULMEN_CAST_OPS(X)
#undef X

std::span<const Symbol* const> conversion_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_TO_OPS(X)
#undef X
#define X(row, method, dtype) &row,
          FULMEN_CAST_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
