#pragma once

#include <map>
#include <vector>

#include "codegen/cpu/lanes.h"
#include "codegen/loop_program.h"

namespace fulmen::codegen::cpu {

// Nodes that are computed in the innermost loops: those that differ between turns of the reduced
// loops, or of the vector loop where nothing is reduced.
std::vector<bool> inner_nodes(const LoopProgram& program, const Schedule& schedule);

// Whether a result of a program with reductions has an element for each turn of the reduced loops.
bool stored_inside(const LoopProgram& program, const Store& store);

struct RowPlan {
  int last_pass = 0;             // over the reduced loops
  std::map<uint32_t, int> kept;  // nodes that are kept for later passes → the pass that keeps them
};
// Which values of a row are kept in scratch memory instead of being computed again by a later pass:
// those that cost more than a load.
RowPlan plan_rows(const LoopProgram& program, const Schedule& schedule);

// How exact each node must be. Nodes of float32 that only lead to values of half types, by
// operations of one element, are coarse: what these lose in their last places is rounded away.
std::vector<Precision> precisions(const LoopProgram& program);

// Roughly, cycles a vector takes.
int lane_cost(const Node& node);

}  // namespace fulmen::codegen::cpu
