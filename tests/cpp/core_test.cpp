#include <doctest/doctest.h>

#include "ir/builder.h"
#include "ir/parser.h"
#include "ops/registry.h"

namespace fulmen {
namespace {

template <class T>
std::string text(const T& v) {
  std::string s;
  append(s, v);
  return s;
}

TEST_CASE("schemas parse with their marks and defaults") {
  Arena arena;
  const Schema s = parse_schema(
      "f.x(Tensor! a, int[1]? dim, Tensor|Scalar b=1.5, int[]* rest=(), *, str? mode=None) -> "
      "Tensor",
      arena);
  CHECK(s.name == "f.x");
  REQUIRE(s.params.size() == 5);
  CHECK(s.params[0].mutated);
  CHECK(s.params[1].list_or_one);
  CHECK(s.params[1].optional);
  CHECK(s.params[2].kind == ParamKind::kTensorOrScalar);
  CHECK(*s.params[2].default_value == Arg(1.5));
  CHECK(s.params[3].varargs);
  CHECK(s.params[4].keyword_only);
  CHECK(s.index("mode") == 4);
  CHECK(s.index("none") == -1);
  CHECK_THROWS_AS(parse_schema("f(Tensr a)", arena), InternalError);
  CHECK_THROWS_AS(parse_schema("f(Tensor a", arena), InternalError);
}

TEST_CASE("binding fills defaults and says why a call does not fit") {
  Arena arena;
  Args out;
  std::string why;
  const Schema s = parse_schema("f(int a, int[]* rest, *, device? device=None)", arena);
  const Arg three[] = {Arg(1), Arg(2), Arg(3)};
  REQUIRE(try_bind(s, three, {}, arena, out));
  CHECK(text(out[1]) == "(2, 3)");
  CHECK(out[2].is_none());
  REQUIRE(try_bind(s, {three, 1}, {{"device", Arg("cuda:1")}}, arena, out));
  CHECK(out[2] == Arg(Device{DeviceType::kCUDA, 1}));
  CHECK(!try_bind(s, {}, {}, arena, out, &why));
  CHECK(why == "missing argument 'a'");
  CHECK(!try_bind(s, {three, 1}, {{"a", Arg(1)}}, arena, out, &why));
  CHECK(why == "got multiple values for argument 'a'");
  CHECK(!try_bind(s, {three, 1}, {{"b", Arg(1)}}, arena, out, &why));
  CHECK(why == "unexpected keyword argument");
  const Arg wrong[] = {Arg("x")};
  CHECK(!try_bind(s, wrong, {}, arena, out, &why));
  CHECK(why == "argument 'a' has an unexpected type");
}

TEST_CASE("symbolic dimensions fold what is known and print the rest") {
  Arena arena;
  const DimScope scope(arena);
  const Dim a = symbol(0), b = symbol(1);
  CHECK(text(a + Dim(0)) == "s0");
  CHECK(text(a * b) == "(s0 * s1)");
  CHECK(text(floor_div(a + Dim(2), Dim(3))) == "((s0 + 2) // 3)");
  CHECK(text(max(floor_mod(a, b), Dim(1))) == "max((s0 % s1), 1)");
  CHECK(text(a - b) == "(s0 + (-1 * s1))");
  CHECK(a - a == Dim(0));
  CHECK(a * Dim(0) == Dim(0));
  CHECK(floor_div(Dim(-7), Dim(2)) == Dim(-4));
  CHECK(floor_mod(Dim(-7), Dim(2)) == Dim(1));
  CHECK_THROWS_AS((void)a.value(), Unsupported);
}

TEST_CASE("dtypes promote as torch.promote_types does") {
  CHECK(promote(DType::kUInt8, DType::kInt8) == DType::kInt16);
  CHECK(promote(DType::kFloat16, DType::kBFloat16) == DType::kFloat32);
  CHECK(promote(DType::kInt64, DType::kFloat16) == DType::kFloat16);
  CHECK(promote(DType::kFloat64, DType::kComplex64) == DType::kComplex128);
  CHECK(promote(DType::kBool, DType::kInt32) == DType::kInt32);
}

TEST_CASE("numbers are weak and 0-d tensors weaker than dimensioned ones in promotion") {
  const auto result_of = [](std::string_view x, std::string_view y) {
    const Trace t = parse_trace(
        cat("def f(x, y):\n  # x: ", x, "\n  # y: ", y, "\n  t = torch.add(x, y)\n  return t\n"),
        registry_resolver());
    return text(t.output.tensor()->type);
  };
  CHECK(result_of("f16[2]", "f64[]") == "f16[2]");
  CHECK(result_of("i64[2]", "f64[]") == "f64[2]");
  CHECK(result_of("i32[2, 1]", "i64[3]") == "i64[2, 3]");
  CHECK(result_of("i32[2]", "float") == "f32[2]");
  CHECK(result_of("bf16[2, 3]{1, 2}", "bf16[2, 3]{1, 2}") == "bf16[2, 3]{1, 2}");
}

TEST_CASE("the first name of every row is read back as that row, or noted") {
  for (const Symbol* s : Registry::get().symbols()) {
    if (s->info->torch_names.empty()) continue;
    const auto overloads = Registry::get().overloads(s->info->torch_names[0]);
    REQUIRE(overloads.size() > s->info->rivals.size());
    CHECK(overloads[s->info->rivals.size()] == s);
  }
}

}  // namespace
}  // namespace fulmen
