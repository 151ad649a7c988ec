#include "interp/lookaside.h"
#include "interp/steps.h"
namespace fulmen::interp {
bool init_iteration_lookasides() { return true; }
bool init_container_lookasides() { return true; }
bool init_functools_lookasides() { return true; }
Step has_step(PyTypeObject*) { return nullptr; }
}  // namespace fulmen::interp
