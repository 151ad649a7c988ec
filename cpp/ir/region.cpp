#include "ir/region.h"

#include <algorithm>

#include "ir/write_back.h"
#include "support/error.h"

namespace fulmen {
namespace {

const Proxy* fresh_copy(TraceContext& ctx, const Proxy* p) {
  if (const TensorProxy* t = as_tensor(p)) return ctx.make_tensor(t->type, t->name);
  if (const NumberProxy* n = as_number(p)) return ctx.make_number(n->type, n->value, n->name);
  internal_error("a region takes tensors and numbers, not ", p->name);
}

// The inputs that the program writes to.
std::vector<const Proxy*> written_inputs(const Subprogram& program) {
  std::vector<const Proxy*> written;
  for (const BoundSymbol* b : program.body) {
    for_each_written(*b, [&](const Arg& a) {
      for_each_proxy(a, [&](const Proxy* p) { written.push_back(storage_of(p)); });
    });
  }
  return written;
}

}  // namespace

Arg RegionRules::meta(Call& in) {
  const auto copy = [&](const Arg& a) {
    const TensorProxy* t = a.tensor();
    const auto at = std::find(program->inputs.begin(), program->inputs.end(), storage_of(t));
    if (at == program->inputs.end()) return in.make(t->type);
    return in.make_view(t->type, *in[static_cast<size_t>(at - program->inputs.begin())].tensor());
  };
  if (program->output.is_tensor()) return copy(program->output);
  Args outputs;
  for (const Arg& a : program->output.items()) outputs.push_back(copy(a));
  return in.tuple(outputs);
}

Arg RegionRules::decompose(Call& in) {
  Substitution map;
  for (size_t i = 0; i < program->inputs.size(); ++i) map.add(program->inputs[i], in[i]);
  return inline_program(in.builder(), *program, map);
}

Arg inline_program(Builder& builder, const Subprogram& program, Substitution& map) {
  TraceContext& ctx = builder.ctx();
  for (const BoundSymbol* b : program.body) {
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
    builder.append(map.apply(ctx, *b));
  }
  return map.apply(ctx, program.output);
}

const Symbol& make_region_symbol(const Subprogram& program, std::shared_ptr<RegionRules> rules) {
  Arena& arena = program.ctx->arena();
  auto* symbol = arena.make<Symbol>();
  auto* info = arena.make<SymbolInfo>();
  if (!rules) rules = std::make_shared<RegionRules>();
  rules->program = &program;
  info->schema.name = std::string(program.name);
  const std::vector<const Proxy*> written = written_inputs(program);
  for (const Proxy* p : program.inputs) {
    Param param;
    param.name = std::string(p->name);
    param.mutated = std::find(written.begin(), written.end(), p) != written.end();
    param.kind = as_tensor(p) ? ParamKind::kTensor : ParamKind::kScalar;
    info->schema.params.push_back(std::move(param));
  }
  info->torch_names = {std::string(program.name)};
  info->rules = std::move(rules);
  symbol->tags = written.empty() ? kPure : kInplace;
  symbol->aten = "-";
  symbol->info = info;
  return *symbol;
}

const Subprogram* region_of(const Symbol& symbol) {
  const auto* rules = dynamic_cast<const RegionRules*>(symbol.info->rules.get());
  return rules ? rules->program : nullptr;
}

const BoundSymbol* make_region_call(TraceContext& ctx, std::string_view name,
                                    std::span<const BoundSymbol* const> body,
                                    std::span<const Proxy* const> inputs,
                                    std::span<const Proxy* const> outputs,
                                    std::shared_ptr<RegionRules> rules) {
  Substitution map;
  Trace region;
  region.name = std::string(name);
  Args args, results, own_results;
  for (const Proxy* p : inputs) {
    region.inputs.push_back(fresh_copy(ctx, p));
    map.add(p, Arg(region.inputs.back()));
    args.push_back(Arg(p));
  }
  for (const Proxy* p : outputs) {
    own_results.push_back(Arg(fresh_copy(ctx, p)));
    map.add(p, own_results.back());
    results.push_back(Arg(p));
  }
  for (const BoundSymbol* b : body) {
    region.body.push_back(map.apply(ctx, *b));
    // A view is one of the region's tensor.
    for_each_proxy(region.body.back()->output, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      if (!t || !t->alias_of) return;
      const_cast<TensorProxy*>(t)->alias_of = map.apply(ctx, Arg(t->alias_of)).tensor();
    });
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    const TensorProxy* t = as_tensor(outputs[i]);
    if (!t || !t->alias_of) continue;
    const_cast<TensorProxy*>(own_results[i].tensor())->alias_of =
        map.apply(ctx, Arg(t->alias_of)).tensor();
  }
  const auto output = [&](const Args& items) {
    return items.size() == 1 ? items[0] : ctx.make_collection(Arg::Kind::kTuple, items);
  };
  region.output = output(own_results);
  const Symbol& symbol = make_region_symbol(*ctx.make_program(region), std::move(rules));
  return ctx.make_bound_symbol(symbol, args, output(results), nullptr);
}

Args region_outputs(const Arg& output) {
  return output.is_tensor() ? Args{output} : Args(output.items());
}

}  // namespace fulmen
