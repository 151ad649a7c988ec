#include <doctest/doctest.h>

#include <chrono>

#include "analysis/dependency.h"
#include "analysis/liveness.h"
#include "ir/builder.h"
#include "ir/hash.h"
#include "ir/parser.h"
#include "ir/printer.h"
#include "ir/verify.h"
#include "ops/registry.h"
#include "support/cat.h"
#include "support/flags.h"

namespace fulmen {
namespace {

Trace parse(std::string_view text) { return parse_trace(text, registry_resolver()); }

void check_round_trip(std::string_view text) {
  const Trace t = parse(text);
  CHECK(to_python(t) == text);
  CHECK(equal(t, parse(to_python(t)), CompareNames::kYes));
  CHECK(hash(t) == hash(parse(to_python(t))));
}

std::string syntax_error(std::string_view text) {
  try {
    parse(text);
  } catch (const UserError& e) {
    CHECK(e.id() == "trace-syntax");
    return e.what();
  }
  return "no error";
}

std::string broken(std::string_view text) {
  const Trace t = parse(text);
  try {
    verify(t);
  } catch (const InternalError& e) {
    return e.what();
  }
  return "no error";
}

TEST_CASE("printed text parses back to the same text and an equal trace") {
  check_round_trip(R"py(# Constructed by hand
#
# second line
import torch
import operator

def f(x, w, n, k, o):
  # functional
  # x: f32[s0, (2 * s0)] cuda:0 leaf
  # w: bf16[4, 3]{1, 4} grad view of x
  # n: int 5
  # k: int (s0 + 1)
  # o: object
  # shared storage: x, w
  t0 = torch.add(x, w, alpha=2)  # t0: f32[s0, (2 * s0)] cuda:0  a dir/m.py:41 in f.<locals>.g  @aten
  t1, (t2, _) = torch.fft.foo(t0, -1, 1e-05, n=(s0 // 2), name='it\'s\n')  # t1: f32[2, 3], t2: i64[], opaque
  [t3, t4] = torch.fft.bar((t1,), [], (), slice(None, 3, None), ..., float('-inf'), -0.0)  # t3: f32[1], t4: f32[1] view of t1, opaque inplace view  m.py:1
  _, t5 = torch.fft.baz(complex(1.0, -2.0), torch.float32, torch.device('cuda:1'), group)  # _: 3, t5: f32[], opaque
  operator.qux(torch.channels_last, torch.strided, max(s0, 2), {'a': True})  # opaque  @x
  del t0, t1
  return (t5, {'a': None}, group)
)py");
}

TEST_CASE("results in a dict are bound by a pattern") {
  check_round_trip(R"py(import torch

def f(x):
  # x: f32[2]
  match torch.fft.foo(x):
    case {'a': t0, 'b': (t1, [_]), 'c': _, 'd': _}: pass  # t0: f32[2], t1: f32[3], _: t0, _: None, _: 5, opaque  m.py:3 in f  @x
  match torch.fft.bar(x):
    case ({'a': t2}, _): pass  # t2: f32[2], opaque
  match torch.fft.baz(x):
    case {'a': x, 'b': t3}: pass  # t3: f32[2], opaque inplace
  return {'a': (t0, t1), 'b': t2, 3: t3}
)py");
  CHECK(syntax_error("def f(x):\n  # x: f32[2]\n  match torch.fft.foo(x):\n  return x\n") ==
        "trace, line 4: expected `case`\n  return x");
}

TEST_CASE("inputs that share storage are part of a trace") {
  const auto text = [](std::string_view remarks) {
    return cat("def f(x, y, z):\n  # x: f32[2]\n  # y: f32[2]\n  # z: f32[2]\n", remarks,
               "  return (x, y, z)\n");
  };
  const Trace apart = parse(text(""));
  const Trace shared = parse(text("  # shared storage: x, z\n"));
  verify(shared);
  CHECK(shared.alias_groups.size() == 1);
  CHECK(!equal(apart, shared));
  CHECK(hash(apart) != hash(shared));
  CHECK(equal(shared, parse(to_python(shared))));
  CHECK(!equal(shared, parse(text("  # shared storage: x, y\n"))));
  CHECK(broken(text("  # shared storage: x, z\n  # shared storage: z, y\n")).find("two groups") !=
        std::string::npos);
  CHECK(syntax_error(text("  # shared storage: x, t\n")).find("`t` is not defined above") !=
        std::string::npos);
}

TEST_CASE("hand-written text may be spaced freely and leave out result types") {
  const Trace t = parse(
      "import torch\n\n\n# a remark\ndef  f( x ,y):\n    # x : f32[ 2,3 ]\n  #y: f32[3]{1}   grad\n"
      "\n  a=torch.add(\n     x,\n  y , )\n    # remark\n  b = torch.nn.functional.gelu( "
      "a,approximate = \"tanh\")"
      "  # what follows\n  return   a , b\n\n");
  CHECK(t.body.size() == 2);
  verify(t);
  std::string s;
  append(s, *t.body[1]);
  CHECK(s == "b = torch.nn.functional.gelu(a, approximate='tanh')  # b: f32[2, 3] grad");
  CHECK(equal(t, parse(to_python(t)), CompareNames::kYes));
}

TEST_CASE("malformed text is refused with its line") {
  const std::string head = "def f(x):\n  # x: f32[2]\n";
  CHECK(syntax_error("") == "trace, line 1: expected `def`\n  ");
  CHECK(syntax_error("def f(x):\n  return x") ==
        "trace, line 2: no comment tells the type of `x`\n  return x");
  CHECK(syntax_error(head + "  t0 = torch.add(x\n").find("expected ") != std::string::npos);
  CHECK(syntax_error(head + "  t0 = trch.add(x)\n  return t0")
            .find("line 3: unknown function `trch.add`") != std::string::npos);
  CHECK(syntax_error(head + "  t0 = torch.add(x, x)  # t0: f33[2]\n").find("unknown type `f33`") !=
        std::string::npos);
  CHECK(syntax_error(head + "  t0 = torch.exp()\n").find("fit no overload") != std::string::npos);
  CHECK(syntax_error(head + "  return 'a").find("the string does not end") != std::string::npos);
  CHECK(syntax_error(head + "  return 99999999999999999999").find("64 bits") != std::string::npos);
  CHECK(syntax_error(head + "  return (s0 // 0)").find("division by zero") != std::string::npos);
  CHECK(syntax_error(head + "  return x x").find("unexpected text") != std::string::npos);
  CHECK(syntax_error(head + "  return " + std::string(5000, '[')).find("nested") !=
        std::string::npos);
  for (size_t n = 0; n < head.size(); ++n) {
    CHECK_THROWS_AS(parse(head.substr(0, n)), UserError);
  }
}

TEST_CASE("the verifier rejects broken traces") {
  const std::string head = "def f(x):\n  # x: f32[2, 3]\n";
  const auto says = [](const std::string& text, std::string_view what) {
    const std::string got = broken(text);
    CHECK_MESSAGE(got.find(what) != std::string::npos, got);
  };
  says(head + "  del x\n  return x", "x is used after its deletion");
  says(head + "  t0 = torch.exp(x)  # t0: f32[3, 2]\n  return t0",
       "the symbol's meta gives f32[2, 3]");
  says(head + "  t0 = torch.exp(x)  # t0: f64[2, 3]\n  return t0", "> t0 = torch.exp(x)");
  says(head + "  t0 = torch.exp(x)  # t0: f32[2, 3]{1, 2}\n  return t0", "{1, 2}");
  says(head + "  t0, t1 = torch.exp(x)  # t0: f32[2, 3], t1: f32[2]\n  return t0", "the result is");
  says(head + "  # functional\n  t0 = torch.Tensor.exp_(x)  # t0: f32[2, 3] view of x\n  return t0",
       "no write-back");
  Trace t = parse(head + "  t0 = torch.exp(x)\n  t1 = torch.exp(t0)\n  return t1");
  verify(t);
  std::swap(t.body[0], t.body[1]);
  CHECK_THROWS_WITH_AS(verify(t), doctest::Contains("t0 is used before it is defined"),
                       InternalError);
  t.body[1] = t.body[0];
  CHECK_THROWS_AS(verify(t), InternalError);
}

TEST_CASE("hash and equality see the program, not its names") {
  const auto text = [](std::string a, std::string b, std::string fn, std::string line) {
    return "def f(" + a + "):\n  # " + a + ": f32[2]\n  " + b + " = torch." + fn + "(" + a +
           ")  # " + b + ": f32[2]  m.py:" + line + "\n  return " + b + "\n";
  };
  const Trace t = parse(text("x", "y", "exp", "1"));
  const Trace same = parse(text("u", "v", "exp", "2"));
  const Trace other = parse(text("x", "y", "tanh", "1"));
  CHECK(hash(t) == hash(same));
  CHECK(equal(t, same));
  CHECK(!equal(t, same, CompareNames::kYes));
  CHECK(hash(t) != hash(other));
  CHECK(!equal(t, other));
}

TEST_CASE("the dag keeps data, storage order, and sorts stably") {
  const Trace t = parse(
      "def f(x):\n  # x: f32[2]\n"
      "  a = torch.exp(x)\n"  // reads before the write
      "  b = torch.Tensor.mul_(x, 2)  # b: f32[2] view of x\n"
      "  c = torch.exp(x)\n"  // and after
      "  d = torch.tanh(a)\n"
      "  return c, d\n");
  const Dag dag = bsym_list_to_dag(t.body);
  CHECK(dag.nodes[0].parents.empty());
  CHECK(dag.nodes[1].parents == std::vector<uint32_t>{0});
  CHECK(dag.nodes[2].parents == std::vector<uint32_t>{1});
  CHECK(dag.nodes[3].parents == std::vector<uint32_t>{0});
  CHECK(toposort(dag) == t.body);
  CHECK(toposort(dag, TopoOrder::kBottomUp) == t.body);
  const auto last = toposort(dag, TopoOrder::kTopDown,
                             [](const Dag&, std::span<const uint32_t> r) { return r.size() - 1; });
  CHECK(last == std::vector<const BoundSymbol*>{t.body[0], t.body[3], t.body[1], t.body[2]});
  const auto uses = last_uses(t);
  CHECK(uses.at(t.inputs[0]) == 2);
  CHECK(uses.at(t.body[3]->output.proxy()) == 4);
}

TEST_CASE("flags come from one table") {
  CHECK_THROWS_WITH_AS(set_flag("vrify", "1"), doctest::Contains("known: log dump"), UserError);
  CHECK_THROWS_WITH_AS(set_flag(Flag::kDump, "traces,x"), doctest::Contains("unknown value 'x'"),
                       UserError);
  CHECK_THROWS_AS(set_flag(Flag::kFuel, "many"), UserError);
  const std::string_view bad[] = {"PATH=/", "FULMEN_NOPE=1"};
  CHECK_THROWS_WITH_AS(set_flags_from(bad), doctest::Contains("FULMEN_NOPE; known: FULMEN_LOG"),
                       UserError);
  {
    const FlagScope scope(Flag::kPasses, "-cse,-dce");
    CHECK(flag_has(Flag::kPasses, "-dce"));
  }
  CHECK(!flag_has(Flag::kPasses, "-dce"));
  CHECK(flag_int(Flag::kFuel) == -1);
}

TEST_CASE("ten thousand bound symbols print, parse and sort in linear time") {
  std::string text = "import torch\n\ndef f(t0):\n  # t0: f32[2, 3]\n";
  for (int i = 0; i < 10000; ++i) {
    append(text,
           cat("  t", i + 1, " = torch.exp(t", i, ")  # t", i + 1, ": f32[2, 3]  m.py:1 in f\n"));
  }
  append(text, "  return t10000\n");
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto t0 = now();
  const Trace t = parse(text);
  const auto t1 = now();
  CHECK(to_python(t) == text);
  const auto t2 = now();
  CHECK(toposort(bsym_list_to_dag(t.body)) == t.body);
  const auto t3 = now();
  verify(t);
  const auto ms = [](auto d) { return std::chrono::duration<double, std::milli>(d).count(); };
  MESSAGE("parse ", ms(t1 - t0), " ms, print ", ms(t2 - t1), " ms, dag and sort ", ms(t3 - t2),
          " ms, verify ", ms(now() - t3), " ms");
}

}  // namespace
}  // namespace fulmen
