#include "ops/meta.h"
#include "ops/shape.h"
#include "ops/shape_gradient.h"

namespace fulmen::ops {
namespace {

constexpr uint32_t kPureView = kPure | kView;

// A dimension that a 0-d tensor does not have.
size_t real_dim(Call& in, int64_t dim) {
  const TensorType& t = in.type("input");
  const size_t d = meta::wrap_dim(in, dim, t.ndim());
  if (t.ndim() == 0) {
    in.fail(ErrorKind::kIndex, "zero-dim", in.symbol().name(),
            "() cannot be applied to a 0-dim tensor.");
  }
  return d;
}

Arg piece(Call& in, size_t dim, int64_t start, int64_t stop, int64_t step = 1) {
  const TensorProxy& x = in.tensor("input");
  return in.make_view(meta::slice_type(x.type, dim, start, stop, step), x);
}

Arg select_meta(Call& in) {
  const TensorProxy& x = in.tensor("input");
  const size_t d = real_dim(in, in.integer("dim"));
  const int64_t index = in.integer("index");
  if (x.type.shape[d].is_concrete()) {
    const int64_t size = x.type.shape[d].value();
    if (index < -size || index >= size) {
      in.fail(ErrorKind::kIndex, "index-out-of-range", "index ", index,
              " is out of bounds for dimension ", d, " with size ", size);
    }
  }
  return in.make_view(meta::select_type(x.type, d), x);
}

Arg slice_meta(Call& in) {
  const size_t d = real_dim(in, in.integer("dim"));
  const int64_t step = in.integer("step");
  if (step <= 0) in.fail(ErrorKind::kRuntime, "slice-step", "slice step must be positive");
  return piece(in, d, in.opt_integer("start").value_or(0),
               in.opt_integer("end").value_or(INT64_MAX), step);
}

Arg narrow_meta(Call& in) {
  const int64_t length = in.integer("length");
  if (length < 0) in.fail(ErrorKind::kRuntime, "narrow", "narrow(): length must be non-negative.");
  const size_t d = real_dim(in, in.integer("dim"));
  int64_t start = in.integer("start");
  const int64_t size = in.type("input").shape[d].value();
  if (start < -size || start > size) {
    in.fail(ErrorKind::kIndex, "narrow", "start out of range (expected to be in range of [", -size,
            ", ", size, "], but got ", start, ")");
  }
  if (start < 0) start += size;
  if (start > size - length) {
    in.fail(ErrorKind::kRuntime, "narrow", "start (", start, ") + length (", length,
            ") exceeds dimension size (", size, ").");
  }
  return piece(in, d, start, start + length);
}

Arg pieces_of_sizes(Call& in, size_t dim, std::span<const int64_t> sizes) {
  Args out;
  int64_t start = 0;
  for (const int64_t size : sizes) {
    out.push_back(piece(in, dim, start, start + size));
    start += size;
  }
  return in.tuple(out);
}

Arg equal_pieces(Call& in, size_t dim, int64_t split_size) {
  const int64_t size = in.type("input").shape[dim].value();
  if (split_size == 0 && size != 0) {
    in.fail(ErrorKind::kRuntime, "split",
            "split_size can only be 0 if dimension size is 0, but got dimension size of ", size);
  }
  const int64_t count = split_size ? std::max<int64_t>((size + split_size - 1) / split_size, 1) : 1;
  Args out;
  for (int64_t i = 0; i < count; ++i) {
    out.push_back(piece(in, dim, i * split_size, std::min((i + 1) * split_size, size)));
  }
  return in.tuple(out);
}

void require_dims(Call& in) {
  if (in.type("input").ndim() == 0) {
    in.fail(ErrorKind::kRuntime, "zero-dim", in.symbol().name(),
            " expects at least a 1-dimensional tensor");
  }
}

Arg split_meta(Call& in) {
  require_dims(in);
  const int64_t split_size = in.integer("split_size");
  if (split_size < 0) {
    in.fail(ErrorKind::kRuntime, "split",
            "split expects split_size be non-negative, but got split_size=", split_size);
  }
  return equal_pieces(in, real_dim(in, in.integer("dim")), split_size);
}

Arg split_sizes_meta(Call& in) {
  require_dims(in);
  const size_t d = real_dim(in, in.integer("dim"));
  const auto sizes = in.integers("split_size");
  const int64_t size = in.type("input").shape[d].value();
  int64_t sum = 0;
  for (const int64_t s : sizes) {
    if (s < 0) {
      in.fail(ErrorKind::kRuntime, "split",
              "split_with_sizes expects split_sizes have only non-negative entries, but got ", s);
    }
    sum += s;
  }
  if (sum != size) {
    in.fail(ErrorKind::kRuntime, "split", "split_with_sizes expects split_sizes to sum exactly to ",
            size, " (input tensor's size at dimension ", d, "), but got a sum of ", sum);
  }
  return pieces_of_sizes(in, d, sizes);
}

Arg chunk_meta(Call& in) {
  require_dims(in);
  const int64_t chunks = in.integer("chunks");
  if (chunks <= 0) {
    in.fail(ErrorKind::kRuntime, "chunk",
            "chunk expects `chunks` to be greater than 0, got: ", chunks);
  }
  const size_t d = real_dim(in, in.integer("dim"));
  const int64_t size = in.type("input").shape[d].value();
  if (size == 0) {
    const SmallVec<int64_t, 6> sizes(chunks, 0);
    return pieces_of_sizes(in, d, sizes);
  }
  return equal_pieces(in, d, (size + chunks - 1) / chunks);
}

Arg sections(Call& in, size_t dim, int64_t count) {
  if (count <= 0) {
    in.fail(ErrorKind::kRuntime, "tensor-split", "number of sections must be larger than 0, got ",
            count);
  }
  const int64_t size = in.type("input").shape[dim].value();
  SmallVec<int64_t, 6> sizes;
  for (int64_t i = 0; i < count; ++i) sizes.push_back(size / count + (i < size % count));
  return pieces_of_sizes(in, dim, sizes);
}

Arg sections_at(Call& in, size_t dim, std::span<const int64_t> indices) {
  Args out;
  int64_t start = 0;
  for (const int64_t index : indices) {
    out.push_back(piece(in, dim, start, index));
    start = index;
  }
  out.push_back(piece(in, dim, start, INT64_MAX));
  return in.tuple(out);
}

Arg tensor_split_meta(Call& in) {
  require_dims(in);
  return sections(in, real_dim(in, in.integer("dim")), in.integer("indices_or_sections"));
}

Arg tensor_split_indices_meta(Call& in) {
  require_dims(in);
  return sections_at(in, real_dim(in, in.integer("dim")), in.integers("indices_or_sections"));
}

// hsplit, vsplit and dsplit: the dimension, after the check of `least` dimensions.
size_t named_split_dim(Call& in, size_t least, size_t dim) {
  const size_t n = in.type("input").ndim();
  if (n < least) {
    in.fail(ErrorKind::kRuntime, "split", "torch.", in.symbol().name(),
            " requires a tensor with at least ", least, " dimension, but got a tensor with ", n,
            " dimensions!");
  }
  return least == 1 && n == 1 ? 0 : dim;
}

Arg named_split(Call& in, size_t least, size_t dim) {
  const size_t d = named_split_dim(in, least, dim);
  const int64_t count = in.integer("indices_or_sections");
  const int64_t size = in.type("input").shape[d].value();
  if (count == 0 || size % count != 0) {
    in.fail(ErrorKind::kRuntime, "split", "attempted to split along dimension ", d,
            ", but the size of the dimension ", size, " is not divisible by the split_size ", count,
            "!");
  }
  return sections(in, d, count);
}

Arg named_split_at(Call& in, size_t least, size_t dim) {
  return sections_at(in, named_split_dim(in, least, dim), in.integers("indices_or_sections"));
}

Arg unbind_meta(Call& in) {
  const TensorProxy& x = in.tensor("input");
  const size_t d = real_dim(in, in.integer("dim"));
  const TensorType type = meta::select_type(x.type, d);
  Args out;
  for (int64_t i = 0; i < x.type.shape[d].value(); ++i) out.push_back(in.make_view(type, x));
  return in.tuple(out);
}

Arg unfold_meta(Call& in) {
  const TensorProxy& x = in.tensor("input");
  TensorType out = x.type;
  const size_t d = meta::wrap_dim(in, in.integer("dimension"), out.ndim());
  const int64_t size = in.integer("size"), step = in.integer("step");
  const int64_t whole = out.ndim() ? out.shape[d].value() : 1;
  if (size < 0) {
    in.fail(ErrorKind::kRuntime, "unfold", "size is ", size, " but must be >= 0");
  }
  if (size > whole) {
    in.fail(ErrorKind::kRuntime, "unfold", "maximum size for tensor at dimension ", d, " is ",
            whole, " but size is ", size);
  }
  if (step <= 0) {
    in.fail(ErrorKind::kRuntime, "unfold", "step is ", step, " but must be > 0");
  }
  const Dim stride = out.ndim() ? out.strides[d] : Dim(1);
  if (out.ndim()) {
    out.shape[d] = (whole - size) / step + 1;
    out.strides[d] = stride * Dim(step);
  }
  out.shape.push_back(size);
  out.strides.push_back(stride);
  return in.make_view(out, x);
}

}  // namespace

constinit const Symbol select{
    .schema = "select(Tensor input, int dim, int index) -> Tensor",
    .torch = "torch.select torch.Tensor.select",
    .tags = kPureView,
    .meta = select_meta,
    .vjp = select_vjp,
};
constinit const Symbol narrow{
    .schema = "narrow(Tensor input, int dim, int start, int length) -> Tensor",
    .torch = "torch.narrow torch.Tensor.narrow",
    .tags = kPureView,
    .meta = narrow_meta,
    .vjp = narrow_vjp,
};
constinit const Symbol slice{
    .schema =
        "slice(Tensor input, int dim=0, int? start=None, int? end=None, int step=1) -> "
        "Tensor",
    .torch = "torch.ops.aten.slice",
    .tags = kPureView,
    .meta = slice_meta,
    .vjp = slice_vjp,
};
constinit const Symbol split{
    .schema = "split(Tensor input, int split_size, int dim=0) -> Tensor[]",
    .torch = "torch.split torch.Tensor.split torch.functional.split",
    .tags = kPureView,
    .meta = split_meta,
    .vjp = split_vjp,
};
constinit const Symbol split_sizes{
    .schema = "split.sizes(Tensor input, int[] split_size, int dim=0) -> Tensor[]",
    .torch = "torch.split torch.Tensor.split torch.functional.split",
    .tags = kPureView,
    .meta = split_sizes_meta,
    .vjp = split_vjp,
};
constinit const Symbol split_with_sizes{
    .schema = "split_with_sizes(Tensor input, int[] split_size, int dim=0) -> Tensor[]",
    .torch = "torch.split_with_sizes torch.Tensor.split_with_sizes",
    .tags = kPureView,
    .meta = split_sizes_meta,
    .vjp = split_vjp,
};
constinit const Symbol chunk{
    .schema = "chunk(Tensor input, int chunks, int dim=0) -> Tensor[]",
    .torch = "torch.chunk torch.Tensor.chunk",
    .tags = kPureView,
    .meta = chunk_meta,
    .vjp = split_vjp,
};
constinit const Symbol tensor_split{
    .schema = "tensor_split(Tensor input, int indices_or_sections, int dim=0) -> Tensor[]",
    .torch = "torch.tensor_split torch.Tensor.tensor_split",
    .tags = kPureView,
    .meta = tensor_split_meta,
    .vjp = split_vjp,
};
constinit const Symbol tensor_split_indices{
    .schema =
        "tensor_split.indices(Tensor input, int[] indices_or_sections, int dim=0) -> "
        "Tensor[]",
    .torch = "torch.tensor_split torch.Tensor.tensor_split",
    .tags = kPureView,
    .meta = tensor_split_indices_meta,
    .vjp = split_vjp,
};
constinit const Symbol hsplit{
    .schema = "hsplit(Tensor input, int indices_or_sections) -> Tensor[]",
    .torch = "torch.hsplit torch.Tensor.hsplit",
    .tags = kPureView,
    .meta = [](Call& in) { return named_split(in, 1, 1); },
    .vjp = split_vjp,
};
constinit const Symbol hsplit_indices{
    .schema = "hsplit.array(Tensor input, int[]* indices_or_sections) -> Tensor[]",
    .torch = "torch.hsplit torch.Tensor.hsplit",
    .tags = kPureView,
    .meta = [](Call& in) { return named_split_at(in, 1, 1); },
    .vjp = split_vjp,
};
constinit const Symbol vsplit{
    .schema = "vsplit(Tensor input, int indices_or_sections) -> Tensor[]",
    .torch = "torch.vsplit torch.Tensor.vsplit",
    .tags = kPureView,
    .meta = [](Call& in) { return named_split(in, 2, 0); },
    .vjp = split_vjp,
};
constinit const Symbol vsplit_indices{
    .schema = "vsplit.array(Tensor input, int[]* indices_or_sections) -> Tensor[]",
    .torch = "torch.vsplit torch.Tensor.vsplit",
    .tags = kPureView,
    .meta = [](Call& in) { return named_split_at(in, 2, 0); },
    .vjp = split_vjp,
};
constinit const Symbol dsplit{
    .schema = "dsplit(Tensor input, int indices_or_sections) -> Tensor[]",
    .torch = "torch.dsplit torch.Tensor.dsplit",
    .tags = kPureView,
    .meta = [](Call& in) { return named_split(in, 3, 2); },
    .vjp = split_vjp,
};
constinit const Symbol dsplit_indices{
    .schema = "dsplit.array(Tensor input, int[]* indices_or_sections) -> Tensor[]",
    .torch = "torch.dsplit torch.Tensor.dsplit",
    .tags = kPureView,
    .meta = [](Call& in) { return named_split_at(in, 3, 2); },
    .vjp = split_vjp,
};
constinit const Symbol unbind{
    .schema = "unbind(Tensor input, int dim=0) -> Tensor[]",
    .torch = "torch.unbind torch.Tensor.unbind",
    .tags = kPureView,
    .meta = unbind_meta,
    .vjp = unbind_vjp,
};
constinit const Symbol unfold{
    .schema = "unfold(Tensor input, int dimension, int size, int step) -> Tensor",
    .torch = "torch.Tensor.unfold",
    .tags = kPureView,
    .meta = unfold_meta,
    .vjp = unfold_vjp,
};
constinit const Symbol diagonal{
    .schema = "diagonal(Tensor input, int offset=0, int dim1=0, int dim2=1) -> Tensor",
    .torch = "torch.diagonal torch.Tensor.diagonal",
    .tags = kPureView,
    .meta =
        [](Call& in) {
          const TensorProxy& x = in.tensor("input");
          return in.make_view(meta::diagonal_type(in, x.type, in.integer("offset"),
                                                  in.integer("dim1"), in.integer("dim2")),
                              x);
        },
    .vjp = diagonal_vjp,
};

}  // namespace fulmen::ops
