#include "ops/einsum.h"

#include <array>
#include <optional>
#include <string>

#include "ops/check.h"
#include "ops/meta.h"

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

}  // namespace

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
  // Output labels first, then the summed ones in alphabetical order: ATen's operand layout.
  std::string summed;
  for (int c = 'A'; c <= 'z'; ++c) {
    const char label = static_cast<char>(c);
    const bool used = eq.operands[0].find(label) != std::string_view::npos ||
                      eq.operands[1].find(label) != std::string_view::npos;
    if (used && eq.output.find(label) == std::string::npos) summed.push_back(label);
  }
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
