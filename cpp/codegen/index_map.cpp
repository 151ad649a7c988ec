#include "codegen/index_map.h"

#include <algorithm>

#include "ops/meta.h"

namespace fulmen::codegen {

Sizes sizes_of(const TensorType& t) {
  Sizes sizes;
  for (const Dim d : t.shape) sizes.push_back(d.value());
  return sizes;
}

IndexMap broadcast_map(const IndexMap& map, const TensorType& result, const TensorType& own) {
  const size_t n = own.ndim(), extra = map.size() - n;
  IndexMap out;
  for (size_t i = 0; i < n; ++i) {
    const bool stays = own.shape[i].value() != 1 || result.shape[extra + i].value() == 1;
    out.push_back(stays ? map[extra + i] : Affine());
  }
  return out;
}

IndexMap reshape_map(const Sizes& base, const Sizes& view, const IndexMap& map) {
  IndexMap out(base.size());
  size_t v = 0;
  for (size_t b = 0; b < base.size(); ++b) {
    if (base[b] == 1) continue;
    int64_t seen = 1;
    Affine& index = out[b];
    while (seen < base[b]) {
      if (v == view.size()) refuse("a reshape that joins dimensions");
      const int64_t size = view[v];
      if (size != 1) {
        seen *= size;
        index.start = index.start * size + map[v].start;
        index.factors.resize(std::max(index.factors.size(), map[v].factors.size()), 0);
        for (size_t i = 0; i < index.factors.size(); ++i) {
          const int64_t own = i < map[v].factors.size() ? map[v].factors[i] : 0;
          index.factors[i] = index.factors[i] * size + own;
        }
      }
      ++v;
    }
    if (seen != base[b]) refuse("a reshape that joins dimensions");
  }
  return out;
}

// Whether each dimension of the base is one of the view's, or several.
bool splits_only(const Sizes& base, const Sizes& view) {
  try {
    reshape_map(base, view, IndexMap(view.size()));
  } catch (const Refusal&) {
    return false;
  }
  return true;
}

IndexMap view_map(const BoundSymbol& bsym, Form form, const TensorType& base,
                  const TensorType& view, const IndexMap& map, Builder& builder) {
  IndexMap out;
  Call call(*bsym.symbol, bsym.args, builder);
  switch (form) {
    case Form::kIdentity: return map;
    case Form::kExpand: return broadcast_map(map, view, base);
    case Form::kPermute:
      out.resize(map.size());
      for (size_t i = 0; i < map.size(); ++i) out[permutation(bsym, i)] = map[i];
      return out;
    case Form::kSelect:
    case Form::kNarrow:
    case Form::kSlice: {
      const auto d = static_cast<size_t>(meta::wrap_dim(call, call.integer("dim"), base.ndim()));
      out = map;
      const int64_t size = base.shape[d].value();
      int64_t start = 0, step = 1;
      if (form == Form::kSelect) {
        out.insert(out.begin() + static_cast<ptrdiff_t>(d), Affine());
        start = call.integer("index");
      } else {
        if (call.has("start")) start = call.integer("start");
        if (form == Form::kSlice) step = call.integer("step");
      }
      if (start < 0) start += size;
      out[d].start = out[d].start * step + std::clamp<int64_t>(start, 0, size);
      for (int64_t& f : out[d].factors) f *= step;
      return out;
    }
    case Form::kReshape: return reshape_map(sizes_of(base), sizes_of(view), map);
    default: refuse(bsym.symbol->name(), " is no view that is fused");
  }
}

IndexMap part_map(const BoundSymbol& bsym, const Proxy* part, const IndexMap& map,
                  Builder& builder) {
  Call call(*bsym.symbol, bsym.args, builder);
  const auto d = static_cast<size_t>(meta::wrap_dim(call, call.integer("dim"), map.size()));
  IndexMap out = map;
  bool found = false;
  for_each_proxy(bsym.output, [&](const Proxy* p) {
    found = found || p == part;
    if (!found) out[d].start += as_tensor(p)->type.shape[d].value();
  });
  return out;
}

}  // namespace fulmen::codegen
