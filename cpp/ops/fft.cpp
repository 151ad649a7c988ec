#include "ops/fft.h"

#include "ops/families.h"
#include "ops/fft_gradient.h"
#include "ops/meta.h"
#include "ops/row.h"

namespace fulmen::ops {
namespace {

enum class Kind { kComplex, kRealToHalf, kHalfToReal };

// The dtype that eager transforms in; integers become the default dtype.
DType transformed_dtype(const Call& in, DType t) {
  const DType dtype = meta::float_dtype(in, t);
  if (dtype != DType::kFloat32 && dtype != DType::kFloat64 && dtype != DType::kComplex64 &&
      dtype != DType::kComplex128) {
    in.unsupported("dtype ", name(dtype));
  }
  return dtype;
}

DType as_complex(DType t) {
  if (t == DType::kFloat32) return DType::kComplex64;
  return t == DType::kFloat64 ? DType::kComplex128 : t;
}
DType as_real(DType t) {
  if (t == DType::kComplex64) return DType::kFloat32;
  return t == DType::kComplex128 ? DType::kFloat64 : t;
}

void check_norm(const Call& in) {
  if (!in.has("norm")) return;
  const std::string_view norm = in.text("norm");
  if (norm != "forward" && norm != "backward" && norm != "ortho") in.unsupported("norm ", norm);
}

// Transforms the last `n` dimensions to `sizes` (-1: as it is). The result is contiguous; over
// other dimensions its strides depend on the library that computes it.
Arg transform(Call& in, Kind kind, size_t n, std::span<const int64_t> sizes) {
  check_norm(in);
  const TensorType& x = in.type("input");
  if (n == 0 || n > x.ndim()) in.unsupported("no dimension to transform");
  if (n > 1 && !is_contiguous(x)) in.unsupported("several dimensions of a strided tensor");
  const DType dtype = transformed_dtype(in, x.dtype);
  if (kind == Kind::kRealToHalf && is_complex(dtype)) in.unsupported("a complex input");
  TensorType out = x;
  for (size_t i = 0; i < x.ndim(); ++i) {
    if (x.shape[i].value() == 0) in.unsupported("an empty tensor");
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0 || sizes[i] < -1) in.unsupported("a size of ", sizes[i]);
    if (sizes[i] > 0) out.shape[x.ndim() - n + i] = Dim(sizes[i]);
  }
  const size_t last = x.ndim() - 1;
  const bool given = !sizes.empty() && sizes.back() > 0;
  if (kind == Kind::kRealToHalf) out.shape[last] = floor_div(out.shape[last], 2) + 1;
  if (kind == Kind::kHalfToReal && !given) out.shape[last] = (x.shape[last] - 1) * 2;
  if (out.shape[last].value() < 1) in.unsupported("an empty result");
  return meta::fresh(in, x, out.shape,
                     kind == Kind::kHalfToReal ? as_real(dtype) : as_complex(dtype));
}

Arg one_dim(Call& in, Kind kind) {
  const TensorType& x = in.type("input");
  const size_t d = meta::wrap_dim(in, in.integer("dim"), x.ndim());
  if (d + 1 != x.ndim()) in.unsupported("another dimension than the last");
  const int64_t n = in.has("n") ? in.integer("n") : -1;
  if (in.has("n") && n < 1) in.unsupported("a size of ", n);
  return transform(in, kind, 1, {&n, 1});
}

Arg several_dims(Call& in, Kind kind) {
  const TensorType& x = in.type("input");
  const auto dims = in.integers("dim"), sizes = in.integers("s");
  if (in.has("s") && in.has("dim") && sizes.size() != dims.size()) {
    in.unsupported("other numbers of sizes and dims");
  }
  if (in.has("dim") && dims.empty()) in.unsupported("no dims");
  const size_t n = in.has("dim") ? dims.size() : in.has("s") ? sizes.size() : x.ndim();
  for (size_t i = 0; i < dims.size(); ++i) {
    const size_t d = meta::wrap_dim(in, dims[i], x.ndim());
    if (d + n != x.ndim() + i) in.unsupported("other dimensions than the last in order");
  }
  return transform(in, kind, n, sizes);
}

template <Kind kKind>
Arg one_dim_meta(Call& in) {
  return one_dim(in, kKind);
}
template <Kind kKind>
Arg several_dims_meta(Call& in) {
  return several_dims(in, kKind);
}

// A roll by half of each size, rounded down (fftshift) or up.
Arg shifted(Call& in, bool up) {
  const TensorType& x = in.type("input");
  SmallVec<int64_t, 6> dims = in.integers("dim");
  if (!in.has("dim")) {
    for (size_t i = 0; i < x.ndim(); ++i) dims.push_back(static_cast<int64_t>(i));
  }
  SmallVec<int64_t, 6> shifts;
  for (const int64_t d : dims) {
    const int64_t size = x.shape[meta::wrap_dim(in, d, x.ndim())].value();
    shifts.push_back((size + up) / 2);
  }
  if (dims.empty()) in.unsupported("no dims");
  return row("roll")(in["input"], in.ints(shifts), in.ints(dims));
}

}  // namespace

constinit const Symbol fft_fft{
    .schema = "fft_fft(Tensor input, int? n=None, int dim=-1, str? norm=None) -> Tensor",
    .torch = "torch.fft.fft",
    .tags = kPure,
    .meta = one_dim_meta<Kind::kComplex>,
    .vjp = fft_vjp,
};
constinit const Symbol fft_ifft{
    .schema = "fft_ifft(Tensor input, int? n=None, int dim=-1, str? norm=None) -> Tensor",
    .torch = "torch.fft.ifft",
    .tags = kPure,
    .meta = one_dim_meta<Kind::kComplex>,
    .vjp = ifft_vjp,
};
constinit const Symbol fft_rfft{
    .schema = "fft_rfft(Tensor input, int? n=None, int dim=-1, str? norm=None) -> Tensor",
    .torch = "torch.fft.rfft",
    .tags = kPure,
    .meta = one_dim_meta<Kind::kRealToHalf>,
    .vjp = rfft_vjp,
};
constinit const Symbol fft_irfft{
    .schema = "fft_irfft(Tensor input, int? n=None, int dim=-1, str? norm=None) -> Tensor",
    .torch = "torch.fft.irfft",
    .tags = kPure,
    .meta = one_dim_meta<Kind::kHalfToReal>,
    .vjp = irfft_vjp,
};
constinit const Symbol fft_hfft{
    .schema = "fft_hfft(Tensor input, int? n=None, int dim=-1, str? norm=None) -> Tensor",
    .torch = "torch.fft.hfft",
    .tags = kPure,
    .meta = one_dim_meta<Kind::kHalfToReal>,
    .vjp = hfft_vjp,
};
constinit const Symbol fft_ihfft{
    .schema = "fft_ihfft(Tensor input, int? n=None, int dim=-1, str? norm=None) -> Tensor",
    .torch = "torch.fft.ihfft",
    .tags = kPure,
    .meta = one_dim_meta<Kind::kRealToHalf>,
    .vjp = ihfft_vjp,
};
constinit const Symbol fft_fft2{
    .schema =
        "fft_fft2(Tensor input, int[1]? s=None, int[1] dim=(-2, -1), str? norm=None) -> Tensor",
    .torch = "torch.fft.fft2",
    .tags = kPure,
    .meta = several_dims_meta<Kind::kComplex>,
    .vjp = fft_vjp,
};
constinit const Symbol fft_ifft2{
    .schema =
        "fft_ifft2(Tensor input, int[1]? s=None, int[1] dim=(-2, -1), str? norm=None) -> Tensor",
    .torch = "torch.fft.ifft2",
    .tags = kPure,
    .meta = several_dims_meta<Kind::kComplex>,
    .vjp = ifft_vjp,
};
constinit const Symbol fft_rfft2{
    .schema =
        "fft_rfft2(Tensor input, int[1]? s=None, int[1] dim=(-2, -1), str? norm=None) -> Tensor",
    .torch = "torch.fft.rfft2",
    .tags = kPure,
    .meta = several_dims_meta<Kind::kRealToHalf>,
    .vjp = rfft_vjp,
};
constinit const Symbol fft_irfft2{
    .schema =
        "fft_irfft2(Tensor input, int[1]? s=None, int[1] dim=(-2, -1), str? norm=None) -> Tensor",
    .torch = "torch.fft.irfft2",
    .tags = kPure,
    .meta = several_dims_meta<Kind::kHalfToReal>,
    .vjp = irfft_vjp,
};
constinit const Symbol fft_fftn{
    .schema = "fft_fftn(Tensor input, int[1]? s=None, int[1]? dim=None, str? norm=None) -> Tensor",
    .torch = "torch.fft.fftn",
    .tags = kPure,
    .meta = several_dims_meta<Kind::kComplex>,
    .vjp = fft_vjp,
};
constinit const Symbol fft_ifftn{
    .schema = "fft_ifftn(Tensor input, int[1]? s=None, int[1]? dim=None, str? norm=None) -> Tensor",
    .torch = "torch.fft.ifftn",
    .tags = kPure,
    .meta = several_dims_meta<Kind::kComplex>,
    .vjp = ifft_vjp,
};
constinit const Symbol fft_rfftn{
    .schema = "fft_rfftn(Tensor input, int[1]? s=None, int[1]? dim=None, str? norm=None) -> Tensor",
    .torch = "torch.fft.rfftn",
    .tags = kPure,
    .meta = several_dims_meta<Kind::kRealToHalf>,
    .vjp = rfft_vjp,
};
constinit const Symbol fft_irfftn{
    .schema =
        "fft_irfftn(Tensor input, int[1]? s=None, int[1]? dim=None, str? norm=None) -> Tensor",
    .torch = "torch.fft.irfftn",
    .tags = kPure,
    .meta = several_dims_meta<Kind::kHalfToReal>,
    .vjp = irfft_vjp,
};
constinit const Symbol fftshift{
    .schema = "fft_fftshift(Tensor input, int[1]? dim=None) -> Tensor",
    .torch = "torch.fft.fftshift",
    .tags = kPure,
    .decompose = [](Call& in) -> Arg { return shifted(in, false); },
};
constinit const Symbol ifftshift{
    .schema = "fft_ifftshift(Tensor input, int[1]? dim=None) -> Tensor",
    .torch = "torch.fft.ifftshift",
    .tags = kPure,
    .decompose = [](Call& in) -> Arg { return shifted(in, true); },
};

std::span<const Symbol* const> fft_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_FFT_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
