#pragma once

#include <complex>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "ir/device.h"
#include "ir/dim.h"
#include "ir/dtype.h"

namespace fulmen {

struct Proxy;
struct Subprogram;
struct TensorProxy;

// A Python object that the IR only carries (a Generator, a process group, …). Printed by `name`,
// which the running program finds among its globals; equal when identical.
struct Opaque {
  std::string_view name;
  void* object;  // owned by the TraceContext
};

// Any argument or result of a bound symbol: a proxy, a constant, or a collection of these.
// Trivially copyable; strings and collections live in the arena of the trace.
class Arg {
 public:
  enum class Kind : uint8_t {
    kNone,
    kProxy,
    kBool,
    kInt,
    kSymInt,
    kFloat,
    kComplex,
    kString,
    kDType,
    kDevice,
    kLayout,
    kMemoryFormat,
    kList,
    kTuple,
    kDict,
    kSlice,
    kEllipsis,
    kOpaque,
    kProgram,
  };

  constexpr Arg() : int_(0) {}
  Arg(const Proxy* p) : kind_(p ? Kind::kProxy : Kind::kNone), proxy_(p) {}
  Arg(const TensorProxy* p);
  constexpr Arg(bool v) : kind_(Kind::kBool), int_(v) {}
  constexpr Arg(int v) : kind_(Kind::kInt), int_(v) {}
  constexpr Arg(int64_t v) : kind_(Kind::kInt), int_(v) {}
  constexpr Arg(double v) : kind_(Kind::kFloat), float_(v) {}
  Arg(Dim d);
  Arg(DType t) : kind_(Kind::kDType), int_(static_cast<int>(t)) {}
  Arg(Device d) : kind_(Kind::kDevice), device_(d) {}
  // `text` must outlive the trace: a literal, or a copy in its arena.
  Arg(std::string_view text)
      : kind_(Kind::kString), count_(static_cast<uint32_t>(text.size())), text_(text.data()) {}
  Arg(const char* text) : Arg(std::string_view(text)) {}
  Arg(const Opaque* o) : kind_(Kind::kOpaque), opaque_(o) {}
  Arg(const Subprogram* p) : kind_(Kind::kProgram), program_(p) {}

  // The elements must live in the arena. A dict alternates keys and values; a slice has three.
  static Arg collection(Kind kind, std::span<const Arg> items);
  static Arg complex(const std::complex<double>* v);
  // torch.layout and torch.memory_format by torch's name: "strided", "channels_last", …
  static Arg named(Kind kind, std::string_view torch_name);
  static Arg ellipsis();

  Kind kind() const { return kind_; }
  bool is_none() const { return kind_ == Kind::kNone; }
  bool is_proxy() const { return kind_ == Kind::kProxy; }
  bool is_tensor() const;
  bool is_collection() const { return kind_ >= Kind::kList && kind_ <= Kind::kSlice; }
  // list or tuple
  bool is_sequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }
  bool is_int() const { return kind_ == Kind::kInt || kind_ == Kind::kSymInt; }
  // A Python number: bool, int, float, complex or a NumberProxy.
  bool is_number() const;

  const Proxy* proxy() const { return proxy_; }
  const TensorProxy* tensor() const;
  bool boolean() const { return int_ != 0; }
  int64_t integer() const { return int_; }
  Dim dim() const;
  double real() const { return float_; }
  std::complex<double> complex() const { return *complex_; }
  std::string_view text() const { return {text_, count_}; }
  DType dtype() const { return static_cast<DType>(int_); }
  Device device() const { return device_; }
  const Opaque* opaque() const { return opaque_; }
  const Subprogram* program() const { return program_; }
  std::span<const Arg> items() const { return {items_, count_}; }

  // Deep; constants compare with their type (1, 1.0 and True differ), NaN equals itself.
  friend bool operator==(const Arg& a, const Arg& b);

 private:
  Kind kind_ = Kind::kNone;
  uint32_t count_ = 0;
  union {
    int64_t int_;
    double float_;
    Device device_;
    const Proxy* proxy_;
    const DimExpr* expr_;
    const std::complex<double>* complex_;
    const char* text_;
    const Opaque* opaque_;
    const Subprogram* program_;
    const Arg* items_;
  };
};

// Arg as Python source: `x`, `(1, 2.0)`, `torch.float32`, `slice(None, 3, None)`.
void append(std::string& s, const Arg& a);

// Calls f(const Proxy*) for every proxy in `a`, in order.
template <class F>
void for_each_proxy(const Arg& a, F&& f) {
  if (a.is_proxy()) {
    f(a.proxy());
  } else if (a.is_collection()) {
    for (const Arg& item : a.items()) for_each_proxy(item, f);
  }
}

}  // namespace fulmen
