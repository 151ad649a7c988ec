// Decoded code objects, kept on the code object itself.
#pragma once
#include <string>
#include <vector>

#include "interp/inst.h"
#include "py/version.h"

namespace fulmen::interp {

// A row of the exception table, in instruction indices; the first row that covers an instruction
// holds for it.
struct ExceptionRow {
  uint32_t start;
  uint32_t end;
  uint32_t target;
  uint16_t depth;
  bool push_unit;  // the handler wants the offset of the instruction that raised
};

struct Code {
  PyCodeObject* object = nullptr;  // borrowed: this lives in its extra slot
  std::vector<Inst> insts;
  std::vector<ExceptionRow> exceptions;
  std::vector<int32_t> index_of_unit;
#ifdef FULMEN_INTERP_CHECKS
  std::vector<int32_t> depth_at;  // value stack depth before each instruction; -1: not reached
#endif
  size_t frame_bytes = 0;
  bool simple_parameters = false;  // positional only in the loose sense: no *, ** or keyword-only
  bool makes_generator = false;    // generator, coroutine or asynchronous generator
  const char* refusal = nullptr;   // why calls of it are left to CPython
};

// The decoded form of `code`, made on first use; null with an exception set.
Code* decoded(PyCodeObject* code);

// Fills everything but `object`. Never fails but for memory: what cannot be decoded sets `refusal`.
bool decode(PyCodeObject* code, Code& out);

// What the decoder does with an opcode of this Python, by its name in dis.opmap: "decoded",
// "refused", or null when it has never heard of it.
const char* opcode_status(const char* name);

std::string disassemble(const Code& code);

}  // namespace fulmen::interp
