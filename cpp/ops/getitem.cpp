#include "ops/getitem.h"

#include "ops/creation.h"
#include "ops/indexing.h"
#include "ops/registry.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

const TensorProxy& tensor_of(const Arg& a) { return *a.tensor(); }

[[noreturn]] void fail(Builder& b, ErrorKind kind, std::string_view id, std::string_view message) {
  throw UserError(kind, id, fulmen::cat(message, source_suffix(b.source)));
}

// The parts of an index: a tuple's elements, else the index itself.
Args parts_of(const Arg& index) {
  Args parts;
  if (index.kind() == Arg::Kind::kTuple) {
    for (const Arg& a : index.items()) parts.push_back(a);
  } else {
    parts.push_back(index);
  }
  return parts;
}

bool is_mask(const TensorProxy& t) {
  return t.type.dtype == DType::kBool || t.type.dtype == DType::kUInt8;
}

// The number of dimensions that the parts consume.
size_t consumed(std::span<const Arg> parts) {
  size_t n = 0;
  for (const Arg& a : parts) {
    if (a.is_none() || a.kind() == Arg::Kind::kEllipsis || a.kind() == Arg::Kind::kBool) continue;
    const TensorProxy* t = a.tensor();
    n += t && is_mask(*t) ? t->type.ndim() : 1;
  }
  return n;
}

Arg slice_bound(const Arg& a) {
  if (a.is_none() || a.is_int()) return a;
  throw Unsupported("a slice bound that is not an integer");
}

// A list of integers as eager's index tensor.
Arg index_tensor(Builder& b, const Arg& list, Device device) {
  const auto items = list.items();
  for (const Arg& a : items) {
    if (a.kind() != Arg::Kind::kInt) throw Unsupported("a list of other than integers as index");
  }
  if (items.empty()) throw Unsupported("an empty list as index");
  const auto progression = [&](int64_t start, int64_t count, int64_t step) {
    const Arg args[] = {
        Arg(start), Arg(start + count * step), Arg(step), Arg(), Arg(), Arg(device), Arg(false),
        Arg(false)};
    return b.call(arange_start_step, args);
  };
  const int64_t count = static_cast<int64_t>(items.size()), start = items[0].integer();
  const int64_t step = count > 1 ? items[1].integer() - start : 1;
  bool regular = step != 0;
  for (int64_t i = 1; i < count; ++i) {
    regular = regular && items[i].integer() == start + i * step;
  }
  if (regular) return progression(start, count, step);
  Args single;
  for (const Arg& a : items) single.push_back(progression(a.integer(), 1, 1));
  return cat(b.ctx().make_collection(Arg::Kind::kList, single), 0);
}

// The views that the parts without tensors make, and the tensors that index the result.
struct Indexed {
  Arg view;
  Args tensors;  // None for the dimensions that no tensor indexes; trailing ones are left out
};

Indexed apply_views(Builder& b, const Arg& tensor, const Arg& index) {
  Registry::get();  // rows can be called once it is built, and this may be the first call
  const Args parts = parts_of(index);
  const size_t ndim = tensor_of(tensor).type.ndim(), used = consumed(parts);
  if (used > ndim) {
    fail(b, ErrorKind::kIndex, "too-many-indices",
         fulmen::cat("too many indices for tensor of dimension ", ndim));
  }
  Indexed out{tensor, {}};
  int64_t dim = 0;
  const auto put = [&](const Arg& t) {
    while (static_cast<int64_t>(out.tensors.size()) < dim) out.tensors.push_back(Arg());
    out.tensors.push_back(t);
    ++dim;
  };
  bool had_ellipsis = false;
  for (const Arg& a : parts) {
    switch (a.kind()) {
      case Arg::Kind::kInt: {
        const TensorType& t = tensor_of(out.view).type;
        const int64_t size = t.shape[dim].value_or(INT64_MAX), i = a.integer();
        if (i < -size || i >= size) {
          fail(b, ErrorKind::kIndex, "index-out-of-range",
               fulmen::cat("index ", i, " is out of bounds for dimension ", dim, " with size ",
                           size));
        }
        out.view = select(out.view, dim, a);
        break;
      }
      case Arg::Kind::kSlice: {
        const Arg start = slice_bound(a.items()[0]), stop = slice_bound(a.items()[1]);
        const Arg step = slice_bound(a.items()[2]);
        if (!step.is_none() && step.dim().value_or(1) <= 0) {
          fail(b, ErrorKind::kValue, "slice-step", "step must be greater than zero");
        }
        // A slice of everything changes nothing but the object's identity.
        const bool whole = (start.is_none() || start == Arg(0)) && stop.is_none() &&
                           (step.is_none() || step == Arg(1));
        if (!whole) out.view = slice(out.view, dim, start, stop, step.is_none() ? Arg(1) : step);
        ++dim;
        break;
      }
      case Arg::Kind::kEllipsis:
        // A second ellipsis covers nothing more, as in eager.
        if (!had_ellipsis) dim += ndim - used;
        had_ellipsis = true;
        break;
      case Arg::Kind::kNone:
        out.view = unsqueeze(out.view, dim);
        ++dim;
        break;
      case Arg::Kind::kBool: throw Unsupported("a bool as index");
      case Arg::Kind::kProxy: {
        const TensorProxy* t = a.tensor();
        if (!t) throw Unsupported("a computed number as index");
        if (t->type.ndim() == 0 && is_integral(t->type.dtype)) {
          throw Unsupported("a 0-d index tensor, whose value selects");
        }
        if (is_mask(*t) && t->type.ndim() != 1) {
          // A mask takes as many dimensions as it has.
          put(a);
          dim += static_cast<int64_t>(t->type.ndim()) - 1;
          break;
        }
        put(a);
        break;
      }
      case Arg::Kind::kString: throw Unsupported("a string as index");
      case Arg::Kind::kTuple:  // inside of a tuple it is a list of indices
      case Arg::Kind::kList: put(index_tensor(b, a, tensor_of(tensor).type.device)); break;
      default:
        fail(b, ErrorKind::kIndex, "index-type",
             "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are "
             "valid indices");
    }
  }
  return out;
}

bool has_wide_mask(const Indexed& indexed) {
  for (const Arg& t : indexed.tensors) {
    if (t.is_tensor() && is_mask(tensor_of(t)) && tensor_of(t).type.ndim() != 1) return true;
  }
  return false;
}

Arg inplace(Builder& b, const Symbol& row, std::initializer_list<Arg> args) {
  return b.call(*row.info->inplace, std::span<const Arg>(args.begin(), args.size()));
}

// Eager drops leading dimensions of size 1 from a value before it broadcasts.
Arg without_leading_ones(Builder& b, const Arg& value) {
  const TensorType& t = tensor_of(value).type;
  size_t ones = 0;
  while (ones < t.ndim() && is_one(t.shape[ones])) ++ones;
  if (ones == 0) return value;
  Args shape;
  for (size_t d = ones; d < t.ndim(); ++d) shape.push_back(Arg(t.shape[d]));
  return view(value, b.ctx().make_collection(Arg::Kind::kTuple, shape));
}

bool repeats(const TensorType& t) {
  for (size_t i = 0; i < t.ndim(); ++i) {
    if (is_zero(t.strides[i]) && t.shape[i].value_or(2) > 1) return true;
  }
  return false;
}

}  // namespace

Arg getitem(Builder& b, const Arg& tensor, const Arg& index) {
  const Indexed indexed = apply_views(b, tensor, index);
  if (indexed.tensors.empty()) {
    const bool untouched = indexed.view.proxy() == tensor.proxy();
    return untouched ? alias(tensor) : indexed.view;
  }
  for (const Arg& t : indexed.tensors) {
    if (t.is_tensor() && is_mask(tensor_of(t))) throw Unsupported("a mask as index");
  }
  return ops::index(indexed.view, b.ctx().make_collection(Arg::Kind::kList, indexed.tensors));
}

Arg setitem(Builder& b, const Arg& tensor, const Arg& index, const Arg& value) {
  const Indexed indexed = apply_views(b, tensor, index);
  const DType dtype = tensor_of(tensor).type.dtype;
  Arg source = value;
  if (indexed.tensors.empty()) {
    // Eager copies a number as well, and a copy refuses what a fill does not.
    if (repeats(tensor_of(indexed.view).type)) throw Unsupported("a write to an expanded tensor");
    if (value.is_number()) {
      if (value.kind() == Arg::Kind::kComplex && !is_complex(dtype)) {
        throw Unsupported("a complex value for a real tensor");
      }
      return inplace(b, fill, {indexed.view, value});
    }
    if (!value.is_tensor()) throw Unsupported("a value that is not a tensor or number");
    const TensorType &target = tensor_of(indexed.view).type, &given = tensor_of(value).type;
    if (!(target.shape == given.shape)) {
      if (given.ndim() == 0 && given.device.type == DeviceType::kCPU) {
        return inplace(b, fill_tensor, {indexed.view, value});
      }
      source = without_leading_ones(b, value);
    }
    return inplace(b, copy, {indexed.view, source, Arg(false)});
  }
  if (has_wide_mask(indexed)) {
    // index_put_ counts a mask's dimensions itself; only a mask alone is simple.
    if (indexed.tensors.size() != 1) throw Unsupported("a mask of several dimensions");
  }
  if (value.is_number()) {
    if (value.kind() == Arg::Kind::kComplex && !is_complex(dtype)) {
      throw Unsupported("a complex value for a real tensor");
    }
    source = scalar_tensor_like(b, value, tensor_of(tensor).type);
  } else if (!value.is_tensor()) {
    throw Unsupported("a value that is not a tensor or number");
  } else {
    source = without_leading_ones(b, value);
  }
  return inplace(b, index_put,
                 {indexed.view, b.ctx().make_collection(Arg::Kind::kList, indexed.tensors), source,
                  Arg(false)});
}

}  // namespace fulmen::ops
