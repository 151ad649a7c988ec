#include "passes/pipeline.h"

#include "passes/cse.h"
#include "passes/dce.h"
#include "passes/del_last_use.h"
#include "passes/fold.h"
#include "passes/functionalize.h"
#include "passes/fuse_losses.h"
#include "passes/grad_regions.h"
#include "passes/gradients.h"
#include "passes/partition.h"
#include "passes/rematerialize.h"
#include "passes/reuse.h"

namespace fulmen::passes {
namespace {

// Where users' transforms change the program: nothing by itself.
Trace user_transforms(const Trace& trace, PassContext&) { return trace; }

// What executors differentiate in their own way: nothing by itself.
Trace own_gradients(const Trace& trace, PassContext& ctx) {
  return ctx.own_gradients ? ctx.own_gradients(trace, ctx) : trace;
}

constexpr auto kAny = Needs::kAnyTrace;
constexpr auto kFunctional = Needs::kFunctionalTrace;

// name, title, run, needs, why
constexpr Pass kPipeline[] = {
    {"functionalize", "Functionalize in-place operations", functionalize, kAny,
     "what follows may then merge, move and fuse without thinking of aliases"},
    {"dce", "Dead code elimination", dead_code_elimination, kAny,
     "functionalization leaves values of views that nobody reads"},
    {"cse", "Common subexpression elimination", common_subexpression_elimination, kFunctional,
     "models repeat masks, casts and position embeddings in every layer"},
    {"fold", "Constant folding", constant_folding, kFunctional,
     "equal operands stand under one name now, so that inverse pairs show"},
    {"transforms", "User transforms", user_transforms, kAny,
     "users see a small trace with no in-place operations, before gradients are made"},
    {"fuse_losses", "Fuse losses with linear layers", fuse_losses, kFunctional,
     "the results of a large last layer need not exist, and nor do their gradients"},
    {"dce", "Dead code elimination", dead_code_elimination, kAny,
     "folding and transforms leave operands that nobody reads"},
    {"gradients", "Gradients of backward()", expand_gradients, kAny,
     "a backward() in the program is part of it, and needs no graph"},
    {"dce", "Dead code elimination", dead_code_elimination, kAny,
     "a backward computes gradients that nobody asked for"},
    {"cse", "Common subexpression elimination", common_subexpression_elimination, kFunctional,
     "what layers share for their gradients, as masks, is there once for each"},
    {"own_gradients", "Own gradients of executors", own_gradients, kFunctional,
     "an executor's gradient goes with its forward, so that autodiff must see which it is"},
    {"autodiff", "Autodiff", differentiate_regions, kFunctional,
     "the program is as small as it gets, and gradients are to be optimized like everything else"},
    {"rematerialize", "Rematerialization", rematerialize, kFunctional,
     "forward and backward are both known; kernels are formed from what each of them computes"},
};

constexpr Pass kPartition = {"partition", "Partition into regions", partition, kFunctional,
                             "what runs as one kernel is claimed as one; the passes are done"};

constexpr Pass kReuse = {"reuse", "Reuse of operands", reuse_operands, kFunctional,
                         "nothing reads a trace as functional after this"};

constexpr Pass kLast = {"del_last_use", "Delete last used", del_last_use, kAny,
                        "memory is given back early; nothing may move across a free"};

}  // namespace

std::span<const Pass> pipeline() { return kPipeline; }

const Pass& partition_pass() { return kPartition; }

const Pass& reuse_pass() { return kReuse; }

const Pass& last_pass() { return kLast; }

Trace run_pipeline(const Trace& trace, PassContext& ctx, const Transforms& transforms) {
  Trace current = trace;
  for (const Pass& pass : kPipeline) {
    current = pass.run == user_transforms ? apply_pre_prologue(transforms, current, ctx)
                                          : run_pass(pass, current, ctx);
  }
  return current;
}

}  // namespace fulmen::passes
