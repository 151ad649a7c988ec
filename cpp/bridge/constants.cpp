#include <array>
#include <string>
#include <vector>

#include "bridge/bridge.h"
#include "support/cat.h"
#include "support/error.h"

namespace fulmen::bridge {
namespace {

// torch's constant objects, fetched once and kept for the life of the process.
struct Constants {
  std::array<PyObject*, kNumDTypes> dtypes{};
  struct Named {
    std::string_view name;
    PyObject* object;
    Arg::Kind kind;
  };
  std::vector<Named> named;
  PyObject* device_type = nullptr;
  PyTypeObject* dtype_type = nullptr;

  Constants() {
    PyObject* torch = PyImport_ImportModule("torch");
    if (!torch) internal_error("torch can't be imported");
    const auto get = [&](std::string_view name) {
      PyObject* object = PyObject_GetAttrString(torch, std::string(name).c_str());
      if (!object) PyErr_Clear();  // an older PyTorch lacks it
      return object;
    };
    for (int i = 0; i < kNumDTypes; ++i) dtypes[i] = get(name(static_cast<DType>(i)));
    dtype_type = Py_TYPE(dtypes[0]);
    for (const std::string_view n : {"strided", "sparse_coo", "sparse_csr", "sparse_csc",
                                     "sparse_bsr", "sparse_bsc", "_mkldnn", "jagged"}) {
      if (PyObject* o = get(n)) named.push_back({n, o, Arg::Kind::kLayout});
    }
    for (const std::string_view n :
         {"contiguous_format", "preserve_format", "channels_last", "channels_last_3d"}) {
      if (PyObject* o = get(n)) named.push_back({n, o, Arg::Kind::kMemoryFormat});
    }
    device_type = get("device");
    Py_DECREF(torch);
  }
};

const Constants& constants() {
  static const Constants c;
  return c;
}

PyObject* new_ref(PyObject* o) {
  Py_XINCREF(o);
  return o;
}

}  // namespace

bool torch_constant(PyObject* object, Arg* out) {
  const Constants& c = constants();
  if (Py_TYPE(object) == c.dtype_type) {
    for (int i = 0; i < kNumDTypes; ++i) {
      if (c.dtypes[i] == object) return *out = Arg(static_cast<DType>(i)), true;
    }
    return false;
  }
  if (reinterpret_cast<PyObject*>(Py_TYPE(object)) == c.device_type) {
    PyObject* text = PyObject_Str(object);
    if (!text) return PyErr_Clear(), false;
    const char* s = PyUnicode_AsUTF8(text);
    auto d = device_from_string(s ? s : "");
    Py_DECREF(text);
    if (!d) return false;
    if (d->type == DeviceType::kCPU) d->index = -1;
    *out = Arg(*d);
    return true;
  }
  for (const auto& n : c.named) {
    if (n.object == object) return *out = Arg::named(n.kind, n.name), true;
  }
  return false;
}

PyObject* constant_to_python(const Arg& a) {
  switch (a.kind()) {
    case Arg::Kind::kNone: Py_RETURN_NONE;
    case Arg::Kind::kBool: return PyBool_FromLong(a.boolean());
    case Arg::Kind::kInt: return PyLong_FromLongLong(a.integer());
    case Arg::Kind::kFloat: return PyFloat_FromDouble(a.real());
    case Arg::Kind::kComplex: return PyComplex_FromDoubles(a.complex().real(), a.complex().imag());
    case Arg::Kind::kString: {
      const std::string_view s = a.text();
      return PyUnicode_FromStringAndSize(s.data(), static_cast<Py_ssize_t>(s.size()));
    }
    case Arg::Kind::kDType: return new_ref(constants().dtypes[static_cast<int>(a.dtype())]);
    case Arg::Kind::kDevice:
      return PyObject_CallFunction(constants().device_type, "s", to_string(a.device()).c_str());
    case Arg::Kind::kLayout:
    case Arg::Kind::kMemoryFormat:
      for (const auto& n : constants().named) {
        if (n.kind == a.kind() && n.name == a.text()) return new_ref(n.object);
      }
      break;
    case Arg::Kind::kEllipsis: return new_ref(Py_Ellipsis);
    case Arg::Kind::kOpaque:
      if (a.opaque()->object) return new_ref(static_cast<PyObject*>(a.opaque()->object));
      throw UserError(
          ErrorKind::kValue, "constant-without-object",
          cat("`", a.opaque()->name, "` has no object: this trace was parsed; give it ",
              "as fulmen.parse_trace(text, constants={'", a.opaque()->name, "': ...})"));
    default: break;
  }
  std::string text;
  append(text, a);
  PyErr_Format(PyExc_ValueError, "not a constant: %s", text.c_str());
  return nullptr;
}

PyObject* resolve_torch_name(std::string_view dotted) {
  PyObject* object = nullptr;
  std::string_view rest = dotted;
  while (!rest.empty()) {
    const size_t dot = std::min(rest.find('.'), rest.size());
    const std::string part(rest.substr(0, dot));
    rest.remove_prefix(std::min(dot + 1, rest.size()));
    PyObject* next =
        object ? PyObject_GetAttrString(object, part.c_str()) : PyImport_ImportModule(part.c_str());
    Py_XDECREF(object);
    if (!next) return nullptr;
    object = next;
  }
  return object;
}

}  // namespace fulmen::bridge
