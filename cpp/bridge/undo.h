#pragma once

#include <Python.h>

#include <memory>
#include <vector>

#include "ir/trace.h"

namespace fulmen::bridge {

// What running a trace does besides giving results.
struct Effects {
  std::vector<size_t> written;  // indices of inputs that it writes
  bool draws = false;           // random numbers
};
Effects effects_of(const Trace& trace);

// Whether running the trace up to `failed` (null: to an unknown place), which raised, may have had
// an effect that nobody saved.
bool has_effect_before(const Trace& trace, const BoundSymbol* failed);

// Whether Python code packs the tensors that autograd saves. It may raise (checkpointing ends that
// way), and is not to be run twice: a program that fails then is not followed by a run in eager.
bool saves_through_hooks();

// Takes back what programs did to their inputs, to a call that is to be run by PyTorch instead:
// data, place in the autograd graph, random state.
class Undo {
 public:
  Undo();
  ~Undo();
  Undo(Undo&&) noexcept;
  Undo& operator=(Undo&&) noexcept;

  // To be called before a program with these effects runs on `inputs`. Needs the GIL.
  void save(const Effects& effects, PyObject* const* inputs);
  // Takes back everything that was saved, newest first.
  void restore();

 private:
  struct Saved;
  std::vector<Saved> saved_;
};

}  // namespace fulmen::bridge
