#include "bindings/symbolic_number.h"

#include <structmember.h>

#include <string>

namespace fulmen::bindings {
namespace {

struct Object {
  PyObject_HEAD SymbolicNumber number;
};

PyTypeObject* number_type = nullptr;  // set once, when the module is imported

// What may be an operand beside a symbolic number.
bool is_plain(PyObject* o) {
  return PyLong_CheckExact(o) || PyFloat_CheckExact(o) || PyBool_Check(o);
}

// Functions of `operator`, by name; they live as long as the process.
PyObject* operator_function(const char* name) {
  PyObject* module = PyImport_ImportModule("operator");
  PyObject* function = module ? PyObject_GetAttrString(module, name) : nullptr;
  Py_XDECREF(module);
  return function;
}

PyObject* plain(PyObject* o) {
  const SymbolicNumber* n = symbolic_number(o);
  return n ? n->value : o;
}

PyObject* apply(PyObject* function, PyObject* const* operands, size_t n) {
  if (!function) return nullptr;
  NumberOwner* owner = nullptr;
  for (size_t i = 0; i < n; ++i) {
    const SymbolicNumber* number = symbolic_number(operands[i]);
    if (number && number->owner) owner = number->owner;
    if (!number && !is_plain(operands[i])) Py_RETURN_NOTIMPLEMENTED;
  }
  if (owner) return owner->compute(function, operands, n);
  PyObject* values[] = {plain(operands[0]), n > 1 ? plain(operands[1]) : nullptr};
  return PyObject_Vectorcall(function, values, n, nullptr);
}

#define FULMEN_UNARY(NAME, TEXT)                                 \
  PyObject* NAME(PyObject* a) {                                  \
    static PyObject* const function = operator_function(TEXT);   \
    return apply(function, &a, 1);                               \
  }
#define FULMEN_BINARY(NAME, TEXT)                                \
  PyObject* NAME(PyObject* a, PyObject* b) {                     \
    static PyObject* const function = operator_function(TEXT);   \
    PyObject* operands[] = {a, b};                               \
    return apply(function, operands, 2);                         \
  }
FULMEN_UNARY(neg, "neg")
FULMEN_UNARY(pos, "pos")
FULMEN_UNARY(abs, "abs")
FULMEN_UNARY(invert, "invert")
FULMEN_BINARY(add, "add")
FULMEN_BINARY(sub, "sub")
FULMEN_BINARY(mul, "mul")
FULMEN_BINARY(truediv, "truediv")
FULMEN_BINARY(floordiv, "floordiv")
FULMEN_BINARY(mod, "mod")
FULMEN_BINARY(lshift, "lshift")
FULMEN_BINARY(rshift, "rshift")
FULMEN_BINARY(and_, "and_")
FULMEN_BINARY(or_, "or_")
FULMEN_BINARY(xor_, "xor")
#undef FULMEN_UNARY
#undef FULMEN_BINARY

PyObject* power(PyObject* a, PyObject* b, PyObject* modulus) {
  if (modulus != Py_None) {
    PyObject* const known[] = {known_number(a), known_number(b), known_number(modulus)};
    return known[0] && known[1] && known[2] ? PyNumber_Power(known[0], known[1], known[2])
                                            : nullptr;
  }
  static PyObject* const function = operator_function("pow");
  PyObject* operands[] = {a, b};
  return apply(function, operands, 2);
}

PyObject* divmod(PyObject* a, PyObject* b) {
  PyObject* const known[] = {known_number(a), known_number(b)};
  return known[0] && known[1] ? PyNumber_Divmod(known[0], known[1]) : nullptr;
}

PyObject* compare(PyObject* a, PyObject* b, int op) {
  static PyObject* const functions[] = {operator_function("lt"), operator_function("le"),
                                        operator_function("eq"), operator_function("ne"),
                                        operator_function("gt"), operator_function("ge")};
  PyObject* operands[] = {a, b};
  return apply(functions[op], operands, 2);
}

int truth(PyObject* a) {
  static PyObject* const function = operator_function("truth");
  PyObject* known = apply(function, &a, 1);
  const int result = known ? known == Py_True : -1;
  Py_XDECREF(known);
  return result;
}

// What `convert` makes of the value.
template <PyObject* (*kConvert)(PyObject*)>
PyObject* of_value(PyObject* a) {
  PyObject* value = known_number(a);
  return value ? kConvert(value) : nullptr;
}
constexpr auto repr = of_value<PyObject_Repr>;
constexpr auto to_int = of_value<PyNumber_Long>;
constexpr auto to_float = of_value<PyNumber_Float>;
constexpr auto index = of_value<PyNumber_Index>;

Py_hash_t hash(PyObject* a) {
  PyObject* value = known_number(a);
  return value ? PyObject_Hash(value) : -1;
}

PyObject* get_attribute(PyObject* a, PyObject* name) {
  if (PyUnicode_CompareWithASCIIString(name, "__class__") == 0)
    return Py_NewRef(reinterpret_cast<PyObject*>(Py_TYPE(plain(a))));
  PyObject* value = known_number(a);
  return value ? PyObject_GetAttr(value, name) : nullptr;
}

void dealloc(PyObject* o) {
  PyTypeObject* type = Py_TYPE(o);
  Py_XDECREF(symbolic_number(o)->value);
  Py_XDECREF(symbolic_number(o)->proxy);
  type->tp_free(o);
  Py_DECREF(type);
}

PyObject* format(PyObject* a, PyObject* spec) {
  PyObject* value = known_number(a);
  return value ? PyObject_Format(value, spec) : nullptr;
}
PyObject* reduce(PyObject* a, PyObject*) {
  PyObject* value = known_number(a);
  return value ? Py_BuildValue("(O(O))", Py_TYPE(value), value) : nullptr;
}
PyObject* same(PyObject* a, PyObject*) { return Py_NewRef(a); }
PyObject* round_to(PyObject* a, PyObject* args) {
  PyObject* value = known_number(a);
  PyObject* method = value ? PyObject_GetAttrString(value, "__round__") : nullptr;
  PyObject* result = method ? PyObject_CallObject(method, args) : nullptr;
  Py_XDECREF(method);
  return result;
}
PyObject* to_complex(PyObject* a, PyObject*) {
  PyObject* value = known_number(a);
  return value ? PyObject_CallOneArg(reinterpret_cast<PyObject*>(&PyComplex_Type), value) : nullptr;
}

PyMethodDef methods[] = {{"__format__", format, METH_O, nullptr},
                         {"__reduce__", reduce, METH_NOARGS, nullptr},
                         {"__reduce_ex__", reduce, METH_O, nullptr},
                         {"__copy__", same, METH_NOARGS, nullptr},
                         {"__deepcopy__", same, METH_O, nullptr},
                         {"__round__", round_to, METH_VARARGS, nullptr},
                         {"__complex__", to_complex, METH_NOARGS, nullptr},
                         {nullptr, nullptr, 0, nullptr}};

template <class F>
void* slot(F* function) {
  return reinterpret_cast<void*>(function);
}

PyType_Slot slots[] = {{Py_tp_dealloc, slot(dealloc)},
                       {Py_tp_hash, slot(hash)},
                       {Py_tp_repr, slot(repr)},
                       {Py_tp_str, slot(repr)},
                       {Py_tp_getattro, slot(get_attribute)},
                       {Py_tp_richcompare, slot(compare)},
                       {Py_tp_methods, methods},
                       {Py_nb_add, slot(add)},
                       {Py_nb_subtract, slot(sub)},
                       {Py_nb_multiply, slot(mul)},
                       {Py_nb_true_divide, slot(truediv)},
                       {Py_nb_floor_divide, slot(floordiv)},
                       {Py_nb_remainder, slot(mod)},
                       {Py_nb_divmod, slot(divmod)},
                       {Py_nb_power, slot(power)},
                       {Py_nb_lshift, slot(lshift)},
                       {Py_nb_rshift, slot(rshift)},
                       {Py_nb_and, slot(and_)},
                       {Py_nb_or, slot(or_)},
                       {Py_nb_xor, slot(xor_)},
                       {Py_nb_negative, slot(neg)},
                       {Py_nb_positive, slot(pos)},
                       {Py_nb_absolute, slot(abs)},
                       {Py_nb_invert, slot(invert)},
                       {Py_nb_bool, slot(truth)},
                       {Py_nb_int, slot(to_int)},
                       {Py_nb_float, slot(to_float)},
                       {0, nullptr}};
// An int also has an __index__, by which C code tells it from a float.
PyType_Slot int_slots[] = {{Py_nb_index, slot(index)}, {0, nullptr}};

PyType_Spec spec = {"fulmen._core.SymbolicNumber", sizeof(Object), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                    slots};
PyType_Spec int_spec = {"fulmen._core.SymbolicInt", sizeof(Object), 0,
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, int_slots};
PyTypeObject* int_type = nullptr;

}  // namespace

void add_symbolic_number_type(nb::module_& m) {
  const nb::object type = nb::steal(PyType_FromSpec(&spec));
  if (!type.is_valid()) throw nb::python_error();
  number_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  const nb::object integer = nb::steal(PyType_FromSpecWithBases(&int_spec, type.ptr()));
  if (!integer.is_valid()) throw nb::python_error();
  int_type = reinterpret_cast<PyTypeObject*>(integer.ptr());
  m.attr("SymbolicNumber") = type;
  m.attr("SymbolicInt") = integer;
}

PyObject* make_symbolic_number(PyObject* value, NumberOwner* owner, int at) {
  PyTypeObject* type = PyLong_Check(value) ? int_type : number_type;
  PyObject* o = type->tp_alloc(type, 0);
  if (o) reinterpret_cast<Object*>(o)->number = {Py_NewRef(value), owner, at};
  return o;
}

PyObject* make_symbolic_item(PyObject* value, NumberOwner* owner, PyObject* proxy) {
  PyObject* o = make_symbolic_number(value, owner, -1);
  if (o) symbolic_number(o)->proxy = Py_NewRef(proxy);
  return o;
}

SymbolicNumber* symbolic_number(PyObject* object) {
  if (Py_TYPE(object) != number_type && Py_TYPE(object) != int_type) return nullptr;
  return &reinterpret_cast<Object*>(object)->number;
}

PyObject* known_number(PyObject* object) {
  const SymbolicNumber* n = symbolic_number(object);
  if (!n) return object;
  if (n->owner && !n->owner->needs_value(object)) return nullptr;
  return n->value;
}

}  // namespace fulmen::bindings
