#include "ir/region.h"

#include "ir/builder.h"
#include "ir/rewrite.h"

namespace fulmen {
namespace {

const Proxy* fresh_copy(TraceContext& ctx, const Proxy* p) {
  if (const TensorProxy* t = as_tensor(p)) return ctx.make_tensor(t->type, t->name);
  if (const NumberProxy* n = as_number(p)) return ctx.make_number(n->type, n->value, n->name);
  internal_error("a region takes tensors and numbers, not ", p->name);
}

struct RegionRules final : SymbolRules {
  Region region;

  Arg meta(Call& in) override {
    const auto copy = [&](const Arg& a) { return in.make(a.tensor()->type); };
    if (region.output.is_tensor()) return copy(region.output);
    Args outputs;
    for (const Arg& a : region.output.items()) outputs.push_back(copy(a));
    return in.tuple(outputs);
  }

  bool has_decomposition() const override { return true; }

  Arg decompose(Call& in) override {
    TraceContext& ctx = in.builder().ctx();
    Substitution map;
    for (size_t i = 0; i < region.inputs.size(); ++i) map.add(region.inputs[i], in[i]);
    for (const BoundSymbol* b : region.body) {
      for_each_proxy(b->output, [&](const Proxy* p) {
        const Arg known = map.apply(ctx, Arg(p));
        if (!(known == Arg(p))) return;
        const Proxy* copy = fresh_copy(ctx, p);
        if (const TensorProxy* t = as_tensor(p); t && t->alias_of) {
          const_cast<TensorProxy*>(as_tensor(copy))->alias_of =
              map.apply(ctx, Arg(t->alias_of)).tensor();
        }
        map.add(p, Arg(copy));
      });
      in.builder().append(map.apply(ctx, *b));
    }
    return map.apply(ctx, region.output);
  }
};

}  // namespace

const Symbol& make_region_symbol(std::string_view name, const Region& region) {
  const std::shared_ptr<TraceContext> holder = region.ctx.lock();
  TraceContext& ctx = *holder;
  auto* symbol = ctx.arena().make<Symbol>();
  auto* info = ctx.arena().make<SymbolInfo>();
  auto rules = std::make_shared<RegionRules>();
  rules->region.ctx = region.ctx;
  rules->region.inputs = ctx.arena().copy(region.inputs);
  rules->region.body = ctx.arena().copy(region.body);
  rules->region.output = region.output;
  info->schema.name = std::string(name);
  for (const Proxy* p : region.inputs) {
    Param param;
    param.name = std::string(p->name);
    param.kind = as_tensor(p) ? ParamKind::kTensor : ParamKind::kScalar;
    info->schema.params.push_back(std::move(param));
  }
  info->torch_names = {std::string(name)};
  info->rules = std::move(rules);
  symbol->tags = kPure;
  symbol->aten = "-";
  symbol->info = info;
  return *symbol;
}

const Region* region_of(const Symbol& symbol) {
  const auto* rules = dynamic_cast<const RegionRules*>(symbol.info->rules.get());
  return rules ? &rules->region : nullptr;
}

const BoundSymbol* make_region_call(const std::shared_ptr<TraceContext>& holder,
                                    std::string_view name,
                                    std::span<const BoundSymbol* const> body,
                                    std::span<const Proxy* const> inputs,
                                    std::span<const Proxy* const> outputs) {
  TraceContext& ctx = *holder;
  Substitution map;
  std::vector<const Proxy*> own_inputs;
  Args args, results, own_results;
  for (const Proxy* p : inputs) {
    own_inputs.push_back(fresh_copy(ctx, p));
    map.add(p, Arg(own_inputs.back()));
    args.push_back(Arg(p));
  }
  for (const Proxy* p : outputs) {
    own_results.push_back(Arg(fresh_copy(ctx, p)));
    map.add(p, own_results.back());
    results.push_back(Arg(p));
  }
  std::vector<const BoundSymbol*> own_body;
  for (const BoundSymbol* b : body) own_body.push_back(map.apply(ctx, *b));
  const bool one = results.size() == 1;
  const auto tuple = [&](const Args& items) {
    return one ? items[0] : ctx.make_collection(Arg::Kind::kTuple, items);
  };
  const Symbol& symbol = make_region_symbol(name, {holder, own_inputs, own_body, tuple(own_results)});
  return ctx.make_bound_symbol(symbol, args, tuple(results), nullptr);
}

Trace region_trace(const Region& region, std::string_view name) {
  Trace trace;
  trace.ctx = region.ctx.lock();
  trace.name = std::string(name);
  trace.inputs.assign(region.inputs.begin(), region.inputs.end());
  trace.body.assign(region.body.begin(), region.body.end());
  const Arg one[] = {region.output};
  trace.output = region.output.is_tensor() ? trace.ctx->make_collection(Arg::Kind::kTuple, one)
                                           : region.output;
  return trace;
}

}  // namespace fulmen
