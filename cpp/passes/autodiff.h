#pragma once

#include <string>
#include <vector>

#include "ir/rewrite.h"
#include "ir/trace.h"

namespace fulmen::passes {

// A program and its gradient program.
struct Differentiated {
  // Returns (the results, the values that the backward reads).
  Trace forward;
  // Takes these values, then the gradients that are given; returns one gradient for each
  // input of the program, None for an input that has none.
  Trace backward;
  std::vector<const Proxy*> saved;
};

// A bound symbol of the program that autodiff has no rule for, or for a part of it.
struct NoRule {
  const BoundSymbol* bsym;
  std::string why;
};

// Which gradients are given, and which are asked for.
struct GradRequest {
  // One for each differentiable result: in the order of appearance in the output, each tensor once.
  // Empty: all are given.
  std::vector<bool> given;
  // One for each input; empty: all that require grad.
  std::vector<bool> wanted;
  // The types of the given gradients; empty: those of the results.
  std::vector<TensorType> types;
};

// Reverse-mode differentiation of a trace without in-place operations. A symbol is differentiated
// by its vjp, else in its augmented form, else in its decomposition; see docs/autodiff.md.
//
// Symbols that have no rule are listed in `missing`, and the result is then meaningless.
Differentiated differentiate(const Trace& trace, const GradRequest& request,
                             std::vector<NoRule>& missing);

// What `outputs`, of a program with this body, give for some of its values.
struct Gradients {
  std::vector<const BoundSymbol*> forward;   // the body, some of it in other forms
  std::vector<const BoundSymbol*> backward;  // to follow it
  Args grads;                                // one for each of `wanted`; None where there is none
  std::vector<const BoundSymbol*> through;   // bound symbols of the body that gradients passed
  Substitution renamed;                      // of values of the body, in what follows
};
// `seeds`: the gradients of `outputs`. `wanted`: values of which at least one leads to an output.
// `earlier`: for each of these, a list of other values whose gradients are its own; or empty.
Gradients gradients_of(const std::shared_ptr<TraceContext>& ctx,
                       const std::vector<const BoundSymbol*>& body, std::span<const Arg> outputs,
                       std::span<const Arg> seeds, std::span<const Arg> wanted,
                       std::span<const Arg> earlier, std::vector<NoRule>& missing);

// The distinct tensors of `output` that require grad, in order.
std::vector<const TensorProxy*> differentiable_results(const Arg& output);

}  // namespace fulmen::passes
