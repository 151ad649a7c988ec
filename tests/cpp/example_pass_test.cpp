// The pass of docs/add_a_pass.md, word by word; tests/python/test_docs.py compares them.
#include <doctest/doctest.h>

#include "analysis/proxy_map.h"
#include "ir/parser.h"
#include "ir/printer.h"
#include "ir/rewrite.h"
#include "ops/activation.h"
#include "ops/registry.h"
#include "passes/pass.h"

namespace fulmen::passes {
namespace {

// relu(relu(x)) becomes relu(x). Models that end a block and begin the next with an activation have
// these.
Trace drop_repeated_relu(const Trace& trace, PassContext& ctx);

Trace drop_repeated_relu(const Trace& trace, PassContext& ctx) {
  ProxyMap<bool> is_relu;
  Substitution renamed;
  Trace out = trace;
  out.body.clear();
  for (const BoundSymbol* original : trace.body) {
    const BoundSymbol* b = renamed.apply(*trace.ctx, *original);
    if (b->symbol == &ops::relu) {
      if (is_relu.get(b->args[0].proxy()) && ctx.take_fuel()) {
        renamed.bind(b->output, b->args[0]);
        continue;
      }
      is_relu.set(b->output.proxy(), true);
    }
    out.body.push_back(b);
  }
  if (renamed.empty()) return trace;
  out.output = renamed.apply(*trace.ctx, trace.output);
  return out;
}

constexpr Pass kPasses[] = {{"repeated_relu", "Repeated relu", drop_repeated_relu,
                             Needs::kFunctionalTrace, "equal operands stand under one name now"}};

TEST_CASE("the pass of the documentation") {
  const Trace trace = parse_trace(
      "def f(x):\n  # functional\n  # x: f32[3]\n  y = torch.relu(x)\n  z = torch.relu(y)\n"
      "  w = torch.relu(z)\n  return (w, y)\n",
      registry_resolver());
  PassContext ctx;
  ctx.options.paranoid = true;
  const Trace out = run_pass(kPasses[0], trace, ctx);
  CHECK(to_python(out).ends_with("  y = torch.relu(x)  # y: f32[3]\n  return (y, y)\n"));
  CHECK(run_pass(kPasses[0], out, ctx).body == out.body);
}

}  // namespace
}  // namespace fulmen::passes
