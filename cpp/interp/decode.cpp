// CPython bytecode to canonical instructions. What differs between versions is the data in
// version/; the forms below say how an argument is read.
#include <opcode.h>

#include <cstring>
#include <utility>

#include "interp/code.h"
#include "py/native_frame.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace {

enum Form : uint8_t {
  kSame,          // the argument as it is
  kNoArg,         // the argument means nothing here
  kDrop,          // no instruction at all
  kResume,        // nothing while a frame only passes values on (yield from, await)
  kThenPop,       // the result, which this version does not have, is dropped
  kForward,       // jumps forward
  kBackward,      // jumps backward
  kForIterSkip1,  // jumps past the END_FOR at its target
  kForIterSkip2,  // jumps past END_FOR and POP_TOP
  kSendPops,      // jumps forward, dropping the receiver
  kLoadGlobal,    // low bit: with a NULL for a call
  kLoadAttr,      // low bit: for a method call
  kSuperAttr,     // two low bits: for a method call, with two arguments
  kCompare4,      // operator above four bits
  kCompare5,      // operator above five bits; bit 4: as a bool
  kKwNames,       // names for the next call
  kCall,          // takes those names
  kLoadLoad,      // two instructions in one
  kStoreLoad,
  kStoreStore,
  kIntrinsic1,
  kIntrinsic2,
  kRefused,  // never in code that a compiler makes
};

struct Rule {
  const char* name = nullptr;
  Op op = Op::kPOP_TOP;
  Form form = kRefused;
};

struct Rules {
  Rule of[256];
  constexpr Rules() {
#define ROW(opcode, canonical, form) of[opcode] = Rule{#opcode, Op::k##canonical, form};
#if FULMEN_PY_311
#include "interp/version/opcodes_3_11.def"
#elif FULMEN_PY_312
#include "interp/version/opcodes_3_12.def"
#else
#include "interp/version/opcodes_3_13.def"
#endif
#undef ROW
  }
};
constexpr Rules kRules;

// NULL stands below the callable before 3.13, above it since.
#if FULMEN_PY_313
constexpr uint16_t kNullForCall = 2;
#else
constexpr uint16_t kNullForCall = 1;
#endif

class Decoder {
 public:
  Decoder(PyCodeObject* code, Code& out) : code_(code), out_(out) {}

  bool run() {
    py::Ref bytes = py::Ref::steal(PyCode_GetCode(code_));  // unspecialized, caches zeroed
    if (!bytes) return false;
    const auto* units = reinterpret_cast<const uint8_t*>(PyBytes_AS_STRING(bytes.get()));
    const int count = static_cast<int>(PyBytes_GET_SIZE(bytes.get()) / 2);
    out_.index_of_unit.assign(count + 1, 0);
    out_.insts.reserve(count);
    int extended = 0;
    int first = -1;  // where the running instruction's EXTENDED_ARGs begin
    for (int unit = 0; unit < count; unit++) {
      const int opcode = units[2 * unit];
      const int arg = units[2 * unit + 1] | extended << 8;
      if (first < 0) first = unit;
      if (opcode == EXTENDED_ARG) {
        extended = arg;
        continue;
      }
      extended = 0;
      for (int u = first; u <= unit; u++) out_.index_of_unit[u] = size();
      first = -1;
      if (opcode == CACHE) {
        if (unit == 0) refuse("CACHE where an instruction should be");
        continue;
      }
      int next = unit + 1;
      while (next < count && units[2 * next] == CACHE) next++;
      unit_ = unit;
      translate(kRules.of[opcode], arg, next);
    }
    out_.index_of_unit[count] = size();
    for (const auto& [inst, unit] : jumps_) out_.insts[inst].target = out_.index_of_unit[unit];
    for (Inst& inst : out_.insts) {
      if (inst.op != Op::kLOAD_GLOBAL) continue;
      inst.target = static_cast<int32_t>(out_.globals.size());
      out_.globals.emplace_back();
    }
    decode_exceptions();
    const int flags = code_->co_flags;
    out_.simple_parameters =
        !(flags & (CO_VARARGS | CO_VARKEYWORDS)) && code_->co_kwonlyargcount == 0;
    out_.makes_generator = flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR);
    out_.frame_bytes = py::frame_bytes(code_);
    return true;
  }

 private:
  int size() const { return static_cast<int>(out_.insts.size()); }

  void emit(Op op, int arg, int aux = 0) {
    out_.insts.push_back({op, static_cast<uint16_t>(aux), arg, -1, static_cast<uint32_t>(unit_)});
  }
  void jump(Op op, int unit, int arg = 0, int aux = 0) {
    jumps_.emplace_back(size(), unit);
    emit(op, arg, aux);
  }
  void refuse(const char* why) {
    if (!out_.refusal) out_.refusal = why;
  }

  void translate(const Rule& rule, int arg, int next) {
    switch (rule.form) {
      case kSame: return emit(rule.op, arg);
      case kNoArg: return emit(rule.op, 0);
      case kDrop: return;
      case kResume:
        if ((arg & 3) < 2) emit(rule.op, arg);
        return;
      case kThenPop: emit(rule.op, arg); return emit(Op::kPOP_TOP, 0);
      case kForward: return jump(rule.op, next + arg);
      case kBackward: return jump(rule.op, next - arg);
      case kForIterSkip1: return jump(rule.op, next + arg + 1);
      case kForIterSkip2: return jump(rule.op, next + arg + 2);
      case kSendPops: return jump(rule.op, next + arg, 0, 1);
      case kLoadGlobal: return emit(rule.op, arg >> 1, arg & 1 ? kNullForCall : 0);
      case kLoadAttr: return emit(arg & 1 ? Op::kLOAD_METHOD : Op::kLOAD_ATTR, arg >> 1);
      case kSuperAttr: return emit(rule.op, arg >> 2, arg & 3);
      case kCompare4: return emit(rule.op, arg >> 4);
      case kCompare5:
        emit(rule.op, arg >> 5);
        if (arg & 16) emit(Op::kTO_BOOL, 0);
        return;
      case kKwNames: names_ = arg + 1; return;
      case kCall: return emit(rule.op, arg, std::exchange(names_, 0));
      case kLoadLoad: emit(Op::kLOAD_FAST, arg >> 4); return emit(Op::kLOAD_FAST, arg & 15);
      case kStoreLoad: emit(Op::kSTORE_FAST, arg >> 4); return emit(Op::kLOAD_FAST, arg & 15);
      case kStoreStore: emit(Op::kSTORE_FAST, arg >> 4); return emit(Op::kSTORE_FAST, arg & 15);
      case kIntrinsic1: return intrinsic_1(arg);
      case kIntrinsic2:
        return arg == 1 ? emit(Op::kPREP_RERAISE_STAR, 0) : emit(Op::kINTRINSIC_2, arg);
      case kRefused: return refuse(rule.name ? rule.name : "an opcode that this decoder lacks");
    }
  }

  void intrinsic_1(int arg) {
    switch (arg) {
      case 1: return emit(Op::kPRINT_EXPR, 0);
      case 2: return emit(Op::kIMPORT_STAR, 0);
      case 3: return emit(Op::kSTOPITERATION_ERROR, 0);
      case 4: return emit(Op::kASYNC_GEN_WRAP, 0);
      case 5: return emit(Op::kUNARY_POSITIVE, 0);
      case 6: return emit(Op::kLIST_TO_TUPLE, 0);
      default: return emit(Op::kINTRINSIC_1, arg);
    }
  }

  void decode_exceptions() {
    const auto* p = reinterpret_cast<const uint8_t*>(PyBytes_AS_STRING(code_->co_exceptiontable));
    const uint8_t* end = p + PyBytes_GET_SIZE(code_->co_exceptiontable);
    const auto number = [&] {
      uint32_t value = *p & 63;
      while (*p++ & 64) value = value << 6 | (*p & 63);
      return value;
    };
    while (p < end) {
      const uint32_t start = number(), length = number(), target = number(), depth = number();
      out_.exceptions.push_back({index(start), index(start + length), index(target),
                                 static_cast<uint16_t>(depth >> 1), (depth & 1) != 0});
    }
  }
  uint32_t index(uint32_t unit) const { return out_.index_of_unit[unit]; }

  PyCodeObject* code_;
  Code& out_;
  std::vector<std::pair<int, int>> jumps_;  // instruction, code unit that it goes to
  int unit_ = 0;
  int names_ = 0;  // index of the names for the next call, plus one
};

}  // namespace

bool decode(PyCodeObject* code, Code& out) {
  out.object = code;
  return Decoder(code, out).run();
}

const char* opcode_status(const char* name) {
  for (const Rule& rule : kRules.of) {
    if (rule.name && std::strcmp(rule.name, name) == 0) {
      return rule.form == kRefused ? "refused" : "decoded";
    }
  }
  const bool folded = std::strcmp(name, "CACHE") == 0 || std::strcmp(name, "EXTENDED_ARG") == 0;
  return folded ? "decoded" : nullptr;
}

std::string disassemble(const Code& code) {
  std::string text;
  for (size_t i = 0; i < code.insts.size(); i++) {
    const Inst& inst = code.insts[i];
    text += std::to_string(i) + "  " + op_name(inst.op) + " " + std::to_string(inst.arg);
    if (inst.aux) text += " /" + std::to_string(inst.aux);
    if (inst.target >= 0 && inst.op != Op::kLOAD_GLOBAL)
      text += " -> " + std::to_string(inst.target);
    text += "\n";
  }
  for (const ExceptionRow& row : code.exceptions) {
    text += "[" + std::to_string(row.start) + ", " + std::to_string(row.end) + ") -> " +
            std::to_string(row.target) + " depth " + std::to_string(row.depth) +
            (row.push_unit ? " with offset" : "") + "\n";
  }
  if (code.refusal) text += std::string("left to CPython: ") + code.refusal + "\n";
  return text;
}

}  // namespace fulmen::interp
