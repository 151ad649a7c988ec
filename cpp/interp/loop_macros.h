// The vocabulary of the handlers; for loop.cpp only. `f` is the frame, `in` the running
// instruction, `ip` the next one, `sp` the first free slot.
#pragma once

#define FULMEN_LIKELY(x) __builtin_expect(!!(x), 1)
#define FULMEN_UNLIKELY(x) __builtin_expect(!!(x), 0)

#ifdef FULMEN_INTERP_CHECKS
#define CHECK_DEPTH()                                                                              \
  do {                                                                                             \
    const int expected = code->depth_at[ip - insts];                                               \
    if (expected >= 0 && expected != sp - f.stack) {                                               \
      std::string text = "stack depth before " + std::string(op_name(ip->op)) + " is " +           \
                         std::to_string(sp - f.stack) + ", expected " + std::to_string(expected) + \
                         "\n" + disassemble(*code);                                                \
      Py_FatalError(text.c_str());                                                                 \
    }                                                                                              \
  } while (0)
#else
#define CHECK_DEPTH() (void)0
#endif

#define NEXT()                                    \
  do {                                            \
    CHECK_DEPTH();                                \
    in = ip++;                                    \
    goto* kLabels[static_cast<uint16_t>(in->op)]; \
  } while (0)
#define JUMP_TO_TARGET() (ip = insts + in->target)
#define RAISE() goto error

// What runs Python, raises or looks at the frame needs its position; calls also need the stack top.
#define SYNC()                                                       \
  do {                                                               \
    native->position = units + in->unit;                             \
    f.top = sp;                                                      \
    if constexpr (kTraced) f.pc = static_cast<uint32_t>(in - insts); \
  } while (0)

#define PROV_AT(slot) (*reinterpret_cast<Prov**>(reinterpret_cast<char*>(slot) + to_prov))
#define VAL_AT(slot) (kTraced ? Val{*(slot), PROV_AT(slot)} : Val{*(slot), nullptr})
#define TOP(n) VAL_AT(sp - (n))
#define SET_AT(slot, value)                        \
  do {                                             \
    const Val set_ = (value);                      \
    *(slot) = set_.o;                              \
    if constexpr (kTraced) PROV_AT(slot) = set_.p; \
  } while (0)
#define PUSH(value)    \
  do {                 \
    SET_AT(sp, value); \
    sp++;              \
  } while (0)
#define PUSH_NEW(object) PUSH((Val{(object), nullptr}))
#define SET_TOP(value) SET_AT(sp - 1, value)
#define BOOL(x) Py_NewRef((x) ? Py_True : Py_False)
// Drops the topmost n values.
#define DROP(n)                                 \
  do {                                          \
    for (int drop_ = (n); drop_ > 0; drop_--) { \
      --sp;                                     \
      Py_XDECREF(*sp);                          \
    }                                           \
  } while (0)
// Work that must not starve the rest of the process; see tick() in unwind.h.
#define TICK()                                                    \
  do {                                                            \
    if (FULMEN_UNLIKELY((++f.context->ticks & kTickMask) == 0)) { \
      SYNC();                                                     \
      if (!tick(f.context)) RAISE();                              \
    }                                                             \
  } while (0)
