#include "passes/emit.h"

#include "ir/builder.h"
#include "ops/registry.h"

namespace fulmen::passes {

const Symbol* find_row(std::string_view name) { return Registry::get().find(name); }

Arg emit(std::string_view name, std::initializer_list<Arg> args, const Kwargs& kwargs) {
  const Symbol* row = find_row(name);
  if (!row) throw Unsupported(cat("there is no row ", name));
  Builder& b = Builder::current();
  Args bound;
  std::string why;
  const std::span<const Arg> given(args.begin(), args.size());
  if (!try_bind(row->info->schema, given, kwargs, b.arena(), bound, &why)) {
    throw Unsupported(cat(name, "(): ", why));
  }
  return b.call(*row, bound);
}

}  // namespace fulmen::passes
