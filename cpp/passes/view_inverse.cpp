#include "passes/view_inverse.h"

#include <algorithm>

#include "ir/builder.h"
#include "passes/emit.h"
#include "support/error.h"

namespace fulmen::passes {
namespace {

enum class Kind : uint8_t {
  kReshape,    // the same elements in the same order
  kTranspose,  // undone by the same call
  kPermute,
  kMoveDim,
  kSelect,
  kNarrow,
  kSlice,
  kSplit,  // consecutive ranges of `dim`
  kUnbind,
  kDiagonal,
  kDetach,
};

struct Row {
  std::string_view name;  // without overload
  Kind kind;
  int dim = -1;  // kSplit without a parameter `dim`
};

// Views that are missing here can be read and replayed, but a write through them ends the
// functionalization when the base is read again.
constexpr Row kRows[] = {
    {"view", Kind::kReshape},         {"view_as", Kind::kReshape},
    {"reshape", Kind::kReshape},      {"reshape_as", Kind::kReshape},
    {"flatten", Kind::kReshape},      {"unflatten", Kind::kReshape},
    {"ravel", Kind::kReshape},        {"squeeze", Kind::kReshape},
    {"unsqueeze", Kind::kReshape},    {"atleast_1d", Kind::kReshape},
    {"atleast_2d", Kind::kReshape},   {"atleast_3d", Kind::kReshape},
    {"expand", Kind::kReshape},       {"expand_as", Kind::kReshape},
    {"broadcast_to", Kind::kReshape}, {"alias", Kind::kReshape},
    {"transpose", Kind::kTranspose},  {"t", Kind::kTranspose},
    {"numpy_T", Kind::kTranspose},    {"matrix_H", Kind::kTranspose},
    {"mT", Kind::kTranspose},         {"mH", Kind::kTranspose},
    {"adjoint", Kind::kTranspose},    {"permute", Kind::kPermute},
    {"movedim", Kind::kMoveDim},      {"select", Kind::kSelect},
    {"narrow", Kind::kNarrow},        {"slice", Kind::kSlice},
    {"split", Kind::kSplit},          {"split_with_sizes", Kind::kSplit},
    {"chunk", Kind::kSplit},          {"tensor_split", Kind::kSplit},
    {"hsplit", Kind::kSplit, 1},      {"vsplit", Kind::kSplit, 0},
    {"dsplit", Kind::kSplit, 2},      {"unbind", Kind::kUnbind},
    {"diagonal", Kind::kDiagonal},    {"detach", Kind::kDetach},
    {"data", Kind::kDetach},
};

const Row* find(const BoundSymbol& view) {
  const std::string_view full = view.symbol->name();
  if (full == "view.dtype") return nullptr;
  const std::string_view name = full.substr(0, full.find('.'));
  for (const Row& row : kRows) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

int64_t wrapped_dim(int64_t dim, const TensorType& t) {
  return dim < 0 ? dim + static_cast<int64_t>(t.ndim()) : dim;
}

// The position of `result` among the outputs, and how much of `dim` the outputs before it take.
struct Place {
  int64_t index = -1, before = 0, total = 0;
};
Place place_of(const BoundSymbol& view, const TensorProxy* result, int64_t dim, bool has_dim) {
  Place place;
  int64_t i = 0;
  for_each_proxy(view.output, [&](const Proxy* p) {
    if (p == result) {
      place.index = i;
      place.before = place.total;
    }
    if (has_dim) place.total += as_tensor(p)->type.shape[dim].value();
    ++i;
  });
  return place;
}

std::optional<Window> window_of(const Row& row, const BoundSymbol& view, const TensorProxy* result,
                                const TensorType& base) {
  const auto dim_of = [&] { return wrapped_dim(view.arg("dim").integer(), base); };
  const auto bound = [&](const Arg& a, int64_t otherwise, int64_t size) {
    if (a.is_none()) return otherwise;
    const int64_t v = a.dim().value();
    return std::clamp<int64_t>(v < 0 ? v + size : v, 0, size);
  };
  switch (row.kind) {
    case Kind::kSelect: {
      const int64_t dim = dim_of(), size = base.shape[dim].value();
      int64_t index = view.arg("index").dim().value();
      if (index < 0) index += size;
      return Window{dim, index, index + 1, 1, false};
    }
    case Kind::kNarrow: {
      if (!view.arg("start").is_int()) return std::nullopt;
      const int64_t dim = dim_of(), size = base.shape[dim].value();
      int64_t start = view.arg("start").dim().value();
      if (start < 0) start += size;
      return Window{dim, start, start + view.arg("length").dim().value(), 1, true};
    }
    case Kind::kSlice: {
      const int64_t dim = dim_of(), size = base.shape[dim].value();
      const int64_t start = bound(view.arg("start"), 0, size);
      const int64_t end = std::max(start, bound(view.arg("end"), size, size));
      return Window{dim, start, end, view.arg("step").dim().value(), true};
    }
    case Kind::kSplit: {
      int64_t dim = row.dim < 0 ? dim_of() : row.dim;
      if (row.dim == 1 && base.ndim() == 1) dim = 0;
      const Place place = place_of(view, result, dim, true);
      // Sections that overlap or leave something out do not add up.
      if (place.index < 0 || place.total != base.shape[dim].value()) return std::nullopt;
      return Window{dim, place.before, place.before + result->type.shape[dim].value(), 1, true};
    }
    case Kind::kUnbind: {
      const Place place = place_of(view, result, 0, false);
      if (place.index < 0) return std::nullopt;
      return Window{dim_of(), place.index, place.index + 1, 1, false};
    }
    default: return std::nullopt;
  }
}

Arg dims_arg(std::span<const Dim> dims) {
  Args items;
  for (const Dim d : dims) items.push_back(Arg(d));
  return Builder::current().ctx().make_collection(Arg::Kind::kList, items);
}

// `view` called on `value` instead of its base.
Arg same_call(const BoundSymbol& view, const TensorProxy* value) {
  Args args{view.args};
  args[0] = Arg(value);
  return Builder::current().call(*view.symbol, args);
}

}  // namespace

std::optional<Window> window_of(const BoundSymbol& view, const TensorProxy* result,
                                const TensorType& base) {
  const Row* row = find(view);
  return row ? window_of(*row, view, result, base) : std::nullopt;
}

const TensorProxy* write_through(const BoundSymbol& view, const TensorProxy* result,
                                 const TensorProxy* base, const TensorProxy* value) {
  const Row* row = find(view);
  if (!row) return nullptr;
  const TensorType& type = base->type;
  switch (row->kind) {
    case Kind::kReshape:
      // An expanded view shows an element several times.
      if (!(numel(result->type) == numel(type))) return nullptr;
      // Of another name, so that gradients of the base and of the view add up apart, as in eager.
      if (result->type.shape == type.shape) return emit("alias", {value}).tensor();
      return emit("reshape", {value, dims_arg(type.shape)}).tensor();
    case Kind::kTranspose:
      if (is_complex(type.dtype) &&
          (row->name == "mH" || row->name == "matrix_H" || row->name == "adjoint")) {
        return nullptr;  // conjugates as well
      }
      return same_call(view, value).tensor();
    case Kind::kPermute: {
      const auto order = view.arg("dims").items();
      Args inverse(order.size(), Arg(0));
      for (size_t i = 0; i < order.size(); ++i) {
        inverse[wrapped_dim(order[i].integer(), type)] = Arg(static_cast<int64_t>(i));
      }
      return emit("permute",
                  {value, Builder::current().ctx().make_collection(Arg::Kind::kList, inverse)})
          .tensor();
    }
    case Kind::kMoveDim:
      return emit("movedim", {value, view.arg("destination"), view.arg("source")}).tensor();
    case Kind::kDiagonal:
      return emit("diagonal_scatter",
                  {base, value, view.arg("offset"), view.arg("dim1"), view.arg("dim2")})
          .tensor();
    case Kind::kDetach:
      // The write changes the base's data behind autograd's back, which no functional operation
      // does.
      return base->type.requires_grad || value->type.requires_grad ? nullptr : value;
    case Kind::kSelect:
    case Kind::kNarrow:
    case Kind::kSlice:
    case Kind::kSplit:
    case Kind::kUnbind: {
      const auto w = window_of(*row, view, result, type);
      if (!w) return nullptr;
      if (!w->keeps_dim) {
        return emit("select_scatter", {base, value, Arg(w->dim), Arg(w->start)}).tensor();
      }
      return emit("slice_scatter",
                  {base, value, Arg(w->dim), Arg(w->start), Arg(w->end), Arg(w->step)})
          .tensor();
    }
  }
  return nullptr;
}

}  // namespace fulmen::passes
