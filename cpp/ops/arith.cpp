#include "ops/arith.h"

#include "ir/builder.h"

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

Arg Opmath::up(const Arg& a) {
  const TensorProxy* t = a.tensor();
  if (!t || (t->type.dtype != DType::kFloat16 && t->type.dtype != DType::kBFloat16)) return a;
  if (!low_) low_ = t->type.dtype;
  return converted(a, DType::kFloat32);
}

Arg Opmath::down(const Arg& a) {
  return low_ ? converted(a, *low_) : a;
}

}  // namespace fulmen::ops
