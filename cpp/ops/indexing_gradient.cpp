#include "ops/indexing_gradient.h"

#include "ops/comparison.h"
#include "ops/conversion.h"
#include "ops/creation.h"
#include "ops/gradient.h"
#include "ops/indexing.h"
#include "ops/meta.h"
#include "ops/reduction.h"
#include "ops/select.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

// The gradients of `input` and of the written values, where they are wanted.
template <class Input, class Source>
Args two(Call& in, std::string_view source, Input input_grad, Source source_grad) {
  Args out;
  out.resize(in.size());
  if (wants_grad(in, "input")) out[0] = input_grad();
  const int i = in.symbol().info->schema.index(source);
  if (i >= 0 && wants_grad(in, static_cast<size_t>(i))) out[i] = source_grad();
  return out;
}

// One slice of the gradient per index.
Arg selected(Call& in, const Arg& grad) {
  const Arg picked = index_select(grad, in["dim"], in["index"]);
  return expand(picked, dims_list(in.type("source").shape));
}

bool is_mask(const TensorType& t) { return t.dtype == DType::kBool || t.dtype == DType::kUInt8; }

}  // namespace

Args gather_vjp(Call& in, const Arg&, const Arg& grad) {
  if (in.flag("sparse_grad")) in.unsupported("a sparse gradient");
  const Arg zeros = zeros_as(grad, in.type("input"));
  return grads(in, {scatter_add(zeros, in["dim"], in["index"], grad)});
}

Args take_vjp(Call& in, const Arg&, const Arg& grad) {
  return grads(in, {put(zeros_as(grad, in.type("input")), in["index"], grad, true)});
}

Args index_select_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg zeros = zeros_as(grad, in.type("input"));
  return grads(in, {index_add(zeros, in["dim"], in["index"], grad)});
}

Args index_vjp(Call& in, const Arg&, const Arg& grad) {
  return grads(in, {index_put(zeros_as(grad, in.type("input")), in["indices"], grad, true)});
}

Args scatter_vjp(Call& in, const Arg&, const Arg& grad) {
  return two(
      in, "src", [&] { return scatter_value(grad, in["dim"], in["index"], 0); },
      [&] { return gather(grad, in["dim"], in["index"]); });
}

Args scatter_add_vjp(Call& in, const Arg&, const Arg& grad) {
  return two(in, "src", [&] { return grad; }, [&] { return gather(grad, in["dim"], in["index"]); });
}

Args index_add_vjp(Call& in, const Arg&, const Arg& grad) {
  return two(
      in, "source", [&] { return grad; }, [&] { return scaled(selected(in, grad), in["alpha"]); });
}

Args index_copy_vjp(Call& in, const Arg&, const Arg& grad) {
  return two(
      in, "source", [&] { return index_fill(grad, in["dim"], in["index"], 0); },
      [&] { return selected(in, grad); });
}

Args index_fill_vjp(Call& in, const Arg&, const Arg& grad) {
  return two(
      in, "value", [&] { return index_fill(grad, in["dim"], in["index"], 0); },
      [&] {
        const Arg kept = index_fill(ones_like(grad), in["dim"], in["index"], 0);
        return sum(zero_where(ne(kept, 0), grad));
      });
}

Args index_put_vjp(Call& in, const Arg&, const Arg& grad) {
  const auto values_grad = [&] {
    const auto indices = in["indices"].items();
    const TensorType& values = in.type("values");
    if (indices.size() == 1 && is_mask(indices[0].tensor()->type) && is_one(numel(values))) {
      Arg mask = indices[0];
      if (mask.tensor()->type.dtype != DType::kBool) in.unsupported("a mask of bytes");
      const TensorType& t = in.type("input");
      while (mask.tensor()->type.ndim() < t.ndim()) mask = unsqueeze(mask, -1);
      const Arg total = sum(where(mask, grad, 0.0));
      return values.ndim() ? reshape(total, dims_list(values.shape)) : total;
    }
    return sum_to(index(grad, in["indices"]), values.shape);
  };
  return two(
      in, "values",
      [&] {
        if (in.flag("accumulate")) return grad;
        return index_put(grad, in["indices"], zeros_as(grad, in.type("values")), false);
      },
      values_grad);
}

Args put_vjp(Call& in, const Arg&, const Arg& grad) {
  return two(
      in, "source",
      [&] {
        if (in.flag("accumulate")) return grad;
        return put(grad, in["index"], zeros_as(grad, in.type("source")), false);
      },
      [&] { return reshape(take(grad, in["index"]), dims_list(in.type("source").shape)); });
}

Args masked_fill_vjp(Call& in, const Arg&, const Arg& grad) {
  return two(
      in, "value", [&] { return zero_where(in["mask"], grad); },
      [&] { return sum(where(in["mask"], grad, 0.0)); });
}

Args masked_scatter_vjp(Call& in, const Arg&, const Arg& grad) {
  return two(
      in, "source", [&] { return zero_where(in["mask"], grad); },
      [&] {
        return masked_scatter_backward(grad, in["mask"], dims_list(in.type("source").shape));
      });
}

Args select_scatter_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg dim = in["dim"], i = in["index"];
  return two(
      in, "src", [&] { return select_scatter(grad, zeros_as(grad, in.type("src")), dim, i); },
      [&] { return select(grad, dim, i); });
}

Args slice_scatter_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg dim = in["dim"], start = in["start"], end = in["end"], step = in["step"];
  return two(
      in, "src",
      [&] { return slice_scatter(grad, zeros_as(grad, in.type("src")), dim, start, end, step); },
      [&] { return slice(grad, dim, start, end, step); });
}

Args diagonal_scatter_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg offset = in["offset"], a = in["dim1"], b = in["dim2"];
  return two(
      in, "src",
      [&] { return diagonal_scatter(grad, zeros_as(grad, in.type("src")), offset, a, b); },
      [&] { return diagonal(grad, offset, a, b); });
}

Args as_strided_scatter_vjp(Call& in, const Arg&, const Arg& grad) {
  if (in.has("storage_offset")) in.unsupported("the gradient with a storage offset");
  const Arg size = in["size"], stride = in["stride"], whole = contiguous(grad);
  return two(
      in, "src",
      [&] { return as_strided_scatter(whole, zeros_as(grad, in.type("src")), size, stride); },
      [&] { return as_strided(whole, size, stride); });
}

Args copy_vjp(Call& in, const Arg&, const Arg& grad) {
  return two(
      in, "src", [&] { return zeros_like(grad); },
      [&] {
        const TensorType& src = in.type("src");
        const Arg own = converted(real_if(src, sum_to(grad, src.shape)), src.dtype);
        return src.device == in.type("input").device ? own : to_device(own, src.device);
      });
}

Args fill_vjp(Call& in, const Arg&, const Arg& grad) {
  return two(in, "value", [&] { return zeros_like(grad); }, [&] { return sum(grad); });
}

Args scatter_reduce_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg x = in["input"], dim = in["dim"], at = in["index"], src = in["src"];
  const std::string_view how = in.text("reduce");
  const bool self = in.flag("include_self");
  const auto again = [&](const Arg& a, const Arg& b) {
    return record(scatter_reduce, {a, dim, at, b, in["reduce"], self});
  };
  Arg of_input, of_source;
  if (how == "sum") {
    of_input = grad;
    of_source = gather(grad, dim, at);
  } else if (how == "prod") {
    const Arg nonzero = where(eq(x, 0), 1.0, x);
    of_input = grad * again(nonzero, src) / nonzero;
    const Arg zero = eq(src, 0), dtype = x.tensor()->type.dtype;
    const Arg count = gather(
        scatter_add(zeros_as(grad, x.tensor()->type), dim, at, converted(zero, dtype.dtype())), dim,
        at);
    const Arg single = zero * eq(count, 1);
    const Arg others = again(x, where(single, 1.0, src));
    of_source = where(single, gather(grad * others, dim, at),
                      gather(grad * out, dim, at) / where(zero, 1.0, src));
  } else if (how == "mean") {
    Arg count = self ? ones_like(grad) : zeros_like(grad);
    count = scatter_add(count, dim, at, new_ones(grad, dims_list(src.tensor()->type.shape)));
    count = where(eq(count, 0), 1.0, count);
    of_input = grad / count;
    of_source = gather(grad, dim, at) / gather(count, dim, at);
  } else {
    const DType dtype = x.tensor()->type.dtype;
    const Arg own = converted(eq(x, out), dtype);
    const Arg theirs = converted(eq(src, gather(out, dim, at)), dtype);
    const Arg share = grad / scatter_add(own, dim, at, theirs);
    of_input = own * share;
    of_source = theirs * gather(share, dim, at);
  }
  return two(
      in, "src", [&] { return self ? of_input : scatter_value(of_input, dim, at, 0); },
      [&] { return of_source; });
}

Args index_reduce_vjp(Call& in, const Arg& out, const Arg& grad) {
  const Arg x = in["input"], dim = in["dim"], at = in["index"], src = in["source"];
  const std::string_view how = in.text("reduce");
  const bool self = in.flag("include_self");
  const auto picked = [&](const Arg& a) { return index_select(a, dim, at); };
  const auto again = [&](const Arg& a, const Arg& b) {
    return record(index_reduce, {a, dim, at, b, in["reduce"], self});
  };
  Arg of_input, of_source;
  if (how == "prod") {
    const Arg nonzero = where(eq(x, 0), 1.0, x);
    of_input = grad * again(nonzero, src) / nonzero;
    const Arg zero = eq(src, 0);
    const Arg count = picked(index_add(zeros_as(grad, x.tensor()->type), dim, at,
                                       converted(zero, x.tensor()->type.dtype)));
    const Arg single = zero * eq(count, 1);
    const Arg others = again(x, where(single, 1.0, src));
    of_source = where(single, picked(grad * others), picked(grad * out) / where(zero, 1.0, src));
  } else if (how == "mean") {
    Arg count = self ? ones_like(grad) : zeros_like(grad);
    count = index_add(count, dim, at, new_ones(grad, dims_list(src.tensor()->type.shape)));
    count = where(eq(count, 0), 1.0, count);
    of_input = grad / count;
    of_source = picked(grad) / picked(count);
  } else {
    const DType dtype = x.tensor()->type.dtype;
    const Arg own = converted(eq(x, out), dtype);
    const Arg theirs = converted(eq(src, picked(out)), dtype);
    const Arg share = grad / index_add(own, dim, at, theirs);
    of_input = own * share;
    of_source = theirs * picked(share);
  }
  return two(
      in, "source", [&] { return self ? of_input : index_fill(of_input, dim, at, 0); },
      [&] { return of_source; });
}

constinit const Symbol masked_scatter_backward{
    .schema = "masked_scatter_backward(Tensor grad_output, Tensor mask, int[] sizes) -> Tensor",
    .torch = "torch.ops.aten.masked_scatter_backward",
    .tags = kPure,
    .meta = [](Call& in) -> Arg {
      const TensorType& g = in.type("grad_output");
      if (in.type("mask").dtype != DType::kBool) in.unsupported("a mask that is not bool");
      return meta::fresh(in, g, in.dims("sizes"), g.dtype);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {masked_scatter(zeros_as(grad, in.type("grad_output")), in["mask"], grad)});
    },
};

}  // namespace fulmen::ops
