// Ownership of Python references in the type.
#pragma once
#include <utility>

#include "py/version.h"

namespace fulmen::py {

// Owns one reference, or none. Needs the GIL wherever it is copied or dropped.
class Ref {
 public:
  Ref() = default;
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref(const Ref& other) : object_(Py_XNewRef(other.object_)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() { Py_XDECREF(object_); }

  // Takes over a reference that the caller owns.
  static Ref steal(PyObject* object) { return Ref(object); }
  // Takes a new reference.
  static Ref borrow(PyObject* object) { return Ref(Py_XNewRef(object)); }

  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  explicit operator bool() const { return object_ != nullptr; }
  void reset() { Py_CLEAR(object_); }

 private:
  explicit Ref(PyObject* object) : object_(object) {}
  PyObject* object_ = nullptr;
};

// Somebody else's reference, which outlives this one.
class BorrowedRef {
 public:
  BorrowedRef(PyObject* object) : object_(object) {}   // NOLINT: implicit on purpose
  BorrowedRef(const Ref& ref) : object_(ref.get()) {}  // NOLINT
  PyObject* get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_;
};

}  // namespace fulmen::py
