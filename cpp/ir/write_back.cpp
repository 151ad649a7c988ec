#include "ir/write_back.h"

namespace fulmen {

bool is_write_back(const BoundSymbol& bsym) {
  const auto& names = bsym.symbol->info->torch_names;
  return bsym.symbol->has(kInplace) && !names.empty() && names[0] == "torch.Tensor.copy_";
}

}  // namespace fulmen
