#include "ops/registry.h"

#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>

#include "ir/builder.h"
#include "ops/families.h"
#include "support/cat.h"
#include "support/error.h"

namespace fulmen {
namespace {

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const size_t n = std::min(text.find(' '), text.size());
    if (n) words.emplace_back(text.substr(0, n));
    text.remove_prefix(std::min(n + 1, text.size()));
  }
  return words;
}

// torch.Tensor.add_ and torch.relu_ are in-place twins; dunders and private names are not.
bool is_inplace_name(std::string_view torch_name) {
  const size_t dot = torch_name.rfind('.');
  std::string_view last = dot == std::string_view::npos ? torch_name : torch_name.substr(dot + 1);
  if (last.starts_with("__i") && last.ends_with("__")) {
    // __iadd__ and its like, but not __invert__, __index__, __int__, __init__.
    static constexpr std::string_view kInplace[] = {
        "__iadd__",      "__isub__",    "__imul__",   "__itruediv__", "__idiv__",
        "__ifloordiv__", "__imod__",    "__ipow__",   "__iand__",     "__ior__",
        "__ixor__",      "__ilshift__", "__irshift__"};
    for (const auto name : kInplace) {
      if (last == name) return true;
    }
    return false;
  }
  if (torch_name.starts_with("operator.i")) {
    static constexpr std::string_view kInplace[] = {"iadd",      "isub", "imul",    "itruediv",
                                                    "ifloordiv", "imod", "ipow",    "iand",
                                                    "ior",       "ixor", "ilshift", "irshift"};
    for (const auto name : kInplace) {
      if (last == name) return true;
    }
  }
  if (torch_name.starts_with("operator.")) return false;  // operator.and_, operator.or_
  return last.ends_with("_") && !last.ends_with("__");
}

std::string inplace_symbol_name(const std::string& name) {
  const size_t dot = name.find('.');
  if (dot == std::string::npos) return name + "_";
  return name.substr(0, dot) + "_" + name.substr(dot);
}

// Note [In-place twins]
// `t1 = torch.Tensor.add_(x, y)`: the twin runs the row's meta for its checks, and returns a proxy
// that stands for the tensor after the write. Later uses of the tensor read t1; the functionalize
// pass turns the twin into the row and a write-back.
Arg inplace_meta(Call& in) {
  const Symbol& row = *in.symbol().info->functional;
  const TensorProxy* self = in[0].tensor();
  if (!self) in.unsupported("the mutated argument is not a tensor");
  Builder& b = in.builder();
  if (b.grad_enabled && self->type.requires_grad && self->is_leaf) {
    in.fail(ErrorKind::kRuntime, "inplace-on-leaf",
            "a leaf Variable that requires grad is being used in an in-place operation.");
  }
  const Arg result = b.infer(row, in.args());
  const TensorProxy* value = result.tensor();
  if (!value) in.unsupported("the in-place operation has several results");
  if (row.has(kView)) {  // t_(), unsqueeze_(): the metadata changes, the data does not
    return in.make_view(value->type, *self);
  }
  if (!(value->type.shape == self->type.shape)) {
    std::string got, expected;
    append(got, value->type);
    append(expected, self->type);
    in.fail(ErrorKind::kRuntime, "inplace-shape",
            "the result's shape does not match the tensor written in place; got ", got,
            "; expected ", expected);
  }
  if (!can_cast(value->type.dtype, self->type.dtype)) {
    in.fail(ErrorKind::kRuntime, "inplace-dtype", "result type ", name(value->type.dtype),
            " can't be cast to the desired output type ", name(self->type.dtype));
  }
  const Arg out = in.make_view(self->type, *self);
  const_cast<TensorProxy*>(out.tensor())->type.requires_grad = self->type.requires_grad;
  return out;
}

}  // namespace

struct Registry::Storage {
  Arena arena;
  mutable std::shared_mutex mutex;  // guards what grows after construction
  std::vector<std::unique_ptr<SymbolInfo>> infos;
  std::vector<std::unique_ptr<Symbol>> made;  // twins, run-time symbols, opaque symbols
  std::vector<std::unique_ptr<std::string>> texts;
  std::unordered_map<std::string, const Symbol*> by_name;
  std::unordered_map<std::string, std::vector<const Symbol*>> by_torch_name;
  std::unordered_map<std::string, const Symbol*> opaque;

  void add_torch_names(const Symbol& symbol, SymbolInfo& info) {
    if (!info.torch_names.empty()) info.rivals = by_torch_name[info.torch_names[0]];
    for (const std::string& name : info.torch_names) by_torch_name[name].push_back(&symbol);
  }
};

Registry& Registry::get() {
  static Registry registry;
  return registry;
}

const Symbol& Registry::add(const Symbol& row) {
  auto info = std::make_unique<SymbolInfo>();
  info->index = static_cast<uint32_t>(symbols_.size());
  info->schema = parse_schema(row.schema, storage_->arena);
  std::vector<std::string> inplace_names;
  for (std::string& name : split(row.torch)) {
    const bool twin = is_inplace_name(name) && !row.has(kInplace);
    (twin ? inplace_names : info->torch_names).push_back(std::move(name));
  }
  row.info = info.get();
  SymbolInfo& row_info = *info;
  storage_->infos.push_back(std::move(info));
  if (!storage_->by_name.emplace(row_info.schema.name, &row).second) {
    internal_error("two rows are named ", row_info.schema.name);
  }
  symbols_.push_back(&row);
  storage_->add_torch_names(row, row_info);
  if (!inplace_names.empty()) {
    // The first name is printed: mul_ rather than __imul__.
    std::stable_partition(inplace_names.begin(), inplace_names.end(), [](const std::string& name) {
      return !name.starts_with("operator.") && name.find("__") == std::string::npos;
    });
    auto twin = std::make_unique<Symbol>();
    auto twin_info = std::make_unique<SymbolInfo>();
    twin->schema = row.schema;
    twin->tags = (row.tags & ~(kPure | kView)) | kInplace;
    twin->meta = inplace_meta;
    twin->aten = row.aten;
    twin->info = twin_info.get();
    twin_info->index = static_cast<uint32_t>(symbols_.size());
    twin_info->schema = row_info.schema;
    twin_info->schema.name = inplace_symbol_name(row_info.schema.name);
    twin_info->schema.params[0].mutated = true;
    twin_info->torch_names = inplace_names;
    twin_info->functional = &row;
    row_info.inplace = twin.get();
    storage_->by_name.emplace(twin_info->schema.name, twin.get());
    storage_->add_torch_names(*twin, *twin_info);
    symbols_.push_back(twin.get());
    storage_->infos.push_back(std::move(twin_info));
    storage_->made.push_back(std::move(twin));
  }
  return row;
}

Registry::Registry() : storage_(std::make_shared<Storage>()) {
  for (const auto family :
       {ops::pointwise_family(),     ops::unary_family(),      ops::special_family(),
        ops::power_family(),         ops::bitwise_family(),    ops::select_family(),
        ops::activation_family(),    ops::comparison_family(), ops::reduction_family(),
        ops::statistics_family(),    ops::ordering_family(),   ops::scan_family(),
        ops::softmax_family(),       ops::shape_family(),      ops::indexing_family(),
        ops::matmul_family(),        ops::linalg_family(),     ops::fft_family(),
        ops::conv_family(),          ops::pooling_family(),    ops::interpolate_family(),
        ops::norm_family(),          ops::attention_family(),  ops::embedding_family(),
        ops::embedding_bag_family(), ops::recurrent_family(),  ops::composite_loss_family(),
        ops::loss_family(),          ops::random_family(),     ops::creation_family(),
        ops::conversion_family(),    ops::state_family(),      ops::prologue_family(),
        ops::control_family(),       ops::number_family(),     ops::replay_family(),
        ops::optimizer_family(),     ops::linear_loss_family()}) {
    for (const Symbol* row : family) add(*row);
  }
}

const Symbol* Registry::find(std::string_view name) const {
  const std::shared_lock lock(storage_->mutex);
  const auto it = storage_->by_name.find(std::string(name));
  return it == storage_->by_name.end() ? nullptr : it->second;
}

std::vector<const Symbol*> Registry::overloads(std::string_view torch_name) const {
  const std::shared_lock lock(storage_->mutex);
  const auto it = storage_->by_torch_name.find(std::string(torch_name));
  return it == storage_->by_torch_name.end() ? std::vector<const Symbol*>{} : it->second;
}

const Symbol& Registry::define(std::string_view schema, std::string_view torch_names, uint32_t tags,
                               std::shared_ptr<SymbolRules> rules) {
  return define(schema, torch_names, tags, std::move(rules), false);
}

const Symbol& Registry::redefine(std::string_view schema, std::string_view torch_names,
                                 uint32_t tags, std::shared_ptr<SymbolRules> rules) {
  return define(schema, torch_names, tags, std::move(rules), true);
}

std::vector<std::string> Registry::defined() const {
  const std::shared_lock lock(storage_->mutex);
  std::vector<std::string> names;
  for (const auto& [name, symbol] : storage_->by_name) {
    if (symbol->info->rules) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

const Symbol& Registry::define(std::string_view schema, std::string_view torch_names, uint32_t tags,
                               std::shared_ptr<SymbolRules> rules, bool again) {
  const std::unique_lock lock(storage_->mutex);
  auto symbol = std::make_unique<Symbol>();
  storage_->texts.push_back(std::make_unique<std::string>(schema));
  symbol->schema = *storage_->texts.back();
  symbol->tags = tags;
  symbol->aten = "-";
  Schema parsed;
  try {
    parsed = parse_schema(symbol->schema, storage_->arena);
  } catch (const InternalError& e) {
    throw UserError(ErrorKind::kValue, "bad-schema", e.what());
  }
  const auto known = storage_->by_name.find(parsed.name);
  if (known != storage_->by_name.end() && !(again && known->second->info->rules)) {
    throw UserError(ErrorKind::kValue, "symbol-exists",
                    cat("a symbol named '", parsed.name, "' is already defined"));
  }
  auto info = std::make_unique<SymbolInfo>();
  info->index = static_cast<uint32_t>(symbols_.size());
  info->schema = std::move(parsed);
  info->torch_names = split(torch_names);
  info->rules = std::move(rules);
  symbol->info = info.get();
  const Symbol& result = *symbol;
  storage_->by_name[info->schema.name] = &result;
  storage_->add_torch_names(result, *info);
  storage_->infos.push_back(std::move(info));
  storage_->made.push_back(std::move(symbol));
  return result;
}

const Symbol& Registry::opaque(std::string_view torch_name, uint32_t tags) {
  const std::unique_lock lock(storage_->mutex);
  const std::string key = cat(torch_name, " ", uint64_t{tags});
  const auto found = storage_->opaque.find(key);
  if (found != storage_->opaque.end()) return *found->second;
  auto symbol = std::make_unique<Symbol>();
  auto info = std::make_unique<SymbolInfo>();
  symbol->tags = kOpaque | tags;
  symbol->aten = "-";
  info->schema.name = std::string(torch_name);
  info->schema.variadic = true;
  Param args, kwargs;
  args.name = "args";
  kwargs.name = "kwargs";
  info->schema.params = {args, kwargs};
  info->torch_names = {std::string(torch_name)};
  symbol->info = info.get();
  const Symbol& result = *symbol;
  storage_->opaque.emplace(key, &result);
  storage_->infos.push_back(std::move(info));
  storage_->made.push_back(std::move(symbol));
  return result;
}

const SymbolResolver& registry_resolver() {
  struct Resolver : SymbolResolver {
    std::vector<const Symbol*> overloads(std::string_view torch_name) const override {
      return Registry::get().overloads(torch_name);
    }
    const Symbol* find(std::string_view name) const override { return Registry::get().find(name); }
    const Symbol& opaque(std::string_view torch_name, uint32_t tags) const override {
      return Registry::get().opaque(torch_name, tags);
    }
  };
  static const Resolver resolver;
  return resolver;
}

}  // namespace fulmen
