#pragma once

#include <memory>

#include "ir/trace.h"

namespace fulmen::bindings {

// Symbols are rows that outlive Python; a handle keeps nanobind from owning them.
struct PySymbol {
  const Symbol* symbol;
};

// Keeps the context alive while Python holds a bound symbol.
struct PyBoundSymbol {
  std::shared_ptr<TraceContext> ctx;
  const BoundSymbol* bsym;
};

}  // namespace fulmen::bindings
