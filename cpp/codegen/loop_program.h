#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ir/dtype.h"
#include "ops/lane.h"
#include "support/small_vec.h"

namespace fulmen::codegen {

enum class NodeKind : uint8_t {
  kLoad,      // the element of an access
  kConstant,  // a number; `real` or `integer` by the node's dtype
  kNumber,    // a number that is known when the kernel is called
  kIndex,     // where the loops stand, in an access without a tensor: its start and strides
  kOp,        // `lane` of the operands
  kReduce,    // `reduce` of the operand over the reduced loops; the same in all of their turns
};

enum class ReduceOp : uint8_t { kSum, kProd, kMax, kMin, kAny, kAll };

// A scalar value, computed once for each turn of the loops that it depends on. Values of float16
// and bfloat16 are float32 in a register that the smaller type holds exactly.
struct Node {
  NodeKind kind = NodeKind::kConstant;
  Lane lane = Lane::kNone;
  ReduceOp reduce = ReduceOp::kSum;
  DType dtype = DType::kFloat32;
  DType compute = DType::kFloat32;  // kOp: the type that the operands have
  bool in_float = false;            // a constant of a half type that is not rounded to it
  SmallVec<uint32_t, 4> operands;   // earlier nodes
  uint32_t index = 0;               // kLoad, kIndex: access; kNumber: which
  double real = 0;
  int64_t integer = 0;

  friend bool operator==(const Node&, const Node&) = default;
};

using Strides = SmallVec<int64_t, 6>;

// Where in a tensor a load or store goes: strides of the loops and a start, in elements.
struct Access {
  static constexpr uint32_t kNoTensor = ~0u;
  uint32_t tensor = 0;  // inputs of the region, then its outputs
  DType dtype = DType::kFloat32;
  Strides strides;
  int64_t offset = 0;

  friend bool operator==(const Access&, const Access&) = default;
};

struct Store {
  uint32_t access = 0;
  uint32_t value = 0;
};

// The elements of an integer input must be from 0 to size - 1, or `ignored`: checked before the
// kernel runs, which relies on it.
struct IndexCheck {
  uint32_t tensor = 0;
  int64_t size = 0;
  int64_t ignored = -1;

  friend bool operator==(const IndexCheck&, const IndexCheck&) = default;
};

struct Loop {
  int64_t size = 1;
  bool reduced = false;
};

// A perfect nest of loops over scalar values: outer loops, then those of the reductions. A region
// with reductions is a chain of passes over the reduced loops: each pass computes what the values
// so far allow.
struct LoopProgram {
  std::vector<Loop> loops;
  std::vector<Access> accesses;
  std::vector<Node> nodes;  // operands first
  std::vector<Store> stores;
  std::vector<IndexCheck> checks;
  uint32_t num_numbers = 0;
  bool writes_inputs = false;  // each element after it was read, by the same turn

  bool has_reductions() const;
  // Which nodes differ between turns of the loop; reductions do not differ between reduced turns.
  std::vector<bool> varying(size_t loop) const;
  // The pass that computes each node: 0 for what needs no reduction.
  std::vector<int> passes() const;
};

// Drops loops of one turn, orders them so that memory is walked along, and joins those that are
// one; at least one loop is left.
void simplify(LoopProgram& program);

// How a generated kernel walks the loops; part of what it is compiled for.
struct Schedule {
  size_t vector_loop = 0;  // its turns are the lanes
  bool narrow = false;     // fewer turns than lanes
  int unroll = 1;
  bool keep_rows = false;  // values of a row that a later pass reads are kept in scratch memory
  bool tile_rows = false;  // a unit is several turns of the loop around the vector loop
  bool stream = false;     // stores that can go past the caches do
  bool exact = false;      // no turn is done twice
};

// Which strides are compiled in; others are read at run time.
enum class StrideClass : uint8_t { kZero, kOne, kAny };
StrideClass stride_class(const LoopProgram& program, const Access& access, size_t loop);

// The program without its sizes: equal texts compile to the same kernel.
std::string canonical_text(const LoopProgram& program, const Schedule& schedule);

}  // namespace fulmen::codegen
