#include "passes/fuse_losses.h"

#include <algorithm>

#include "analysis/proxy_map.h"
#include "ir/builder.h"
#include "ir/rewrite.h"
#include "ops/arith.h"
#include "ops/linear_loss.h"
#include "ops/loss.h"
#include "ops/matmul.h"
#include "ops/shape.h"
#include "passes/emit.h"
#include "passes/rebase.h"

namespace fulmen::passes {
namespace {

// Fewer are read and written in less time than it takes to compute in parts.
constexpr int64_t kFewestScores = 4 << 20;

const TensorType& type_of(const Arg& a) { return a.tensor()->type; }

bool keeps_rows(const BoundSymbol& b) {
  constexpr std::string_view kNames[] = {"view", "reshape", "flatten", "contiguous"};
  if (std::find(std::begin(kNames), std::end(kNames), b.symbol->name()) == std::end(kNames))
    return false;
  const TensorType &from = type_of(b.args[0]), &to = type_of(b.output);
  return from.ndim() > 0 && to.ndim() > 0 && from.shape.back() == to.shape.back();
}

// Leaves rows out: `scores[:, :-1]`, as losses of the next token do.
bool takes_rows(const BoundSymbol& b) {
  if (b.symbol != &ops::slice && b.symbol != &ops::narrow) return false;
  const auto last = static_cast<int64_t>(type_of(b.args[0]).ndim()) - 1;
  const Arg& dim = b.arg("dim");
  return dim.is_int() && dim.integer() != -1 && dim.integer() != last;
}

bool widens(const BoundSymbol& b) {
  const std::string& name = b.symbol->name();
  return (name == "to.dtype" || name == "float" || name == "_to_copy") && b.args[0].is_tensor() &&
         type_of(b.output).dtype == DType::kFloat32 &&
         type_of(b.args[0]).shape == type_of(b.output).shape;
}

struct Match {
  const BoundSymbol* linear = nullptr;
  std::vector<const BoundSymbol*> views{};  // from the layer's result on
  bool upcast = false;
};

class Fuser {
 public:
  explicit Fuser(const Trace& trace) : trace_(trace) {
    for (const BoundSymbol* b : trace.body) {
      for (const Arg& a : b->args) count(a);
      for_each_proxy(b->output, [&](const Proxy* p) { made_by_.set(p, b); });
    }
    count(trace.output);
  }

  Trace run(PassContext& ctx) {
    Builder builder(trace_.ctx);
    Substitution map;
    auto& body = builder.body();
    for (const BoundSymbol* original : trace_.body) {
      const BoundSymbol* b = apply_rebased(map, *trace_.ctx, *original);
      const size_t before = body.size();
      const Match match = find(*original);
      if (match.linear &&
          ctx.fuses_loss(type_of(match.linear->args[0]), type_of(original->arg("input"))) &&
          ctx.take_fuel(original)) {
        builder.grad_enabled = type_of(b->output).requires_grad;
        builder.source = b->source;
        try {
          const BoundSymbol* linear = map.apply(*trace_.ctx, *match.linear);
          const Arg fused = emit_fused(*linear, match, *b);
          if (type_of(fused) == type_of(b->output)) {
            map.add(original->output.proxy(), fused);
            continue;
          }
        } catch (const Unsupported&) {
        }
        body.resize(before);
      }
      body.push_back(b);
    }
    if (map.empty()) return trace_;
    Trace out = trace_;
    out.output = map.apply(*trace_.ctx, trace_.output);
    out.body = std::move(body);
    return out;
  }

 private:
  void count(const Arg& a) {
    for_each_proxy(a, [&](const Proxy* p) { reads_.set(p, reads_.get(p) + 1); });
  }

  Match find(const BoundSymbol& loss) const {
    if (loss.symbol != &ops::cross_entropy) return {};
    const TensorProxy *scores = loss.arg("input").tensor(), *target = loss.arg("target").tensor();
    const auto text = loss.arg("reduction").text();
    const Arg& smoothing = loss.arg("label_smoothing");
    const bool plain = loss.arg("weight").is_none() && loss.arg("size_average").is_none() &&
                       loss.arg("reduce").is_none() && (text == "mean" || text == "sum") &&
                       (smoothing == Arg(0.0) || smoothing == Arg(0));
    if (!plain || scores->type.ndim() != 2 || target->type.ndim() != 1 ||
        target->type.dtype != DType::kInt64 || scores->type.device.type != DeviceType::kCPU) {
      return {};
    }
    const Dim rows = scores->type.shape[0], classes = scores->type.shape[1];
    if (rows.value_or(0) * classes.value_or(0) < kFewestScores) return {};
    Match match;
    for (const Proxy* p = scores; reads_.get(p) == 1;) {
      const BoundSymbol* b = made_by_.get(p);
      if (!b || as_tensor(p)->type.requires_grad != scores->type.requires_grad) return {};
      if (b->symbol == &ops::linear) {
        match.linear = b;
        break;
      }
      if (widens(*b)) {
        match.upcast = true;
      } else if (keeps_rows(*b) || takes_rows(*b)) {
        match.views.insert(match.views.begin(), b);
      } else {
        return {};
      }
      p = b->args[0].proxy();
    }
    if (!match.linear) return {};
    bool any_grad = false;
    for (const Arg& a : match.linear->args) any_grad = any_grad || any_requires_grad(a);
    const bool same_modes =
        any_grad == scores->type.requires_grad && any_grad == type_of(loss.output).requires_grad;
    return same_modes && type_of(match.linear->args[1]).ndim() == 2 ? match : Match();
  }

  // The rows of the layer's input that the loss is about.
  static Arg rows_of(Arg x, const std::vector<const BoundSymbol*>& views) {
    Builder& builder = Builder::current();
    const Dim width = type_of(x).shape.back();
    if (std::none_of(views.begin(), views.end(), [](auto* b) { return takes_rows(*b); })) return x;
    for (const BoundSymbol* b : views) {
      Args args(b->args);
      args[0] = x;
      if (takes_rows(*b)) {
        x = builder.call(*b->symbol, args);
        continue;
      }
      Args sizes;
      const auto& shape = type_of(b->output).shape;
      for (size_t i = 0; i + 1 < shape.size(); ++i) sizes.push_back(Arg(shape[i]));
      sizes.push_back(Arg(width));
      x = emit("reshape", {x, builder.ctx().make_collection(Arg::Kind::kList, sizes)});
    }
    return x;
  }

  static Arg emit_fused(const BoundSymbol& linear, const Match& match, const BoundSymbol& loss) {
    Arg x = rows_of(linear.args[0], match.views);
    const bool upcast = match.upcast;
    if (type_of(x).ndim() != 2) {
      const Arg sizes[] = {Arg(-1), Arg(type_of(x).shape.back())};
      x = emit("reshape", {x, Builder::current().ctx().make_collection(Arg::Kind::kList, sizes)});
    }
    const bool half = type_of(x).dtype != DType::kFloat32;
    return ops::record(ops::linear_cross_entropy,
                       {x, linear.args[1], linear.args[2], loss.arg("target"),
                        loss.arg("ignore_index"), loss.arg("reduction"), Arg(upcast && half)});
  }

  const Trace& trace_;
  ProxyMap<int> reads_;
  ProxyMap<const BoundSymbol*> made_by_;
};

}  // namespace

Trace fuse_losses(const Trace& trace, PassContext& ctx) {
  return ctx.fuses_loss ? Fuser(trace).run(ctx) : trace;
}

}  // namespace fulmen::passes
