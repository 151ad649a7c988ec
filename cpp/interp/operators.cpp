// Unary and binary operators and truth.
#include <cstddef>

#include "interp/protocol.h"
#include "interp/slots.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

namespace {

struct BinaryOperator {
  size_t slot;
  size_t inplace_slot;
  PyObject** name;
  PyObject** reflected;
  PyObject** inplace;
  const char* sign;
  PyObject* (*native)(PyObject*, PyObject*);
  PyObject* (*native_inplace)(PyObject*, PyObject*);
};

PyObject* power(PyObject* a, PyObject* b) { return PyNumber_Power(a, b, Py_None); }
PyObject* inplace_power(PyObject* a, PyObject* b) { return PyNumber_InPlacePower(a, b, Py_None); }

#define SLOT(word) \
  offsetof(PyNumberMethods, nb_##word), offsetof(PyNumberMethods, nb_inplace_##word)
#define NAMES(stem) &names::__##stem##__, &names::__r##stem##__, &names::__i##stem##__
// In the order of BINARY_OP's argument.
const BinaryOperator kBinary[13] = {
    {SLOT(add), NAMES(add), "+", PyNumber_Add, PyNumber_InPlaceAdd},
    {SLOT(and), NAMES(and), "&", PyNumber_And, PyNumber_InPlaceAnd},
    {SLOT(floor_divide), NAMES(floordiv), "//", PyNumber_FloorDivide, PyNumber_InPlaceFloorDivide},
    {SLOT(lshift), NAMES(lshift), "<<", PyNumber_Lshift, PyNumber_InPlaceLshift},
    {SLOT(matrix_multiply), NAMES(matmul), "@", PyNumber_MatrixMultiply,
     PyNumber_InPlaceMatrixMultiply},
    {SLOT(multiply), NAMES(mul), "*", PyNumber_Multiply, PyNumber_InPlaceMultiply},
    {SLOT(remainder), NAMES(mod), "%", PyNumber_Remainder, PyNumber_InPlaceRemainder},
    {SLOT(or), NAMES(or), "|", PyNumber_Or, PyNumber_InPlaceOr},
    {SLOT(power), NAMES(pow), "** or pow()", power, inplace_power},
    {SLOT(rshift), NAMES(rshift), ">>", PyNumber_Rshift, PyNumber_InPlaceRshift},
    {SLOT(subtract), NAMES(sub), "-", PyNumber_Subtract, PyNumber_InPlaceSubtract},
    {SLOT(true_divide), NAMES(truediv), "/", PyNumber_TrueDivide, PyNumber_InPlaceTrueDivide},
    {SLOT(xor), NAMES(xor), "^", PyNumber_Xor, PyNumber_InPlaceXor},
};
constexpr int kAdd = 0, kMultiply = 5, kPower = 8;
const char* const kInplaceSigns[13] = {
    "+=", "&=", "//=", "<<=", "@=", "*=", "%=", "|=", "**=", ">>=", "-=", "/=", "^="};
#undef SLOT
#undef NAMES

void* number_slot(PyObject* object, size_t offset) {
  return slot_at<void*>(Py_TYPE(object)->tp_as_number, offset);
}
void* python_slot(size_t offset) { return slot_at<void*>(&python_slots.number, offset); }

// Calls a special method of `self` with `other`: NotImplemented when it is absent.
bool call_or_not_implemented(Frame& frame, Val self, PyObject* name, Val other, Val* result) {
  const int has = call_special(frame, self, name, {other}, result);
  if (has == 0) *result = {Py_NewRef(Py_NotImplemented), nullptr};
  return has >= 0;
}

bool is_not_implemented(Val* value) {
  if (value->o != Py_NotImplemented) return false;
  Py_DECREF(value->o);
  return true;
}

// What the slot of a class with Python methods does for `self OP other`.
bool python_binary(Frame& frame, const BinaryOperator& row, Val self, Val other, Val* result) {
  PyTypeObject *type = Py_TYPE(self.o), *other_type = Py_TYPE(other.o);
  void* const known = python_slot(row.slot);
  bool try_other = type != other_type && number_slot(other.o, row.slot) == known;
  if (number_slot(self.o, row.slot) == known) {
    if (try_other && PyType_IsSubtype(other_type, type)) {
      // The subclass goes first, if it has its own idea of the reflected operation.
      PyObject* theirs = type_lookup(frame, other_type, *row.reflected);
      PyObject* ours = type_lookup(frame, type, *row.reflected);
      if (theirs && theirs != ours) {
        if (!call_or_not_implemented(frame, other, *row.reflected, self, result)) return false;
        if (!is_not_implemented(result)) return true;
        try_other = false;
      }
    }
    if (!call_or_not_implemented(frame, self, *row.name, other, result)) return false;
    if (result->o != Py_NotImplemented || type == other_type) return true;
    Py_DECREF(result->o);
  }
  if (try_other) return call_or_not_implemented(frame, other, *row.reflected, self, result);
  *result = {Py_NewRef(Py_NotImplemented), nullptr};
  return true;
}

bool run_slot(Frame& frame, const BinaryOperator& row, void* slot, bool is_power, Val a, Val b,
              Val* result) {
  if (slot == python_slot(row.slot)) return python_binary(frame, row, a, b, result);
  result->p = nullptr;
  result->o = is_power ? reinterpret_cast<ternaryfunc>(slot)(a.o, b.o, Py_None)
                       : reinterpret_cast<binaryfunc>(slot)(a.o, b.o);
  return result->o != nullptr;
}

// `a OP b` by the operands' number slots: NotImplemented when neither knows how.
bool by_number_slots(Frame& frame, int op, Val a, Val b, Val* result) {
  const BinaryOperator& row = kBinary[op];
  const bool is_power = op == kPower;
  void* left = number_slot(a.o, row.slot);
  void* right = Py_TYPE(a.o) == Py_TYPE(b.o) ? nullptr : number_slot(b.o, row.slot);
  if (right == left) right = nullptr;
  if (left) {
    if (right && PyType_IsSubtype(Py_TYPE(b.o), Py_TYPE(a.o))) {
      if (!run_slot(frame, row, right, is_power, a, b, result)) return false;
      if (!is_not_implemented(result)) return true;
      right = nullptr;
    }
    if (!run_slot(frame, row, left, is_power, a, b, result)) return false;
    if (!is_not_implemented(result)) return true;
  }
  if (right) {
    if (!run_slot(frame, row, right, is_power, a, b, result)) return false;
    if (!is_not_implemented(result)) return true;
  }
  *result = {Py_NewRef(Py_NotImplemented), nullptr};
  return true;
}

PyObject* repeat(ssizeargfunc function, PyObject* sequence, PyObject* count) {
  if (!PyIndex_Check(count)) {
    return PyErr_Format(PyExc_TypeError, "can't multiply sequence by non-int of type '%.200s'",
                        Py_TYPE(count)->tp_name);
  }
  const Py_ssize_t n = PyNumber_AsSsize_t(count, PyExc_OverflowError);
  if (n == -1 && PyErr_Occurred()) return nullptr;
  return function(sequence, n);
}

// The operands' number slots do not know: sequences may. Null without an exception: nobody does.
PyObject* by_sequence_slots(int op, bool inplace, PyObject* a, PyObject* b) {
  PySequenceMethods* left = Py_TYPE(a)->tp_as_sequence;
  if (op == kAdd && left) {
    if (inplace && left->sq_inplace_concat) return left->sq_inplace_concat(a, b);
    if (left->sq_concat) return left->sq_concat(a, b);
  }
  if (op == kMultiply) {
    PySequenceMethods* right = Py_TYPE(b)->tp_as_sequence;
    if (left) {
      if (inplace && left->sq_inplace_repeat) return repeat(left->sq_inplace_repeat, a, b);
      if (left->sq_repeat) return repeat(left->sq_repeat, a, b);
    }
    if (right && right->sq_repeat) return repeat(right->sq_repeat, b, a);
  }
  return nullptr;
}

bool python_operands(Frame& frame, int op, bool inplace, Val a, Val b, Val* result) {
  const BinaryOperator& row = kBinary[op];
  if (inplace) {
    void* slot = number_slot(a.o, row.inplace_slot);
    if (slot) {
      if (slot == python_slot(row.inplace_slot)) {
        if (!call_or_not_implemented(frame, a, *row.inplace, b, result)) return false;
      } else {
        result->p = nullptr;
        result->o = op == kPower ? reinterpret_cast<ternaryfunc>(slot)(a.o, b.o, Py_None)
                                 : reinterpret_cast<binaryfunc>(slot)(a.o, b.o);
        if (!result->o) return false;
      }
      if (!is_not_implemented(result)) return true;
    }
  }
  if (!by_number_slots(frame, op, a, b, result)) return false;
  if (!is_not_implemented(result)) return true;
  *result = {by_sequence_slots(op, inplace, a.o, b.o), nullptr};
  if (result->o) return true;
  if (!PyErr_Occurred()) {
    PyErr_Format(PyExc_TypeError, "unsupported operand type(s) for %.100s: '%.100s' and '%.100s'",
                 inplace ? kInplaceSigns[op] : row.sign, Py_TYPE(a.o)->tp_name,
                 Py_TYPE(b.o)->tp_name);
  }
  return false;
}

bool has_python_operator(const BinaryOperator& row, bool inplace, PyObject* a, PyObject* b) {
  void* const known = python_slot(row.slot);
  return number_slot(a, row.slot) == known || number_slot(b, row.slot) == known ||
         (inplace && number_slot(a, row.inplace_slot) == python_slot(row.inplace_slot));
}

}  // namespace

bool binary_op(Frame& frame, int op, Val a, Val b, Val* result) {
  if (frame.hooks) {
    const Answer answer = frame.hooks->operate(frame, op, a, b, result);
    if (answer != Answer::kNotHandled) return answer == Answer::kDone;
  }
  const bool inplace = op >= 13;
  if (inplace) op -= 13;
  const BinaryOperator& row = kBinary[op];
  if (is_heap_type(Py_TYPE(a.o)) || is_heap_type(Py_TYPE(b.o))) {
    if (has_python_operator(row, inplace, a.o, b.o)) {
      return python_operands(frame, op, inplace, a, b, result);
    }
  }
  result->p = nullptr;
  result->o = (inplace ? row.native_inplace : row.native)(a.o, b.o);
  return result->o != nullptr;
}

bool unary_op(Frame& frame, Op op, Val a, Val* result) {
  if (frame.hooks) {
    const Answer answer = frame.hooks->operate(frame, -static_cast<int>(op), a, {}, result);
    if (answer != Answer::kNotHandled) return answer == Answer::kDone;
  }
  PyNumberMethods* slots = Py_TYPE(a.o)->tp_as_number;
  const PyNumberMethods& known = python_slots.number;
  PyObject* name = nullptr;
  PyObject* (*native)(PyObject*) = nullptr;
  if (op == Op::kUNARY_NEGATIVE) {
    native = PyNumber_Negative;
    if (slots && slots->nb_negative == known.nb_negative) name = names::__neg__;
  } else if (op == Op::kUNARY_POSITIVE) {
    native = PyNumber_Positive;
    if (slots && slots->nb_positive == known.nb_positive) name = names::__pos__;
  } else {
    native = PyNumber_Invert;
    if (slots && slots->nb_invert == known.nb_invert) name = names::__invert__;
  }
  if (name) {
    const int has = call_special(frame, a, name, {}, result);
    if (has) return has > 0;
  }
  *result = {native(a.o), nullptr};
  return result->o != nullptr;
}

int truth(Frame& frame, Val value) {
  PyObject* object = value.o;
  if (frame.hooks) {
    const int known = frame.hooks->truth(frame, value);
    if (known != -2) return known;
  }
  if (object == Py_True) return 1;
  if (object == Py_False || object == Py_None) return 0;
  PyTypeObject* type = Py_TYPE(object);
  if (!is_heap_type(type)) return PyObject_IsTrue(object);
  if (frame.hooks) {
    type_lookup(frame, type, names::__bool__);
    type_lookup(frame, type, names::__len__);
  }
  Val result;
  if (type->tp_as_number && type->tp_as_number->nb_bool == python_slots.number.nb_bool) {
    int has = call_special(frame, value, names::__bool__, {}, &result);
    if (has < 0) return -1;
    if (has) {
      int t = -1;
      if (PyBool_Check(result.o)) {
        t = result.o == Py_True;
      } else {
        PyErr_Format(PyExc_TypeError, "__bool__ should return bool, returned %s",
                     Py_TYPE(result.o)->tp_name);
      }
      Py_DECREF(result.o);
      return t;
    }
  } else if (type->tp_as_number && type->tp_as_number->nb_bool) {
    return PyObject_IsTrue(object);
  }
  const bool python_length =
      (type->tp_as_mapping && type->tp_as_mapping->mp_length == python_slots.mapping.mp_length) ||
      (type->tp_as_sequence && type->tp_as_sequence->sq_length == python_slots.sequence.sq_length);
  if (!python_length) return PyObject_IsTrue(object);
  if (!length(frame, value, &result)) return -1;
  const int t = PyObject_IsTrue(result.o);
  Py_DECREF(result.o);
  return t;
}

}  // namespace fulmen::interp
