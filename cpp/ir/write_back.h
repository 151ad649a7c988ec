#pragma once

#include "ir/trace.h"

namespace fulmen {

// Whether it is `torch.Tensor.copy_(tensor, value)`, as the write-backs of a functional trace are.
// See Note [Write-backs] in passes/functionalize.cpp.
bool is_write_back(const BoundSymbol& bsym);

// Calls `visit` with each argument that the bound symbol writes to; of an opaque one it may be any.
template <class Visit>
void for_each_written(const BoundSymbol& bsym, const Visit& visit) {
  if (!bsym.symbol->has(kInplace)) return;
  const Schema& schema = bsym.symbol->info->schema;
  for (size_t i = 0; i < bsym.args.size(); ++i) {
    if (schema.variadic || schema.params[i].mutated) visit(bsym.args[i]);
  }
}

}  // namespace fulmen
