#pragma once

#include <string>

#include "codegen/loop_program.h"
#include "ir/trace.h"

namespace fulmen::codegen {

// What a bound symbol is to the fusion compilers, which know operations by their lanes; reductions
// and views by name.
enum class Form : uint8_t {
  kNone,  // neither: taken apart, or not fused
  kLane,
  kConvert,
  kMaskedFill,
  kSum,
  kMean,
  kProd,
  kMax,
  kMin,
  kAny,
  kAll,
  kPick,          // nll_loss of every row: minus the element that the target names
  kPickGradient,  // nll_loss_backward
  kIdentity,      // the same values: contiguous(), clone(), detach()
  kPermute,
  kExpand,
  kSelect,
  kNarrow,
  kSlice,
  kReshape,
  kSplit,  // several slices of one dimension, one after the other
  kCat,
  kPlaced,       // slice_backward(), select_backward(): zeros around the elements of a slice
  kFull,         // one number everywhere
  kArange,       // integers
  kEmbedding,    // rows of a table
  kIndexSelect,  // indices of one dimension
  kGather,       // an index for every element
  kIndex,        // x[i, j]
  kOneHot,       // one_hot() with a number of classes
  kWriteBack,    // copy_() into an input, which then has the value
};

Form form_of(const BoundSymbol& bsym);
inline bool is_reduction(Form f) { return f >= Form::kSum && f <= Form::kPick; }
inline bool is_gather(Form f) { return f >= Form::kEmbedding && f <= Form::kIndex; }
ReduceOp reduce_op(Form f);

// The number that a kFull has everywhere.
Arg filler_of(const BoundSymbol& bsym);
struct Progression {
  int64_t start = 0, step = 1;
};
Progression progression_of(const BoundSymbol& arange);
// The dimensions of x[…] that have an index tensor; they stand side by side.
SmallVec<size_t, 6> indexed_dims(const BoundSymbol& index);
// True for what is made of numbers alone: a region that reads it makes it itself.
bool is_source(const BoundSymbol& bsym);

// True if all results are among the arguments: relu6's positive(), to() of the same type.
bool returns_argument(const BoundSymbol& bsym);

// The reduced dimensions of a reduction; throws Unsupported for what is not known when compiled.
SmallVec<int64_t, 6> axes_of(const BoundSymbol& reduction);
// Of a permutation: the base's dimension that is the view's dimension `i`.
size_t permutation(const BoundSymbol& view, size_t i);

// The tensors and numbers that a lane takes, in order.
Args lane_operands(const BoundSymbol& bsym);
// The type in which a lane computes: the operands' promoted one where the result's says less.
DType compute_dtype(const BoundSymbol& bsym);
// Whether numbers stay float32 where the lane computes on float16 or bfloat16, as in ATen.
bool takes_wide_numbers(Lane lane);
// Why no kernel can do this, or empty: integer division traps where eager raises, say.
std::string lane_problem(Lane lane, DType compute, const Args& operands);

// True for types that kernels have: no complex ones, no float8, no wide unsigned integers.
bool is_fused_dtype(DType t);

}  // namespace fulmen::codegen
