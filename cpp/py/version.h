// The Python this build is for. Everything that depends on a version tests one of these.
#pragma once
#ifndef PY_SSIZE_T_CLEAN
#define PY_SSIZE_T_CLEAN
#endif
#include <Python.h>

#define FULMEN_PY_311 (PY_VERSION_HEX < 0x030C0000)
#define FULMEN_PY_312 (PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030D0000)
#define FULMEN_PY_313 (PY_VERSION_HEX >= 0x030D0000)
#define FULMEN_PY_312_UP (PY_VERSION_HEX >= 0x030C0000)

#if PY_VERSION_HEX < 0x030B0000 || PY_VERSION_HEX >= 0x030E0000 || defined(Py_GIL_DISABLED)
#error "the interpreter supports CPython 3.11, 3.12 and 3.13 with the GIL; see interp/refused.cpp"
#endif
