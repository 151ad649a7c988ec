// Objects from outside of the call that hold what no guard sees.
#include <string_view>
#include <unordered_map>

#include "jit/acquisition.h"
#include "support/cat.h"

namespace fulmen::jit {

using interp::Prov;

namespace {

// Types of C whose instances hold what their methods, operators and subscripts read and write.
bool has_hidden_state(PyTypeObject* type) {
  static auto* known = new std::unordered_map<PyTypeObject*, bool>;  // guarded by the GIL
  const auto it = known->find(type);
  if (it != known->end()) return it->second;
  bool hidden = false;
  for (const PyTypeObject* t = type; t && !hidden; t = t->tp_base) {
    const std::string_view name = t->tp_name;
    for (const std::string_view hiding :
         {"numpy.ndarray", "bytearray", "array.array", "collections.deque", "memoryview",
          "mmap.mmap", "decimal.Context", "numpy.random.mtrand.RandomState"}) {
      hidden = hidden || name == hiding;
    }
    hidden = hidden || name.starts_with("_io.");
  }
  Py_INCREF(type);  // its address stays its own
  return (*known)[type] = hidden;
}

}  // namespace

bool Acquisition::is_foreign(PyObject* object) const {
  return has_hidden_state(Py_TYPE(object)) && known(object);
}

bool Acquisition::refuse_foreign(PyObject* object) {
  const Prov* p = known(object);
  return refuse(cat("reading or changing ",
                    entry_->guards.path(static_cast<int>(p->id), entry_->argument_names), ", a ",
                    Py_TYPE(object)->tp_name, " from outside of the call"));
}

bool Acquisition::pin_foreign(const interp::Args& args) {
  for (Py_ssize_t i = 0; i < args.total(); ++i) {
    PyObject* o = args.objects[i];
    if (!is_foreign(o)) continue;
    const auto slot = static_cast<int>(known(o)->id);
    if (entry_->guards.is_dynamic(slot)) return refuse_foreign(o);
    entry_->guards.require(slot, Check::kIdentity, o);
  }
  return true;
}

}  // namespace fulmen::jit
