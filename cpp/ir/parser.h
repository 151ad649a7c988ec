#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "ir/trace.h"

namespace fulmen {

// Where the parser finds symbols; the registry's is registry_resolver() in ops/registry.h.
struct SymbolResolver {
  virtual ~SymbolResolver() = default;
  // The overloads behind a torch callable, in the order in which they are tried.
  virtual std::vector<const Symbol*> overloads(std::string_view torch_name) const = 0;
  // By name with overload; null if unknown.
  virtual const Symbol* find(std::string_view name) const = 0;
  virtual const Symbol& opaque(std::string_view torch_name, uint32_t tags) const = 0;
};

// The object behind a free variable; null if there is none of that name.
using ObjectResolver = std::function<const Opaque*(TraceContext& ctx, std::string_view name)>;

// Reads what to_python writes, into a fresh context. Spacing is free; a statement without a type
// comment gets its symbol's inferred types. Without `objects`, free variables become Opaques
// without an object. Throws UserError "trace-syntax", with the line, for malformed text.
Trace parse_trace(std::string_view text, const SymbolResolver& symbols,
                  const ObjectResolver& objects = nullptr);

}  // namespace fulmen
