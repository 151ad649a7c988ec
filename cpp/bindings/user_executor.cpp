#include "bindings/user_executor.h"

#include <nanobind/stl/string.h>

#include <mutex>
#include <shared_mutex>
#include <unordered_set>

#include "bindings/bind_ir.h"
#include "bindings/convert.h"
#include "bindings/recorder.h"
#include "bridge/bridge.h"
#include "ir/region.h"
#include "ops/registry.h"
#include "passes/own_gradient.h"
#include "passes/partition.h"
#include "support/error.h"

namespace fulmen::bindings {
namespace {

// What a face recorded, and what it returned.
struct Recorded {
  std::vector<const BoundSymbol*> body;
  nb::object result;
};

template <class... A>
Recorded record(const std::shared_ptr<TraceContext>& ctx, const Recorder::Ambient& ambient,
                nb::handle face, const char* method, A&&... args) {
  std::unique_ptr<Recorder> recorder = Recorder::nested(ctx, ambient);
  Recorder* raw = recorder.get();
  nb::object object = nb::cast(recorder.release(), nb::rv_policy::take_ownership);
  Recorded r;
  r.result = face.attr(method)(object, std::forward<A>(args)...);
  r.body = raw->recorded();
  if (!raw->lifted_tensors().empty()) {
    throw UserError(ErrorKind::kValue, "executor-rule",
                    cat("executor: ", method, " met a tensor that is no argument; pass it as one"));
  }
  return r;
}

Recorder::Ambient ambient_of(const BoundSymbol& bsym, bool grad) {
  Recorder::Ambient a;
  a.grad_enabled = grad && any_requires_grad(bsym.output);
  a.source = bsym.source;
  return a;
}

Recorder::Ambient ambient_of(const Builder& b) {
  return {b.grad_enabled, b.inference_mode, b.default_dtype, b.default_device, b.source};
}

class OperatorRules final : public bridge::PythonRules {
 public:
  OperatorRules(std::string executor, nb::object face)
      : executor_(std::move(executor)), face_(face.release()) {
    implementation_ = nb::object(face_.attr("implementation")).release();
    decomposes_ = nb::cast<bool>(face_.attr("has_decomposition"));
  }

  const std::string& executor() const { return executor_; }
  PyObject* implementation() const override {
    return implementation_.is_none() ? nullptr : implementation_.ptr();
  }
  PyObject* instance() const override {
    const nb::object make = face_.attr("make");
    return make.is_none() ? Py_NewRef(implementation()) : make().release().ptr();
  }
  bool has_decomposition() const override { return decomposes_; }

  Arg meta(Call& in) override {
    const Arg found = run(in, "_meta", nullptr);
    return fresh(in, found);
  }

  Arg decompose(Call& in) override {
    std::vector<const BoundSymbol*> body;
    const Arg output = run(in, "_decompose", &body);
    for (const BoundSymbol* b : body) in.builder().append(b);
    return output;
  }

 private:
  Arg run(Call& in, const char* method, std::vector<const BoundSymbol*>* body) const {
    const auto& ctx = in.builder().shared_ctx();
    nb::object args = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(in.size())));
    for (size_t i = 0; i < in.size(); ++i) {
      PyTuple_SET_ITEM(args.ptr(), static_cast<Py_ssize_t>(i),
                       to_object(in[i], ctx).release().ptr());
    }
    Recorded r = record(ctx, ambient_of(in.builder()), face_, method, args);
    if (body) *body = std::move(r.body);
    return to_arg(r.result, *ctx, nullptr);
  }

  // Results of their own: an operator returns no argument, and no view.
  static Arg fresh(Call& in, const Arg& a) {
    TraceContext& ctx = in.builder().ctx();
    if (const TensorProxy* t = a.tensor()) return in.make(t->type);
    if (a.is_proxy()) {
      const NumberProxy* n = as_number(a.proxy());
      if (!n) in.unsupported("a result that is neither a tensor nor a number");
      return Arg(static_cast<const Proxy*>(ctx.make_number(n->type, n->value)));
    }
    if (!a.is_collection()) return a;
    Args items;
    for (const Arg& item : a.items()) items.push_back(fresh(in, item));
    return ctx.make_collection(a.kind(), items);
  }

  const std::string executor_;
  nb::handle face_, implementation_;
  bool decomposes_ = false;
};

void refuse_form(std::string_view executor, const BoundSymbol& bsym, std::string_view what) {
  throw UserError(ErrorKind::kValue, "executor-rule",
                  cat("executor ", executor, ": what it has for ", bsym.symbol->name(), "() ", what,
                      source_suffix(bsym.source)));
}

// What takes the place of a bound symbol gives the same.
void check_form(std::string_view executor, const BoundSymbol& bsym, const Arg& output,
                const std::vector<const BoundSymbol*>& body) {
  std::unordered_set<const Proxy*> made;
  for (const BoundSymbol* b : body) {
    for_each_proxy(b->output, [&](const Proxy* p) { made.insert(p); });
  }
  std::vector<const Proxy*> olds, news;
  for_each_proxy(bsym.output, [&](const Proxy* p) { olds.push_back(p); });
  for_each_proxy(output, [&](const Proxy* p) { news.push_back(p); });
  if (olds.size() != news.size()) refuse_form(executor, bsym, "returned another structure");
  for (size_t i = 0; i < olds.size(); ++i) {
    if (!made.erase(news[i]))
      refuse_form(executor, bsym, "returned an argument, or one tensor twice; return a clone()");
    const TensorProxy *old = as_tensor(olds[i]), *now = as_tensor(news[i]);
    if (!old != !now) refuse_form(executor, bsym, "returned another structure");
    if (!old) continue;
    const bool own = [&] {
      // The kernel of an operator of the user's puts its results into the layout that is due.
      for (const BoundSymbol* b : body) {
        if (!dynamic_cast<const OperatorRules*>(b->symbol->info->rules.get())) continue;
        bool its = false;
        for_each_proxy(b->output, [&](const Proxy* p) { its = its || p == news[i]; });
        if (its) return true;
      }
      return false;
    }();
    const bool same = old->type.shape == now->type.shape && old->type.dtype == now->type.dtype &&
                      old->type.device == now->type.device &&
                      (own || old->type.strides == now->type.strides);
    if (same) continue;
    std::string got, expected;
    append(got, now->type);
    append(expected, old->type);
    refuse_form(executor, bsym, cat("returned ", got, "; expected ", expected));
  }
}

class OperatorExecutor final : public exec::Executor {
 public:
  OperatorExecutor(std::string name, nb::object face)
      : name_(std::move(name)), face_(face.release()) {}

  std::string_view name() const override { return name_; }
  void add(const Symbol& s) const {
    const std::unique_lock lock(mutex_);
    symbols_.insert(&s);
  }
  bool concerns(const Symbol& s) const override {
    if (owns(s)) return true;
    const std::shared_lock lock(mutex_);
    return symbols_.contains(&s);
  }
  std::string refusal(const exec::Offer& offer) const override {
    if (owns(*offer.bsym.symbol)) return {};
    const BoundSymbol& b = offer.bsym;
    bool is_view = false;
    for_each_proxy(b.output, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      is_view = is_view || (t && t->alias_of);
    });
    if (is_view) return "its result is a view, which only PyTorch makes";
    if (b.symbol->has(kInplace)) return "it writes to its argument";
    return nb::cast<std::string>(
        face_.attr("_refusal")(PyBoundSymbol{offer.ctx, &b}, offer.under_autograd));
  }
  std::optional<exec::Form> rewrite(const exec::Offer& offer) const override {
    const BoundSymbol& b = offer.bsym;
    if (owns(*b.symbol)) return std::nullopt;
    Recorded r =
        record(offer.ctx, ambient_of(b, true), face_, "_rewrite", PyBoundSymbol{offer.ctx, &b});
    exec::Form form{to_arg(r.result, *offer.ctx, nullptr), std::move(r.body)};
    check_form(name_, b, form.output, form.body);
    return form;
  }
  std::optional<passes::OwnGradient> own_gradient(const exec::Offer& offer) const override {
    const BoundSymbol& b = offer.bsym;
    Recorded r = record(offer.ctx, ambient_of(b, false), face_, "_own_gradient",
                        PyBoundSymbol{offer.ctx, &b});
    if (r.result.is_none()) return std::nullopt;
    passes::OwnGradient own;
    own.body = std::move(r.body);
    own.output = to_arg(r.result[0], *offer.ctx, nullptr);
    check_form(name_, b, own.output, own.body);
    for (nb::handle pair : nb::object(r.result[1]))
      own.gradients.emplace_back(proxy_of(pair[0])->p, proxy_of(pair[1])->p);
    for (nb::handle pair : nb::object(r.result[2])) {
      const PyProxy* to = proxy_of(pair[0]);
      if (!to) refuse_form(name_, b, "put a gradient for what is no tensor");
      own.puts.emplace_back(to->p, to_arg(pair[1], *offer.ctx, nullptr));
    }
    return own;
  }
  std::unique_ptr<exec::Kernel> compile(
      const BoundSymbol& bsym, const exec::SlotOf& slot_of,
      const std::shared_ptr<const exec::Compilation>&) const override {
    return bridge::python_kernel(bsym, slot_of, {});
  }

 private:
  bool owns(const Symbol& s) const {
    const auto* rules = dynamic_cast<const OperatorRules*>(s.info->rules.get());
    return rules && rules->executor() == name_ && rules->implementation();
  }

  const std::string name_;
  nb::handle face_;
  mutable std::shared_mutex mutex_;
  mutable std::unordered_set<const Symbol*> symbols_;
};

class FusionExecutor final : public exec::Executor {
 public:
  FusionExecutor(std::string name, nb::object face, size_t smallest)
      : name_(std::move(name)), face_(face.release()), smallest_(smallest) {
    makes_regions_ = true;
  }

  std::string_view name() const override { return name_; }
  bool concerns(const Symbol& s) const override { return !s.info->rules; }
  std::string refusal(const exec::Offer& offer) const override {
    const BoundSymbol& b = offer.bsym;
    if (b.symbol->has(kInplace | kEffect)) return "it has an effect";
    if (b.symbol->has(kRandom)) return "it draws random numbers, whose order counts";
    if (b.symbol->has(kOpaque) || b.symbol->info->schema.variadic)
      return "only PyTorch knows what it does";
    if (offer.under_autograd) return "PyTorch's autograd has to see it";
    for (const Arg& a : b.args) {
      if (a.kind() == Arg::Kind::kProgram || a.kind() == Arg::Kind::kOpaque)
        return "an argument that a region can't hold";
    }
    bool tensors = true;
    for_each_proxy(b.output, [&](const Proxy* p) { tensors = tensors && as_tensor(p); });
    if (!tensors) return "a result that is no tensor";
    return nb::cast<std::string>(face_.attr("_refusal")(PyBoundSymbol{offer.ctx, &b}));
  }
  std::unique_ptr<passes::FusionRules> fusion_rules(
      const std::shared_ptr<TraceContext>&) const override {
    auto rules = std::make_unique<passes::FusionRules>();
    rules->any_shape = true;
    rules->smallest = smallest_;
    rules->single_operations = smallest_ <= 1;
    rules->region_refusal = [](const Trace& region) -> std::string {
      for (const Arg& a : region_outputs(region.output)) {
        const TensorProxy* t = producer_view(region, a.tensor());
        if (t) return cat("its result ", t->name, " is a view");
      }
      return {};
    };
    return rules;
  }
  std::unique_ptr<exec::Kernel> compile(
      const BoundSymbol& bsym, const exec::SlotOf& slot_of,
      const std::shared_ptr<const exec::Compilation>&) const override {
    const nb::gil_scoped_acquire gil;
    nb::object callable = face_.attr("_fuse")(to_trace(*region_of(*bsym.symbol)));
    bridge::PythonCall call;
    call.callable = callable.release().ptr();
    call.checked = call.positional = call.detached = true;
    return bridge::python_kernel(bsym, slot_of, call);
  }

 private:
  // The tensor itself if a view makes it; null if not.
  static const TensorProxy* producer_view(const Trace& region, const TensorProxy* t) {
    for (const BoundSymbol* b : region.body) {
      bool its = false;
      for_each_proxy(b->output, [&](const Proxy* p) { its = its || p == t; });
      if (its) return b->symbol->has(kView) ? t : nullptr;
    }
    return nullptr;
  }

  const std::string name_;
  nb::handle face_;
  const size_t smallest_;
};

uint32_t tag_bits(const std::vector<std::string>& names) {
  static constexpr std::pair<const char*, uint32_t> kTags[] = {
      {"pure", kPure},           {"pointwise", kPointwise},
      {"reduction", kReduction}, {"random", kRandom},
      {"effect", kEffect},       {"non_differentiable", kNonDifferentiable},
      {"matmul", kMatmul},       {"first_differentiable", kFirstDifferentiable}};
  uint32_t bits = 0;
  for (const std::string& name : names) {
    uint32_t bit = 0;
    std::string known;
    for (const auto& [tag, value] : kTags) {
      if (name == tag) bit = value;
      append(known, cat(known.empty() ? "" : ", ", tag));
    }
    if (!bit) {
      throw UserError(ErrorKind::kValue, "unknown-tag",
                      cat("register_operator(): got tag '", name, "'; expected one of ", known));
    }
    bits |= bit;
  }
  return bits;
}

}  // namespace

exec::ExecutorPtr make_operator_executor(const std::string& name, nb::object face) {
  return std::make_shared<const OperatorExecutor>(name, std::move(face));
}

void add_symbol(const exec::Executor& executor, const Symbol& symbol) {
  if (const auto* own = dynamic_cast<const OperatorExecutor*>(&executor)) own->add(symbol);
}

exec::ExecutorPtr make_fusion_executor(const std::string& name, nb::object face, size_t smallest) {
  return std::make_shared<const FusionExecutor>(name, std::move(face), smallest);
}

const Symbol& define_operator(const std::string& schema, const std::string& executor,
                              const std::vector<std::string>& tags, nb::object face) {
  return Registry::get().redefine(schema, "", tag_bits(tags),
                                  std::make_shared<OperatorRules>(executor, std::move(face)));
}

Trace program_of_python(const Trace& trace, nb::callable callable) {
  TraceContext& ctx = *trace.ctx;
  std::unordered_set<const Proxy*> known(trace.inputs.begin(), trace.inputs.end());
  Args results, args = {Arg(make_opaque(callable, ctx, "program"))};
  for_each_proxy(trace.output, [&](const Proxy* p) {
    if (known.insert(p).second) results.push_back(Arg(p));
  });
  for (const Proxy* p : trace.inputs) args.push_back(Arg(p));
  const Arg bound[] = {ctx.make_collection(Arg::Kind::kTuple, args),
                       ctx.make_collection(Arg::Kind::kDict, {})};
  BoundSymbol* call =
      ctx.make_bound_symbol(Registry::get().opaque("fulmen.fallback.call", kInplace), bound,
                            ctx.make_collection(Arg::Kind::kTuple, results), nullptr);
  call->executor = "python";
  Trace out = trace;
  out.body = {call};
  out.provenance = "Python reference program";
  return out;
}

}  // namespace fulmen::bindings
