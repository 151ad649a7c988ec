#pragma once

#include <string>
#include <vector>

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

// The distinct tensors of `output` that require grad, in order.
std::vector<const TensorProxy*> differentiable_results(const Arg& output);

}  // namespace fulmen::passes
