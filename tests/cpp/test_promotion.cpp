#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "ir/builder.h"
#include "ops/registry.h"

// Results that eager PyTorch gives for the same arguments.
namespace fulmen {
namespace {

struct Fixture {
  std::shared_ptr<TraceContext> ctx = std::make_shared<TraceContext>();
  Builder builder{ctx};

  Arg tensor(DType dtype, std::initializer_list<Dim> shape,
             std::initializer_list<Dim> strides = {}) {
    TensorType type;
    type.dtype = dtype;
    type.shape = Dims(shape);
    type.strides = strides.size() ? Dims(strides) : contiguous_strides(type.shape);
    return ctx->make_tensor(type);
  }
  Arg list(std::initializer_list<int64_t> values) {
    Args items;
    for (const int64_t v : values) items.push_back(Arg(v));
    return ctx->make_collection(Arg::Kind::kList, items);
  }
  Arg call(std::string_view row, std::initializer_list<Arg> args) {
    return Registry::get().find(row)->record({args.begin(), args.size()});
  }
  void check(std::string_view row, std::initializer_list<Arg> args, std::string_view expected) {
    CAPTURE(row);
    std::string text;
    for_each_proxy(call(row, args), [&](const Proxy* p) {
      if (!text.empty()) text += ' ';
      append(text, as_tensor(p)->type);
    });
    CHECK(text == expected);
  }
};

template <class F>
ErrorKind error_of(F&& f) {
  try {
    f();
  } catch (const UserError& e) {
    return e.kind();
  }
  FAIL("no UserError");
  return ErrorKind::kRuntime;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "dtypes of two tensors are promoted") {
  check("add", {tensor(DType::kUInt8, {2}), tensor(DType::kInt8, {2})}, "i16[2]");
  check("add", {tensor(DType::kBool, {2}), tensor(DType::kUInt8, {2})}, "u8[2]");
  check("add", {tensor(DType::kInt32, {2}), tensor(DType::kInt64, {2})}, "i64[2]");
  check("add", {tensor(DType::kInt64, {2}), tensor(DType::kFloat16, {2})}, "f16[2]");
  check("add", {tensor(DType::kFloat16, {2}), tensor(DType::kBFloat16, {2})}, "f32[2]");
  check("add", {tensor(DType::kBFloat16, {2}), tensor(DType::kFloat32, {2})}, "f32[2]");
  check("add", {tensor(DType::kFloat32, {2}), tensor(DType::kFloat64, {2})}, "f64[2]");
  check("add", {tensor(DType::kFloat32, {2}), tensor(DType::kComplex64, {2})}, "c64[2]");
  check("add", {tensor(DType::kFloat64, {2}), tensor(DType::kComplex64, {2})}, "c128[2]");
  check("add", {tensor(DType::kBool, {2}), tensor(DType::kBool, {2})}, "b8[2]");
}

TEST_CASE_FIXTURE(Fixture, "dimensions outrank 0-d tensors and numbers of their category") {
  check("add", {tensor(DType::kFloat32, {2}), tensor(DType::kFloat64, {})}, "f32[2]");
  check("add", {tensor(DType::kFloat16, {2}), tensor(DType::kFloat32, {})}, "f16[2]");
  check("add", {tensor(DType::kInt32, {2}), tensor(DType::kInt64, {})}, "i32[2]");
  check("add", {tensor(DType::kInt32, {2}), tensor(DType::kFloat32, {})}, "f32[2]");
  check("add", {tensor(DType::kBool, {2}), tensor(DType::kUInt8, {})}, "u8[2]");
  check("add", {tensor(DType::kFloat32, {2}), tensor(DType::kComplex64, {})}, "c64[2]");
  check("add", {tensor(DType::kBFloat16, {2}), tensor(DType::kInt64, {})}, "bf16[2]");
  check("mul", {tensor(DType::kUInt8, {2}), Arg(300)}, "u8[2]");
  check("mul", {tensor(DType::kUInt8, {2}), Arg(2.5)}, "f32[2]");
  check("mul", {tensor(DType::kBool, {2}), Arg(true)}, "b8[2]");
  check("mul", {tensor(DType::kBool, {2}), Arg(3)}, "i64[2]");
  check("mul", {tensor(DType::kFloat16, {2}), Arg(2.5)}, "f16[2]");
  check("mul", {tensor(DType::kInt64, {2}), Arg(true)}, "i64[2]");
  check("mul", {tensor(DType::kInt64, {}), Arg(2.5)}, "f32[]");
  check("mul", {tensor(DType::kFloat16, {}), tensor(DType::kFloat32, {})}, "f32[]");
}

TEST_CASE_FIXTURE(Fixture, "some results have a dtype of their own") {
  check("div", {tensor(DType::kInt64, {2}), tensor(DType::kInt32, {2})}, "f32[2]");
  check("sqrt", {tensor(DType::kBool, {2})}, "f32[2]");
  check("abs", {tensor(DType::kComplex64, {2})}, "f32[2]");
  check("eq", {tensor(DType::kComplex64, {2}), Arg(1)}, "b8[2]");
  check("pow", {tensor(DType::kBool, {2}), Arg(2)}, "i64[2]");
  check("clamp", {tensor(DType::kInt64, {2}), Arg(0.5)}, "f32[2]");
  check("sum", {tensor(DType::kUInt8, {2})}, "i64[]");
  check("all", {tensor(DType::kUInt8, {2})}, "u8[]");
  check("all", {tensor(DType::kFloat32, {2})}, "b8[]");
  check("argmax", {tensor(DType::kFloat32, {2})}, "i64[]");
  check("var", {tensor(DType::kComplex64, {2})}, "f32[]");
  check("where",
        {tensor(DType::kBool, {2}), tensor(DType::kInt64, {2}), tensor(DType::kFloat16, {2})},
        "f16[2]");
  check("float_power", {tensor(DType::kFloat16, {2}), Arg(2)}, "f64[2]");
}

TEST_CASE_FIXTURE(Fixture, "shapes broadcast") {
  check("add", {tensor(DType::kFloat32, {3, 1}), tensor(DType::kFloat32, {1, 4})}, "f32[3, 4]");
  check("add", {tensor(DType::kFloat32, {2, 3, 4}), tensor(DType::kFloat32, {4})}, "f32[2, 3, 4]");
  check("add", {tensor(DType::kFloat32, {}), tensor(DType::kFloat32, {0, 3})}, "f32[0, 3]");
  check("add", {tensor(DType::kFloat32, {0, 1}), tensor(DType::kFloat32, {1, 3})}, "f32[0, 3]");
  check("maximum", {tensor(DType::kFloat32, {5, 1, 2}), tensor(DType::kFloat32, {3, 1})},
        "f32[5, 3, 2]");
}

TEST_CASE_FIXTURE(Fixture, "strides follow the order of the operands") {
  check("exp", {tensor(DType::kFloat32, {2, 3, 4}, {3, 1, 6})}, "f32[2, 3, 4]{3, 1, 6}");
  check("exp", {tensor(DType::kFloat32, {2, 3, 4}, {24, 8, 1})}, "f32[2, 3, 4]");
  check("exp", {tensor(DType::kFloat32, {2, 3, 4}, {4, 0, 1})}, "f32[2, 3, 4]");
  check("exp", {tensor(DType::kFloat32, {2, 4, 3}, {1, 12, 4})}, "f32[2, 4, 3]{1, 6, 2}");
  check("add", {tensor(DType::kFloat32, {2, 3, 4}, {3, 1, 6}), tensor(DType::kFloat32, {2, 3, 4})},
        "f32[2, 3, 4]{3, 1, 6}");
  check("add", {tensor(DType::kFloat32, {2, 3, 4}), tensor(DType::kFloat32, {2, 3, 4}, {3, 1, 6})},
        "f32[2, 3, 4]");
  check("add", {tensor(DType::kFloat32, {2, 3, 4}, {3, 1, 6}), tensor(DType::kFloat32, {4})},
        "f32[2, 3, 4]{3, 1, 6}");
  check("add",
        {tensor(DType::kFloat32, {3, 1, 1}), tensor(DType::kFloat32, {2, 3, 4, 5}, {60, 1, 15, 3})},
        "f32[2, 3, 4, 5]{60, 1, 15, 3}");
  check("add", {tensor(DType::kFloat32, {2, 3, 4, 5}, {60, 1, 15, 3}), Arg(1)},
        "f32[2, 3, 4, 5]{60, 1, 15, 3}");
  check("relu", {tensor(DType::kFloat32, {2, 3, 4, 5}, {60, 1, 15, 3})},
        "f32[2, 3, 4, 5]{60, 1, 15, 3}");
  check("exp", {tensor(DType::kFloat32, {1, 3, 1}, {1, 1, 3})}, "f32[1, 3, 1]");
  check("exp", {tensor(DType::kFloat32, {2, 0, 3}, {1, 2, 2})}, "f32[2, 0, 3]");
  check("add", {tensor(DType::kFloat32, {1, 3, 1}, {1, 1, 3}), Arg(1)}, "f32[1, 3, 1]{1, 1, 3}");
  check("rsub", {tensor(DType::kFloat32, {2, 3, 4}, {3, 1, 6}), tensor(DType::kFloat32, {2, 3, 4})},
        "f32[2, 3, 4]");
  check(
      "add",
      {tensor(DType::kInt64, {2, 3, 4}, {4, 0, 1}), tensor(DType::kFloat32, {2, 3, 4}, {1, 2, 6})},
      "f32[2, 3, 4]");
  check("log_sigmoid", {tensor(DType::kFloat32, {2, 3, 4}, {3, 1, 6})}, "f32[2, 3, 4]");
  check("hardtanh", {tensor(DType::kFloat32, {1, 3, 1}, {1, 1, 3})}, "f32[1, 3, 1]{1, 1, 3}");
}

TEST_CASE_FIXTURE(Fixture, "reductions are contiguous") {
  check("sum.dim", {tensor(DType::kFloat32, {2, 3, 4}, {3, 1, 6}), Arg(1)}, "f32[2, 4]");
  check("sum.dim", {tensor(DType::kFloat32, {2, 3, 4}, {3, 1, 6}), list({0, -1}), Arg(true)},
        "f32[1, 3, 1]");
  check("mean.dim", {tensor(DType::kFloat32, {2, 3, 4, 5}, {60, 1, 15, 3}), Arg(1)},
        "f32[2, 4, 5]");
  check("amax", {tensor(DType::kFloat32, {}), Arg(0)}, "f32[]");
  check("max.dim", {tensor(DType::kFloat32, {2, 3, 4}, {3, 1, 6}), Arg(-1)}, "f32[2, 3] i64[2, 3]");
  check("var_mean.dim", {tensor(DType::kFloat32, {2, 3, 4}, {3, 1, 6}), Arg(0)},
        "f32[3, 4] f32[3, 4]");
  check("softmax", {tensor(DType::kFloat32, {2, 3, 4}, {3, 1, 6}), Arg(-1)}, "f32[2, 3, 4]");
  check("cumsum", {tensor(DType::kInt32, {3, 4}, {1, 3}), Arg(0)}, "i64[3, 4]");
  check("sort", {tensor(DType::kFloat32, {3, 4}, {1, 3}), Arg(0)},
        "f32[3, 4]{1, 3} i64[3, 4]{1, 3}");
  check("topk", {tensor(DType::kFloat32, {3, 4}, {1, 3}), Arg(2)}, "f32[3, 2] i64[3, 2]");
  check("sum", {tensor(DType::kFloat32, {0, 3})}, "f32[]");
}

TEST_CASE_FIXTURE(Fixture, "what eager refuses is refused with its error type") {
  const Arg x = tensor(DType::kFloat32, {2, 3});
  const Arg mask = tensor(DType::kBool, {2, 3});
  CHECK(error_of([&] { call("add", {x, tensor(DType::kFloat32, {4})}); }) == ErrorKind::kRuntime);
  CHECK(error_of([&] { call("sum.dim", {x, 2}); }) == ErrorKind::kIndex);
  CHECK(error_of([&] { call("sum.dim", {x, list({0, -2})}); }) == ErrorKind::kRuntime);
  CHECK(error_of([&] { call("mean", {mask}); }) == ErrorKind::kRuntime);
  CHECK(error_of([&] { call("sub", {mask, mask}); }) == ErrorKind::kRuntime);
  CHECK(error_of([&] { call("clamp", {x}); }) == ErrorKind::kRuntime);
  CHECK(error_of([&] { call("topk", {x, 4}); }) == ErrorKind::kRuntime);
  CHECK(error_of([&] { call("where", {x, x, x}); }) == ErrorKind::kRuntime);
  CHECK_THROWS_AS(call("relu", {mask}), Unsupported);
}

TEST_CASE_FIXTURE(Fixture, "in-place twins keep the dtype and the strides of what they write") {
  const Arg x = tensor(DType::kInt64, {3, 2}, {1, 3});
  check("add_", {x, tensor(DType::kInt32, {2})}, "i64[3, 2]{1, 3}");
  CHECK(error_of([&] { call("add_", {x, 2.5}); }) == ErrorKind::kRuntime);
  CHECK(error_of([&] { call("div_", {x, 2}); }) == ErrorKind::kRuntime);
  CHECK(error_of([&] { call("add_", {x, tensor(DType::kInt64, {4, 1, 1})}); }) ==
        ErrorKind::kRuntime);
}

}  // namespace fulmen
