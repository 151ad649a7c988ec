#include <algorithm>

#include "ops/creation.h"
#include "ops/gradient.h"
#include "ops/indexing.h"
#include "ops/meta.h"
#include "ops/shape.h"
#include "ops/shape_gradient.h"

namespace fulmen::ops {
namespace {

// The gradients of the results in `out`, zeros where nothing flowed into one.
Args defined(const Arg& out, const Arg& grad) {
  Arg some;
  for (const Arg& g : grad.items()) {
    if (g.is_tensor()) some = g;
  }
  Args pieces;
  for (size_t i = 0; i < grad.items().size(); ++i) {
    const Arg& g = grad.items()[i];
    pieces.push_back(g.is_tensor() ? g : zeros_as(some, out.items()[i].tensor()->type));
  }
  return pieces;
}

// Whether two indices may name one element.
bool overlaps(std::span<const Dim> shape, std::span<const Dim> strides) {
  std::vector<std::pair<int64_t, int64_t>> dims;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i].value() != 1) dims.emplace_back(strides[i].value(), shape[i].value());
  }
  std::sort(dims.begin(), dims.end());
  int64_t last = 0;
  for (const auto& [stride, size] : dims) {
    if (stride <= last) return true;
    last += stride * (size - 1);
  }
  return false;
}

size_t split_dim(Call& in) {
  const size_t n = in.type("input").ndim();
  const std::string_view name = in.symbol().name();
  if (name.starts_with("hsplit")) return n == 1 ? 0 : 1;
  if (name.starts_with("vsplit")) return 0;
  if (name.starts_with("dsplit")) return 2;
  return meta::wrap_dim(in, in.integer("dim"), n);
}

}  // namespace

Args expand_vjp(Call& in, const Arg&, const Arg& grad) {
  return grads(in, {sum_to(grad, in.type("input").shape)});
}

Args broadcast_tensors_vjp(Call& in, const Arg&, const Arg& grad) {
  const auto tensors = in.tensors("tensors");
  Args pieces;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Arg& g = grad.items()[i];
    const bool wanted = g.is_tensor() && tensors[i]->type.requires_grad;
    pieces.push_back(wanted ? sum_to(g, tensors[i]->type.shape) : Arg());
  }
  return grads(in, {in.list(pieces)});
}

Args meshgrid_vjp(Call& in, const Arg&, const Arg& grad) {
  const auto tensors = in.tensors("tensors");
  const bool swap = in.has("indexing") && in.text("indexing") == "xy" && tensors.size() >= 2;
  Args pieces;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Arg& g = grad.items()[i];
    if (!g.is_tensor() || !tensors[i]->type.requires_grad) {
      pieces.push_back(Arg());
      continue;
    }
    Dims line(tensors.size(), Dim(1));
    line[swap && i < 2 ? 1 - i : i] = numel(tensors[i]->type);
    pieces.push_back(reshape(sum_to(g, line), dims_list(tensors[i]->type.shape)));
  }
  return grads(in, {in.list(pieces)});
}

Args as_strided_vjp(Call& in, const Arg&, const Arg& grad) {
  const TensorType& t = in.type("input");
  if (in.has("storage_offset")) in.unsupported("the gradient with a storage offset");
  if (!is_contiguous(t) || overlaps(in.dims("size"), in.dims("stride"))) {
    in.unsupported("the gradient of overlapping elements");
  }
  const Arg zeros = zeros_as(grad, t);
  return grads(in, {record(as_strided_scatter, {zeros, grad, in["size"], in["stride"], Arg()})});
}

Args complex_part_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg zeros = zeros_like(grad);
  const bool is_real = in.symbol().name() == "real";
  return grads(in, {is_real ? complex(grad, zeros) : complex(zeros, grad)});
}

Args permute_vjp(Call& in, const Arg&, const Arg& grad) {
  const auto order = in.integers("dims");
  SmallVec<int64_t, 6> inverse(order.size(), 0);
  for (size_t i = 0; i < order.size(); ++i) {
    inverse[meta::wrap_dim(in, order[i], order.size())] = static_cast<int64_t>(i);
  }
  return grads(in, {permute(grad, int_list(inverse))});
}

Args matrix_transpose_vjp(Call& in, const Arg&, const Arg& grad) {
  return grads(in, {transpose(grad, -2, -1)});
}

Args reverse_dims_vjp(Call& in, const Arg&, const Arg& grad) {
  SmallVec<int64_t, 6> order;
  for (size_t i = grad.tensor()->type.ndim(); i-- > 0;) order.push_back(static_cast<int64_t>(i));
  return grads(in, {permute(grad, int_list(order))});
}

Args select_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg shape = dims_list(in.type("input").shape);
  return grads(in, {select_backward(grad, shape, in["dim"], in["index"])});
}

Args slice_vjp(Call& in, const Arg&, const Arg& grad) {
  const TensorType& t = in.type("input");
  const int64_t size = t.shape[meta::wrap_dim(in, in.integer("dim"), t.ndim())].value();
  const int64_t start = in.opt_integer("start").value_or(0);
  const int64_t end = std::min(in.opt_integer("end").value_or(size), size);
  return grads(in, {slice_backward(grad, dims_list(t.shape), in["dim"], start, end, in["step"])});
}

Args narrow_vjp(Call& in, const Arg&, const Arg& grad) {
  const TensorType& t = in.type("input");
  int64_t start = in.integer("start");
  if (start < 0) start += t.shape[meta::wrap_dim(in, in.integer("dim"), t.ndim())].value();
  const int64_t end = start + in.integer("length");
  return grads(in, {slice_backward(grad, dims_list(t.shape), in["dim"], start, end, 1)});
}

Args split_vjp(Call& in, const Arg& out, const Arg& grad) {
  const int64_t d = static_cast<int64_t>(split_dim(in));
  int64_t total = 0;
  for (const Arg& piece : out.items()) total += piece.tensor()->type.shape[d].value();
  // Indices that are not in order repeat a part.
  if (total != in.type("input").shape[d].value()) in.unsupported("the gradient of these pieces");
  return grads(in, {cat(in.list(defined(out, grad)), d)});
}

Args unbind_vjp(Call& in, const Arg& out, const Arg& grad) {
  return grads(in, {stack(in.list(defined(out, grad)), in["dim"])});
}

Args unfold_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg shape = dims_list(in.type("input").shape);
  return grads(in, {unfold_backward(grad, shape, in["dimension"], in["size"], in["step"])});
}

Args diagonal_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg shape = dims_list(in[size_t{0}].tensor()->type.shape);
  return grads(in, {diagonal_backward(grad, shape, in["offset"], in["dim1"], in["dim2"])});
}

}  // namespace fulmen::ops
