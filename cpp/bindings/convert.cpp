#include "bindings/convert.h"

#include "bindings/symbolic_number.h"
#include "bindings/tensor_proxy.h"
#include "bridge/bridge.h"
#include "bridge/gil.h"
#include "support/error.h"

namespace fulmen::bindings {
namespace {

Arg int_arg(PyObject* o) {
  int overflow = 0;
  const long long v = PyLong_AsLongLongAndOverflow(o, &overflow);
  if (overflow) throw Unsupported("an integer beyond 64 bits");
  return Arg(static_cast<int64_t>(v));
}

Arg sequence_arg(PyObject* o, Arg::Kind kind, TraceContext& ctx, TensorLifter* lifter) {
  const bool list = PyList_Check(o);
  const Py_ssize_t n = list ? PyList_GET_SIZE(o) : PyTuple_GET_SIZE(o);
  SmallVec<Arg, 8> items;
  for (Py_ssize_t i = 0; i < n; ++i) {
    items.push_back(to_arg(list ? PyList_GET_ITEM(o, i) : PyTuple_GET_ITEM(o, i), ctx, lifter));
  }
  return ctx.make_collection(kind, items);
}

}  // namespace

PyProxy* proxy_of(nb::handle object) {
  if (PyProxy* state = tensor_proxy_state(object.ptr())) return state;
  if (const SymbolicNumber* number = symbolic_number(object.ptr())) {
    return number->proxy ? nb::inst_ptr<PyNumberProxy>(number->proxy) : nullptr;
  }
  if (nb::isinstance<PyNumberProxy>(object)) return nb::inst_ptr<PyNumberProxy>(object);
  if (nb::isinstance<PyOtherProxy>(object)) return nb::inst_ptr<PyOtherProxy>(object);
  return nullptr;
}

Arg to_arg(nb::handle object, TraceContext& ctx, TensorLifter* lifter) {
  PyObject* o = object.ptr();
  if (o == Py_None) return {};
  if (PyBool_Check(o)) return o == Py_True;
  if (PyLong_Check(o)) return int_arg(o);
  if (PyFloat_Check(o)) return PyFloat_AS_DOUBLE(o);
  if (PyUnicode_Check(o)) {
    Py_ssize_t n = 0;
    const char* s = PyUnicode_AsUTF8AndSize(o, &n);
    if (!s) throw nb::python_error();
    return ctx.make_string({s, static_cast<size_t>(n)});
  }
  if (PyProxy* proxy = proxy_of(object)) {
    if (proxy->ctx.get() != &ctx) {
      throw UserError(ErrorKind::kRuntime, "foreign-proxy",
                      cat("the proxy '", proxy->p->name, "' belongs to another trace"));
    }
    return Arg(proxy->p);
  }
  if (bridge::is_tensor(o)) {
    if (!lifter) throw Unsupported("a tensor as constant");
    return Arg(lifter->lift(object));
  }
  if (PyList_Check(o)) return sequence_arg(o, Arg::Kind::kList, ctx, lifter);
  if (PyTuple_Check(o)) return sequence_arg(o, Arg::Kind::kTuple, ctx, lifter);
  if (PyDict_Check(o)) {
    SmallVec<Arg, 8> items;
    PyObject *key = nullptr, *value = nullptr;
    Py_ssize_t at = 0;
    while (PyDict_Next(o, &at, &key, &value)) {
      items.push_back(to_arg(key, ctx, lifter));
      items.push_back(to_arg(value, ctx, lifter));
    }
    return ctx.make_collection(Arg::Kind::kDict, items);
  }
  if (PySlice_Check(o)) {
    auto* s = reinterpret_cast<PySliceObject*>(o);
    const Arg items[] = {to_arg(s->start, ctx, lifter), to_arg(s->stop, ctx, lifter),
                         to_arg(s->step, ctx, lifter)};
    return ctx.make_collection(Arg::Kind::kSlice, items);
  }
  if (o == Py_Ellipsis) return Arg::ellipsis();
  if (PyComplex_Check(o)) {
    const Py_complex c = PyComplex_AsCComplex(o);
    return Arg::complex(ctx.arena().make<std::complex<double>>(c.real, c.imag));
  }
  if (Arg constant; bridge::torch_constant(o, &constant)) return constant;
  if (symbolic_number(o)) {
    if (const Proxy* p = lifter ? lifter->lift_number(object) : nullptr) return Arg(p);
    PyObject* value = known_number(o);
    if (!value) throw nb::python_error();
    return to_arg(value, ctx, lifter);
  }
  // NumPy scalars and the like count as the Python number that they convert to.
  if (PyIndex_Check(o)) {
    const nb::object index = nb::steal(PyNumber_Index(o));
    if (!index.is_valid()) throw nb::python_error();
    return int_arg(index.ptr());
  }
  return Arg(make_opaque(object, ctx, cat("const_", Py_TYPE(o)->tp_name)));
}

const Opaque* make_opaque(nb::handle object, TraceContext& ctx, std::string_view name) {
  return ctx.make_opaque(
      object.inc_ref().ptr(),
      [](void* p) {
        if (!Py_IsInitialized()) return;
        const bridge::HoldGil gil;
        Py_DECREF(static_cast<PyObject*>(p));
      },
      name);
}

nb::object wrap_proxy(const Proxy* p, const std::shared_ptr<TraceContext>& ctx) {
  switch (p->kind) {
    case ProxyKind::kTensor: return make_tensor_proxy(p, ctx);
    case ProxyKind::kNumber: return nb::cast(PyNumberProxy{{ctx, p}});
    default: return nb::cast(PyOtherProxy{{ctx, p}});
  }
}

nb::object dim_to_object(Dim d) {
  if (d.is_concrete()) return nb::int_(d.value());
  std::string text;
  append(text, d);
  return nb::str(text.c_str());
}

nb::object dims_to_tuple(std::span<const Dim> dims) {
  nb::object tuple = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(dims.size())));
  for (size_t i = 0; i < dims.size(); ++i) {
    PyTuple_SET_ITEM(tuple.ptr(), static_cast<Py_ssize_t>(i),
                     dim_to_object(dims[i]).release().ptr());
  }
  return tuple;
}

nb::object to_object(const Arg& a, const std::shared_ptr<TraceContext>& ctx) {
  switch (a.kind()) {
    case Arg::Kind::kProxy: return wrap_proxy(a.proxy(), ctx);
    case Arg::Kind::kSymInt: return dim_to_object(a.dim());
    case Arg::Kind::kProgram: return nb::cast(to_trace(*a.program()));
    case Arg::Kind::kList: {
      nb::list list;
      for (const Arg& item : a.items()) list.append(to_object(item, ctx));
      return list;
    }
    case Arg::Kind::kTuple: {
      nb::object tuple = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(a.items().size())));
      for (size_t i = 0; i < a.items().size(); ++i) {
        PyTuple_SET_ITEM(tuple.ptr(), static_cast<Py_ssize_t>(i),
                         to_object(a.items()[i], ctx).release().ptr());
      }
      return tuple;
    }
    case Arg::Kind::kDict: {
      nb::dict dict;
      for (size_t i = 0; i + 1 < a.items().size(); i += 2) {
        dict[to_object(a.items()[i], ctx)] = to_object(a.items()[i + 1], ctx);
      }
      return dict;
    }
    case Arg::Kind::kSlice: {
      const nb::object x = to_object(a.items()[0], ctx), y = to_object(a.items()[1], ctx),
                       z = to_object(a.items()[2], ctx);
      return nb::steal(PySlice_New(x.ptr(), y.ptr(), z.ptr()));
    }
    default: {
      nb::object o = nb::steal(bridge::constant_to_python(a));
      if (!o.is_valid()) throw nb::python_error();
      return o;
    }
  }
}

}  // namespace fulmen::bindings
