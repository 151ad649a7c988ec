#pragma once

#include <vector>

#include "codegen/loop_program.h"

namespace fulmen::codegen {

struct Range {
  int64_t begin = 0, end = 0;
};
// The elements of one program: a range of each loop that lowering starts from.
using Box = std::vector<Range>;

// The numbers that a node of integers may be, whatever the tensors have: far more than a tensor has
// elements, where nothing is known.
Range range_of(const LoopProgram& program, const Box& box, uint32_t node);

}  // namespace fulmen::codegen
