#include <doctest/doctest.h>

#include "ir/builder.h"
#include "ops/registry.h"
#include "passes/pipeline.h"

namespace fulmen {
namespace {

TensorType matrix() {
  TensorType t;
  t.shape = {8, 8};
  t.strides = {8, 1};
  return t;
}

const Symbol& row(const char* name) { return *Registry::get().find(name); }

// n in-place operations on a fresh tensor and on a view of an input, alternately.
Trace chain(int n) {
  Registry::get();
  Trace trace;
  trace.ctx = std::make_shared<TraceContext>();
  Builder b(trace.ctx);
  TensorProxy* x = trace.ctx->make_tensor(matrix(), "x");
  trace.inputs = {x};
  const Arg fresh = row("exp")(x);
  for (int i = 0; i < n; ++i) {
    row("mul_")(fresh, 2.0);
    row("add_")(row("select")(x, 0, i % 8), 1.0);
  }
  trace.body = b.body();
  trace.output = fresh;
  return trace;
}

TEST_CASE("passes keep their input and stop when the fuel is gone") {
  const Trace trace = chain(4);
  const auto body = trace.body;
  passes::PassContext ctx;
  std::vector<Trace> stages;
  ctx.stages = &stages;
  const Trace out = passes::run_pipeline(trace, ctx);
  CHECK(trace.body == body);
  CHECK(!trace.functional);
  CHECK(out.functional);
  passes::run_pass(passes::last_pass(), out, ctx);
  CHECK(stages.size() >= 2);
  CHECK(
      stages[0].provenance.starts_with("Constructed by Functionalize in-place operations (took "));

  passes::PassContext dry;
  dry.fuel = std::make_shared<Fuel>(0);
  CHECK(passes::run_pipeline(trace, dry).body == body);
  passes::PassContext less;
  less.options.disabled = {"functionalize"};
  CHECK(!passes::run_pipeline(trace, less).functional);
}

TEST_CASE("passes take time in proportion to the program") {
  passes::PassContext ctx;
  ctx.options.verify = false;
  passes::run_pipeline(chain(3334), ctx);  // 10,000 bound symbols
#ifdef __SANITIZE_ADDRESS__
  constexpr double kLimit = 2000000;
#else
  constexpr double kLimit = 200000;
#endif
  for (const auto& t : ctx.timings) {
    CAPTURE(t.pass);
    MESSAGE(t.pass << ": " << t.microseconds << " microseconds");
    CHECK(t.microseconds < kLimit);
  }
}

struct Breaks final : passes::Transform {
  std::string_view name() const override { return "Breaks"; }
  passes::Phases transform_traces_pre_prologue(const passes::Phases& phases) override {
    passes::Phases out = phases;
    out.computation.body.clear();
    return out;
  }
};

TEST_CASE("a transform that returns a broken trace is named") {
  passes::PassContext ctx;
  const passes::Transforms transforms = {std::make_shared<Breaks>()};
  try {
    passes::run_pipeline(chain(2), ctx, transforms);
    CHECK(false);
  } catch (const UserError& e) {
    CHECK(e.id() == "broken-transform");
    CHECK(e.kind() == ErrorKind::kValue);
    CHECK(std::string(e.what()).starts_with("transform Breaks returned a broken trace: "));
  }
}

}  // namespace
}  // namespace fulmen
