#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "ir/trace.h"

namespace fulmen::exec {

// One runtime value: the bridge keeps a c10::IValue in it. All-zero bytes are "empty".
struct alignas(8) Slot {
  unsigned char bytes[16];
};

// One instruction of a program. `run` reads and writes slots; it is called without the GIL, from
// any thread, on different slots at once.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run(Slot* slots) const = 0;
};

using SlotOf = std::function<uint32_t(const Proxy*)>;

// Who can run a bound symbol, and how. See transform_for_execution.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual std::string_view name() const = 0;
  // Whether it may run such a symbol at all; if not, nobody asks why it refuses.
  virtual bool concerns(const Symbol&) const { return true; }
  // Empty if this executor runs `bsym`, else why not.
  virtual std::string refusal(const BoundSymbol& bsym) const = 0;
  virtual std::unique_ptr<Kernel> compile(const BoundSymbol& bsym, const SlotOf& slot_of) const = 0;
};

}  // namespace fulmen::exec
