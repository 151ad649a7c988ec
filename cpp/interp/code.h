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

// What a LOAD_GLOBAL found last. A dictionary's version changes with every change of its contents
// and is unique among dictionaries, so that while both versions hold, `value` (borrowed) is right.
struct GlobalCache {
  uint64_t globals_version = 0;
  uint64_t builtins_version = 0;
  PyObject* value = nullptr;
};

struct Code {
  PyCodeObject* object = nullptr;  // borrowed: this lives in its extra slot
  std::vector<Inst> insts;
  std::vector<ExceptionRow> exceptions;
  std::vector<int32_t> index_of_unit;
#ifdef FULMEN_INTERP_CHECKS
  std::vector<int32_t> depth_at;  // value stack depth before each instruction; -1: not reached
#endif
  std::vector<GlobalCache> globals;  // one a LOAD_GLOBAL, numbered by its target
  size_t frame_bytes = 0;
  bool simple_parameters = false;  // positional only in the loose sense: no *, ** or keyword-only
  bool makes_generator = false;    // generator, coroutine or asynchronous generator
  const char* refusal = nullptr;   // why calls of it are left to CPython
};

// What CPython keeps at PyCodeObject::co_extra.
struct CodeExtra {
  Py_ssize_t size;
  void* items[1];
};
extern Py_ssize_t code_extra_index;

// Makes and keeps the decoded form of `code`; null with an exception set.
Code* make_decoded(PyCodeObject* code);
// The decoded form of `code`, made on first use; null with an exception set.
inline Code* decoded(PyCodeObject* code) {
  const auto* extra = static_cast<CodeExtra*>(code->co_extra);
  if (extra && code_extra_index >= 0 && extra->size > code_extra_index) {
    if (void* made = extra->items[code_extra_index]) return static_cast<Code*>(made);
  }
  return make_decoded(code);
}

// Fills everything but `object`. Never fails but for memory: what cannot be decoded sets `refusal`.
bool decode(PyCodeObject* code, Code& out);

// What the decoder does with an opcode of this Python, by its name in dis.opmap: "decoded",
// "refused", or null when it has never heard of it.
const char* opcode_status(const char* name);

std::string disassemble(const Code& code);

}  // namespace fulmen::interp
