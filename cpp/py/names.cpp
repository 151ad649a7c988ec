#include "py/names.h"

namespace fulmen::py::names {

#define X(name) PyObject* name;
FULMEN_PY_NAMES(X)
#undef X

bool init() {
  if (__abs__) return true;
#define X(name) \
  if (!(name = PyUnicode_InternFromString(#name))) return false;
  FULMEN_PY_NAMES(X)
#undef X
  return true;
}

}  // namespace fulmen::py::names
