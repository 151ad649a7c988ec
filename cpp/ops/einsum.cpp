#include "ops/einsum.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "ops/arith.h"
#include "ops/check.h"
#include "ops/matmul.h"
#include "ops/meta.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

struct Equation {
  SmallVec<std::string_view, 2> operands;
  std::string output;
};

// Spaces removed; the output labels made explicit.
Equation parse(const Call& in, std::string_view text, std::string& storage) {
  for (const char c : text) {
    if (c == '.') in.unsupported("an ellipsis in the equation");
    if (c != ' ') storage.push_back(c);
  }
  std::string_view left = storage;
  Equation eq;
  std::array<int, 128> count{};
  const size_t arrow = storage.find("->");
  if (arrow != std::string::npos) left = left.substr(0, arrow);
  while (true) {
    const size_t comma = left.find(',');
    eq.operands.push_back(left.substr(0, comma));
    if (comma == std::string_view::npos) break;
    left.remove_prefix(comma + 1);
  }
  for (const std::string_view labels : eq.operands) {
    for (const char c : labels) {
      if (!std::isalpha(static_cast<unsigned char>(c))) in.unsupported("equation '", text, "'");
      ++count[static_cast<size_t>(c)];
      if (labels.find(c) != labels.rfind(c)) in.unsupported("a diagonal in the equation");
    }
  }
  if (arrow != std::string::npos) {
    eq.output = storage.substr(arrow + 2);
    for (const char c : eq.output) {
      const bool known =
          std::isalpha(static_cast<unsigned char>(c)) && count[static_cast<size_t>(c)];
      if (!known || eq.output.find(c) != eq.output.rfind(c)) {
        in.unsupported("equation '", text, "'");
      }
    }
  } else {
    for (size_t c = 0; c < count.size(); ++c) {
      if (count[c] == 1) eq.output.push_back(static_cast<char>(c));
    }
  }
  return eq;
}

int64_t size_of(const TensorType& t, std::string_view labels, char c) {
  const size_t i = labels.find(c);
  return i == std::string_view::npos ? 1 : t.shape[i].value();
}

// In alphabetical order: ATen's operands have the output labels first, then these.
std::string summed_labels(const Equation& eq) {
  std::string summed;
  for (int c = 'A'; c <= 'z'; ++c) {
    const char label = static_cast<char>(c);
    const bool used = eq.operands[0].find(label) != std::string_view::npos ||
                      eq.operands[1].find(label) != std::string_view::npos;
    if (used && eq.output.find(label) == std::string::npos) summed.push_back(label);
  }
  return summed;
}

// How ATen contracts two operands: output labels of both operands, of one, and of the other, which
// also gets those whose size is 1 in both.
struct Contraction {
  std::string batch, left, right, summed;
  size_t first = 0, second = 1;  // the operands that `left` and `right` are of
};

Contraction contraction_of(const Equation& eq, const TensorType& a, const TensorType& b) {
  Contraction k;
  for (const char c : eq.output) {
    const int64_t x = size_of(a, eq.operands[0], c), y = size_of(b, eq.operands[1], c);
    (x != 1 && y != 1 ? k.batch : x != 1 ? k.left : k.right).push_back(c);
  }
  k.summed = summed_labels(eq);
  // The product is (batch, left, right), or (batch, right, left) where that needs no transposition.
  if (!k.left.empty() && !k.right.empty() &&
      eq.output.find(k.right.back()) < eq.output.find(k.left.front())) {
    std::swap(k.left, k.right);
    std::swap(k.first, k.second);
  }
  return k;
}

// The operand with its dimensions in the order of the groups, each flattened. Labels that it lacks,
// and dimensions that no group names, have size 1.
Arg grouped(Call& in, const TensorProxy& t, std::string_view own,
            std::initializer_list<std::string_view> groups) {
  Args order;
  Dims sizes;
  std::vector<bool> taken(own.size());
  const auto take = [&](size_t i) {
    taken[i] = true;
    order.push_back(Arg(static_cast<int64_t>(i)));
  };
  for (const std::string_view group : groups) {
    Dim size = 1;
    for (const char c : group) {
      const size_t i = own.find(c);
      if (i == std::string_view::npos) continue;
      take(i);
      size = size * t.type.shape[i];
    }
    sizes.push_back(size);
  }
  for (size_t i = 0; i < own.size(); ++i) {
    if (!taken[i]) take(i);
  }
  const Arg ordered = record(permute, {&t, in.list(order)});
  return record(reshape, {ordered, in.dims_arg(sizes)});
}

}  // namespace

// As ATen contracts two operands: flattened to one product of batches.
Arg einsum_steps(Call& in) {
  const auto tensors = in.tensors("operands");
  std::string storage;
  const Equation eq = parse(in, in.text("equation"), storage);
  if (tensors.size() != 2 || eq.operands.size() != 2) in.unsupported("other than two operands");
  const Contraction k = contraction_of(eq, tensors[0]->type, tensors[1]->type);
  // In this order, which is that of the gradients too.
  const Arg left =
      grouped(in, *tensors[k.first], eq.operands[k.first], {k.batch, k.left, k.summed});
  const Arg right =
      grouped(in, *tensors[k.second], eq.operands[k.second], {k.batch, k.summed, k.right});
  const Arg product = bmm(left, right);
  // The summed dimensions stay as ones until the end.
  const std::string made = k.batch + k.left + k.summed + k.right;
  const std::string wanted = eq.output + k.summed;
  Dims sizes, shape;
  const auto size = [&](char c) {
    return std::max(size_of(tensors[0]->type, eq.operands[0], c),
                    size_of(tensors[1]->type, eq.operands[1], c));
  };
  for (const char c : made) {
    const bool gone = k.summed.find(c) != std::string::npos;
    sizes.push_back(gone ? Dim(1) : Dim(size(c)));
  }
  for (const char c : eq.output) shape.push_back(Dim(size(c)));
  Args order;
  for (const char c : wanted) order.push_back(Arg(static_cast<int64_t>(made.find(c))));
  const Arg full = record(permute, {record(view, {product, in.dims_arg(sizes)}), in.list(order)});
  return record(view, {full, in.dims_arg(shape)});
}

Arg einsum_meta(Call& in) {
  const auto tensors = in.tensors("operands");
  if (tensors.size() != 2) in.unsupported("other than two operands");
  std::string storage;
  const Equation eq = parse(in, in.text("equation"), storage);
  if (eq.operands.size() != 2) in.unsupported("another number of operands than the equation has");
  for (size_t i = 0; i < 2; ++i) {
    if (eq.operands[i].size() != tensors[i]->type.ndim()) in.unsupported("labels and rank differ");
  }
  const TensorType& a = tensors[0]->type;
  const TensorType& b = tensors[1]->type;
  check::same_dtype(in, {tensors[0], tensors[1]});
  const Contraction k = contraction_of(eq, a, b);
  Dims shape;
  for (const char c : eq.output) {
    const int64_t x = size_of(a, eq.operands[0], c), y = size_of(b, eq.operands[1], c);
    const bool both = eq.operands[0].find(c) != std::string_view::npos &&
                      eq.operands[1].find(c) != std::string_view::npos;
    if (both && x != y) in.unsupported("sizes that broadcast, or do not fit");
    if (x == 0 || y == 0) in.unsupported("a size of 0");
    shape.push_back(Dim(std::max(x, y)));
  }
  for (const char c : k.summed) {
    const int64_t x = size_of(a, eq.operands[0], c), y = size_of(b, eq.operands[1], c);
    if (x != y) in.unsupported("a label summed in one operand");
    if (x <= 1) in.unsupported("a summed size of 0 or 1");
  }
  // Without a label to contract ATen multiplies and leaves the order to TensorIterator.
  if (k.summed.empty()) in.unsupported("nothing to contract");
  TensorType full;
  full.dtype = a.dtype;
  if (full.dtype == DType::kBool) in.unsupported("a product of bool tensors");
  full.device = check::device(in, {tensors[0], tensors[1]});
  full.shape = shape;
  full.shape.resize(shape.size() + k.summed.size(), Dim(1));
  full.strides = full.shape;
  const std::string made = k.batch + k.left + k.summed + k.right;
  const std::string wanted = eq.output + k.summed;
  Dim step = 1;
  for (size_t i = made.size(); i-- > 0;) {
    const size_t at = wanted.find(made[i]);
    full.strides[at] = step;
    step = step * full.shape[at];
  }
  const std::optional<Dims> strides = meta::view_strides(full, shape);
  if (!strides) in.unsupported("a result that is no view of the product");
  TensorType out = full;
  out.shape = shape;
  out.strides = *strides;
  return in.make(std::move(out));
}

}  // namespace fulmen::ops
