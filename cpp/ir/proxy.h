#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "ir/arg.h"
#include "ir/type.h"

namespace fulmen {

enum class ProxyKind : uint8_t { kTensor, kNumber, kString, kCollection, kObject };
enum class NumberType : uint8_t { kBool, kInt, kFloat, kComplex };

// A value of the traced program. Owned by its TraceContext; identified by its address, printed by
// its name, which is unique within the context.
struct Proxy {
  ProxyKind kind;
  uint32_t id;
  std::string_view name;
};

struct TensorProxy : Proxy {
  TensorType type;
  // The tensor whose storage this one shares, null when it owns fresh storage. For an in-place
  // operation's result: the tensor before it.
  const TensorProxy* alias_of = nullptr;
  // An input that is an autograd leaf: eager refuses in-place operations on it when it requires
  // grad.
  bool is_leaf = false;
  // Made in inference mode: autograd can't save it, and only inference mode may write to it.
  bool is_inference = false;
};

// A Python number that the program computes. Integers may be a symbolic expression.
struct NumberProxy : Proxy {
  NumberType type;
  Dim value;
};

struct StringProxy : Proxy {};

// A list, tuple or dict that an input was unpacked from.
struct CollectionProxy : Proxy {
  Arg items;
};

// A Python object that no other kind describes.
struct ObjectProxy : Proxy {};

inline const TensorProxy* as_tensor(const Proxy* p) {
  return p && p->kind == ProxyKind::kTensor ? static_cast<const TensorProxy*>(p) : nullptr;
}
inline const NumberProxy* as_number(const Proxy* p) {
  return p && p->kind == ProxyKind::kNumber ? static_cast<const NumberProxy*>(p) : nullptr;
}

// The tensor that owns `t`'s storage.
inline const TensorProxy* storage_of(const TensorProxy* t) {
  while (t->alias_of) t = t->alias_of;
  return t;
}
// The same of any value; itself for what is no tensor.
inline const Proxy* storage_of(const Proxy* p) {
  const TensorProxy* t = as_tensor(p);
  return t ? storage_of(t) : p;
}

// Whether a tensor in it requires grad.
bool any_requires_grad(const Arg& a);
bool any_requires_grad(std::span<const Arg> args);

// The type comment: a TensorType's text, or `int`, `str`, `list`, `object`.
void append_type(std::string& s, const Proxy& p);

}  // namespace fulmen
