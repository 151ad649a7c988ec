#pragma once

#include <map>
#include <vector>

#include "codegen/cpu/lanes.h"
#include "codegen/loop_program.h"

namespace fulmen::codegen::cpu {

// Note [Kernel parameters]
// void kernel(char* const* accesses, const int64_t* dims, const char* numbers, char* scratch,
//             int64_t begin, int64_t end)
// accesses: the address of each access's first element.
// dims: the sizes of the loops; the turns of a block and the number of blocks of the vector loop,
//       where that is not reduced, or of the loop around it where units are rows; the bytes of a
//       scratch row; then for each access the stride of each loop, in elements.
// numbers: 8 bytes each, a double or an int64_t.
// scratch: memory of this thread, one row for each value that is kept.
// begin, end: which units are done. A unit is one turn of all outer loops, with a block of turns of
//       the vector loop, or of the loop around it, where that is an outer one.
struct KernelLayout {
  size_t sizes = 0;
  size_t block = 0;
  size_t num_blocks = 0;
  size_t scratch_row = 0;
  size_t strides = 0;
  size_t count = 0;
};
KernelLayout layout_of(const LoopProgram& program);

// Rows of scratch memory that the kernel wants; see Schedule::keep_rows.
size_t scratch_rows(const LoopProgram& program, const Schedule& schedule);

// Whether whole vectors of this store are aligned, so that it can go past the caches.
bool can_stream(const LoopProgram& program, const Schedule& schedule, const Store& store);

// Writes `kernel` for a loop program.
//
// Note [Tails]
// No load or store has a mask. What is left at the end of a loop is done by a whole vector that
// ends where the loop ends, whose first lanes repeat work; a reduction leaves those lanes out. With
// fewer turns than lanes ("narrow") elements are loaded one by one, lanes past the end take the
// last element, and stores go from the last lane to the first, so that the right value is written
// last.
//
// A program that writes to its inputs (`Schedule::exact`) repeats nothing: its whole vectors end
// before the rest, which goes element by element as above, and what a vector reads is read before
// any of it is written.
class KernelEmitter {
 public:
  KernelEmitter(const LoopProgram& program, const Schedule& schedule, const Isa& isa,
                VectorBuilder& builder, const std::vector<bool>& float_numbers);
  void emit();

 private:
  // Where in the iteration a value is computed: the index of each loop, the vector loop's being
  // that of the first lane.
  struct Position {
    Values index;
    bool aligned = false;  // whole vectors from the start of the vector loop
    Value end = nullptr;   // lanes from here on take the last element before; null: there are none
  };
  using Computed = std::map<uint32_t, Value>;

  void emit_unit(Value unit);
  void emit_elements(Position at, Value begin, Value end);
  void emit_passes(const Position& at);
  void emit_pass(int pass, const Position& at, Computed& outer);
  Values element_turns(int pass, Position at, const Computed& outer, const Values& totals);
  Values vector_turns(int pass, Position at, const Computed& outer, const Values& totals);
  std::vector<uint32_t> reductions_of(int pass) const;
  bool is_real_sum(uint32_t node) const;
  Values identities(const std::vector<uint32_t>& reduces) const;
  Values opened(const std::vector<uint32_t>& reduces) const;
  Values added(const std::vector<uint32_t>& reduces, const Values& totals, const Values& parts);
  Values closed(const std::vector<uint32_t>& reduces, const Values& totals);
  Values in_blocks(const std::vector<uint32_t>& reduces, Value end, int64_t step,
                   const Values& totals, const std::function<Values(Value, Value)>& body);
  Values turn(int pass, const Position& at, const Computed& outer, const Values& accumulators,
              Value valid);

  Value value(uint32_t node, const Position& at, Computed& known, int pass);
  void compute_outer(const Position& at, Computed& outer, int pass);
  void store_elements(const Position& at, Computed known);
  void store(const Store& s, const Position& at, Value v);
  bool by_element(const Position& at) const { return s_.narrow || at.end; }
  Value load(const Access& a, const Position& at);
  Value loop_index(uint32_t access, const Position& at);
  Value element_address(uint32_t access, const Position& at, int lane);
  Value horizontal(ReduceOp op, DType t, Value v);
  Value scratch_address(uint32_t node, const Position& at);

  Value size(size_t loop) const { return sizes_[loop]; }
  bool lane_varies(const Access& a) const {
    return stride_class(p_, a, s_.vector_loop) != StrideClass::kZero;
  }

  const LoopProgram& p_;
  const Schedule& s_;
  VectorBuilder& b_;
  Lanes lanes_;
  std::vector<bool> float_numbers_;
  bool row_mode_ = false;  // the vector loop is reduced
  std::vector<size_t> outer_loops_, reduced_loops_;
  std::vector<Precision> precision_;
  std::vector<bool> inner_;  // nodes that differ between turns of the innermost loops
  std::vector<int> pass_;
  std::map<uint32_t, int> kept_;       // node → row of scratch memory
  std::map<uint32_t, int> kept_from_;  // node → the pass that keeps it
  int last_pass_ = 0;

  Values pointers_, sizes_;
  std::vector<Values> strides_;  // per access, per loop; null where the stride is compiled in
  Value dims_ = nullptr, numbers_ = nullptr, scratch_ = nullptr;
  Value block_ = nullptr, num_blocks_ = nullptr, scratch_row_ = nullptr;
};

}  // namespace fulmen::codegen::cpu
