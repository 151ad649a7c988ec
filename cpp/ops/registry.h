#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "ir/parser.h"
#include "ir/symbol.h"

namespace fulmen {

// Every known symbol: the rows of all families with their in-place twins, built once on first use
// and constant after, and the symbols that Python or a plug-in defines at run time.
class Registry {
 public:
  static Registry& get();

  // By name with overload ("sum.dim"); null if unknown.
  const Symbol* find(std::string_view name) const;
  // All rows and twins, in the order of declaration.
  const std::vector<const Symbol*>& symbols() const { return symbols_; }
  // The overloads behind a torch callable ("torch.sum"), in the order in which they are tried.
  std::vector<const Symbol*> overloads(std::string_view torch_name) const;

  // Defines a symbol at run time. Throws UserError when the name is taken or the schema malformed.
  const Symbol& define(std::string_view schema, std::string_view torch_names, uint32_t tags,
                       std::shared_ptr<SymbolRules> rules);
  // The same, in place of a symbol that was so defined: later traces find the new one.
  const Symbol& redefine(std::string_view schema, std::string_view torch_names, uint32_t tags,
                         std::shared_ptr<SymbolRules> rules);
  // The names of the symbols that were defined at run time.
  std::vector<std::string> defined() const;
  // The opaque symbol that calls `torch_name` from Python; made on first use. The bound symbol's
  // two arguments are the tuple of positional and the dict of keyword arguments. `tags` (kInplace,
  // kView) say what this use of it does to its arguments; other uses are other symbols.
  const Symbol& opaque(std::string_view torch_name, uint32_t tags = 0);

 private:
  Registry();
  const Symbol& define(std::string_view schema, std::string_view torch_names, uint32_t tags,
                       std::shared_ptr<SymbolRules> rules, bool again);
  const Symbol& add(const Symbol& row);

  struct Storage;
  std::shared_ptr<Storage> storage_;
  std::vector<const Symbol*> symbols_;
};

// The registry as the parser sees it.
const SymbolResolver& registry_resolver();

}  // namespace fulmen
