#include "ops/arith.h"

#include "ops/meta.h"

namespace fulmen::ops {

const Arg& real_grad(const Call& in, const Arg& grad) {
  for (const Arg& a : in.args()) {
    if (a.tensor() && is_complex(a.tensor()->type.dtype)) in.unsupported("a complex gradient");
  }
  return grad;
}

Args grads(const Call& in, std::initializer_list<Arg> leading) {
  Args out(leading);
  out.resize(in.size());
  return out;
}

Args first_grad(const Call& in, const Arg& grad) { return grads(in, {real_grad(in, grad)}); }

Arg record(const Symbol& symbol, std::initializer_list<Arg> all) {
  return Builder::current().call(symbol, {all.begin(), all.size()});
}

Arg converted(const Arg& a, DType dtype) {
  return a.tensor()->type.dtype == dtype ? a : record(convert, {a, dtype});
}

Arg scaled(const Arg& a, const Arg& factor) {
  const bool ints =
      !a.is_tensor() && a.kind() != Arg::Kind::kFloat && factor.kind() != Arg::Kind::kFloat;
  if (factor.kind() == Arg::Kind::kInt && factor.integer() == 1) return a;
  if (a.is_tensor()) return mul(a, factor);
  const auto simple = [](const Arg& n) {
    return n.kind() == Arg::Kind::kBool || n.kind() == Arg::Kind::kInt ||
           n.kind() == Arg::Kind::kFloat;
  };
  if (!simple(a) || !simple(factor)) throw Unsupported("a product of these numbers");
  if (ints) return Arg(a.integer() * factor.integer());
  const auto real = [](const Arg& n) {
    return n.kind() == Arg::Kind::kFloat ? n.real() : static_cast<double>(n.integer());
  };
  return Arg(real(a) * real(factor));
}

namespace {
DType common_dtype(const Call& in) {
  Args tensors;
  for (const Arg& a : in.args()) {
    if (a.is_tensor()) tensors.push_back(a);
  }
  return meta::result_type(in, tensors);
}
}  // namespace

Opmath::Opmath(DType common)
    : common_(common), half_(common == DType::kFloat16 || common == DType::kBFloat16) {}

Opmath::Opmath(Call& in) : Opmath(common_dtype(in)) {}

Arg Opmath::up(const Arg& a) const { return half_ ? converted(a, DType::kFloat32) : a; }
Arg Opmath::down(const Arg& a) const { return half_ ? converted(a, common_) : a; }

}  // namespace fulmen::ops
