#include "ops/einsum.h"

#include <array>
#include <optional>
#include <string>

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

// The operand with its dimensions in the order of `labels`, three groups of them flattened.
Arg grouped(Call& in, const TensorProxy& t, std::string_view own,
            std::initializer_list<std::string_view> groups) {
  Args order;
  Dims sizes;
  for (const std::string_view group : groups) {
    Dim size = 1;
    for (const char c : group) {
      const size_t i = own.find(c);
      order.push_back(Arg(static_cast<int64_t>(i)));
      size = size * t.type.shape[i];
    }
    sizes.push_back(size);
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
  std::string batch, left, right;
  for (const char c : eq.output) {
    const bool x = eq.operands[0].find(c) != std::string_view::npos;
    const bool y = eq.operands[1].find(c) != std::string_view::npos;
    (x && y ? batch : x ? left : right).push_back(c);
  }
  const std::string summed = summed_labels(eq);
  size_t first = 0, second = 1;
  if (!left.empty() && !right.empty() &&
      eq.output.find(right.back()) < eq.output.find(left.front())) {
    std::swap(left, right);
    std::swap(first, second);
  }
  const Arg product =
      bmm(grouped(in, *tensors[first], eq.operands[first], {batch, left, summed}),
          grouped(in, *tensors[second], eq.operands[second], {batch, summed, right}));
  const std::string made = batch + left + right;
  Dims sizes;
  Args order;
  for (const char c : made) {
    const size_t from = eq.operands[first].find(c) != std::string_view::npos ? first : second;
    sizes.push_back(tensors[from]->type.shape[eq.operands[from].find(c)]);
  }
  for (const char c : eq.output) order.push_back(Arg(static_cast<int64_t>(made.find(c))));
  const Arg out = record(view, {product, in.dims_arg(sizes)});
  return record(permute, {out, in.list(order)});
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
  const std::string summed = summed_labels(eq);
  Dims shape;
  SmallVec<size_t, 8> batch, left, right;
  for (size_t i = 0; i < eq.output.size(); ++i) {
    const char c = eq.output[i];
    const int64_t x = size_of(a, eq.operands[0], c), y = size_of(b, eq.operands[1], c);
    // How ATen groups dimensions of size 1 is not known here.
    if (x == 1 && y == 1) in.unsupported("a size of 1");
    if (x != y && x != 1 && y != 1) in.unsupported("sizes that do not fit");
    shape.push_back(Dim(x == 1 ? y : x));
    (x != 1 && y != 1 ? batch : x != 1 ? left : right).push_back(i);
  }
  for (const char c : summed) {
    const int64_t x = size_of(a, eq.operands[0], c), y = size_of(b, eq.operands[1], c);
    if (x != y) in.unsupported("a label summed in one operand");
    if (x <= 1) in.unsupported("a size of 0 or 1");
  }
  // Without a label to contract ATen multiplies and leaves the order to TensorIterator.
  if (summed.empty()) in.unsupported("nothing to contract");
  // bmm gives (batch, left, right), or (batch, right, left) where that needs no transposition.
  if (!left.empty() && !right.empty() && right.back() < left[0]) std::swap(left, right);
  SmallVec<size_t, 8> order;
  for (const auto* group : {&batch, &left, &right}) {
    for (const size_t i : *group) order.push_back(i);
  }
  TensorType out;
  out.dtype = a.dtype;
  if (out.dtype == DType::kBool) in.unsupported("a product of bool tensors");
  out.device = check::device(in, {tensors[0], tensors[1]});
  out.shape = shape;
  out.strides = Dims(shape.size(), Dim(1));
  Dim step = 1;
  for (size_t k = order.size(); k-- > 0;) {
    out.strides[order[k]] = step;
    step = step * (is_zero(shape[order[k]]) ? Dim(1) : shape[order[k]]);
  }
  for (const TensorProxy* t : tensors) {
    for (const Dim d : t->type.shape) {
      if (is_one(d) || is_zero(d)) in.unsupported("a size of 0 or 1");
    }
  }
  return in.make(std::move(out));
}

}  // namespace fulmen::ops
