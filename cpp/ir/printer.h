#pragma once

#include <string>

#include "ir/trace.h"

namespace fulmen {

// The trace as a Python program that runs on plain PyTorch and that parse_trace reads back.
//
// Comments carry what Python does not need: the provenance, each value's type (`view of x` names
// the tensor that it shares storage with), the symbol where the call alone would read as another
// one
// (`as sum.dim`, `opaque`), the user's source line, and the executor (`@aten`).
std::string to_python(const Trace& trace);

// What a call of `symbol` is written as: its first torch name.
std::string printed_name(const Symbol& symbol);

// One statement with its comment, without indentation or line end.
void append(std::string& s, const BoundSymbol& bsym);

}  // namespace fulmen
