#include "ir/printer.h"

#include <doctest/doctest.h>

#include "ir/builder.h"
#include "ir/control.h"
#include "ops/activation.h"
#include "ops/pointwise.h"
#include "ops/registry.h"

namespace fulmen {
namespace {

TensorType contiguous(DType dtype, std::initializer_list<Dim> shape) {
  TensorType t;
  t.dtype = dtype;
  t.shape = Dims(shape);
  t.strides = contiguous_strides(t.shape);
  return t;
}

TEST_CASE("a printed trace shows types, source lines, executors and deletions") {
  Registry::get();
  Trace trace;
  trace.ctx = std::make_shared<TraceContext>();
  trace.provenance = "Constructed by hand";
  Builder b(trace.ctx);
  TensorType type = contiguous(DType::kFloat32, {2, 3});
  TensorProxy* x = trace.ctx->make_tensor(type, "x");
  type.requires_grad = true;
  type.strides = {1, 2};
  TensorProxy* w = trace.ctx->make_tensor(type, "w");
  w->is_leaf = true;
  trace.inputs = {x, w, trace.ctx->make_number(NumberType::kInt, 5, "n")};
  b.source = trace.ctx->make_source({"dir/model.py", 41, "forward"});
  const Arg sum = ops::add(x, w);
  b.source = nullptr;
  ops::relu(sum);
  const Arg args[] = {Arg(x), Arg(2)};
  b.call(*ops::mul.info->inplace, args);
  const Arg dead[] = {sum};
  const Arg del[] = {trace.ctx->make_collection(Arg::Kind::kTuple, dead)};
  b.call(del_last_used, del);
  trace.body = b.body();
  const_cast<BoundSymbol*>(trace.body[1])->executor = "aten";
  const Arg out[] = {trace.body[1]->output, Arg("a\nb"), Arg(1e-5)};
  trace.output = trace.ctx->make_collection(Arg::Kind::kTuple, out);
  const std::string text = to_python(trace);
  CHECK(to_python(parse_trace(text, registry_resolver())) == text);
  CHECK(text == R"py(# Constructed by hand
import torch

def computation(x, w, n):
  # x: f32[2, 3]
  # w: f32[2, 3]{1, 2} grad leaf
  # n: int 5
  t0 = torch.add(x, w)  # t0: f32[2, 3] grad  dir/model.py:41 in forward
  t1 = torch.relu(t0)  # t1: f32[2, 3] grad  @aten
  t3 = torch.Tensor.mul_(x, 2)  # t3: f32[2, 3] view of x
  del t0
  return (t1, 'a\nb', 1e-05)
)py");
}

}  // namespace
}  // namespace fulmen
