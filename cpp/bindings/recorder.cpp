#include "bindings/recorder.h"

#include <unordered_set>

#include "bindings/symbolic_number.h"
#include "bindings/tensor_proxy.h"
#include "bridge/bridge.h"
#include "ops/control.h"
#include "ops/getitem.h"
#include "ops/registry.h"
#include "passes/gradients.h"

namespace fulmen::bindings {
namespace {

thread_local Recorder* current_recorder = nullptr;

// Callables live as long as torch, so that their addresses identify them.
struct CallableTable {
  std::unordered_map<PyObject*, std::vector<const Symbol*>> rows;

  CallableTable() {
    for (const Symbol* s : Registry::get().symbols()) {
      for (const std::string& name : s->info->torch_names) {
        PyObject* callable = bridge::resolve_torch_name(name);
        if (!callable) {
          PyErr_Clear();  // another PyTorch version
          continue;
        }
        auto& overloads = rows[callable];
        if (std::find(overloads.begin(), overloads.end(), s) == overloads.end())
          overloads.push_back(s);
      }
    }
  }
};

NumberType number_type(nb::handle type) {
  if (type.is(reinterpret_cast<PyObject*>(&PyBool_Type))) return NumberType::kBool;
  if (type.is(reinterpret_cast<PyObject*>(&PyLong_Type))) return NumberType::kInt;
  if (type.is(reinterpret_cast<PyObject*>(&PyFloat_Type))) return NumberType::kFloat;
  if (type.is(reinterpret_cast<PyObject*>(&PyComplex_Type))) return NumberType::kComplex;
  throw nb::type_error("not a number type");
}

// PyTorch's own argument parser takes NumPy's names too; its functions in Python do not.
Kwargs with_torch_names(const Schema& schema, const Kwargs& kwargs) {
  static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"axis", "dim"}, {"keepdims", "keepdim"}, {"x", "input"},
      {"a", "input"},  {"x1", "input"},         {"x2", "other"}};
  Kwargs renamed = kwargs;
  for (Kwarg& kwarg : renamed) {
    if (schema.index(kwarg.name) >= 0) continue;
    for (const auto& [numpy, torch] : kNames) {
      if (kwarg.name == numpy && schema.index(torch) >= 0) kwarg.name = torch;
    }
  }
  return renamed;
}

}  // namespace

const std::vector<const Symbol*>& overloads_of(nb::handle callable) {
  static const CallableTable* table = new CallableTable;  // refers to Python objects: never freed
  static const std::vector<const Symbol*> none;
  const auto it = table->rows.find(callable.ptr());
  return it == table->rows.end() ? none : it->second;
}

Recorder::Recorder() : ctx_(std::make_shared<TraceContext>()) {}
Recorder::~Recorder() = default;

Recorder* Recorder::current() { return current_recorder; }

Builder& Recorder::builder() const {
  if (!builder_) internal_error("the recorder is not entered");
  return *builder_;
}

void Recorder::enter() {
  if (entered_) internal_error("the recorder is entered already");
  entered_ = true;
  builder_ = std::make_unique<Builder>(ctx_);
  builder_->grad_enabled = bridge::grad_enabled();
  builder_->inference_mode = bridge::inference_mode();
  builder_->default_dtype = bridge::default_dtype();
  if (ambient_) {
    builder_->grad_enabled = ambient_->grad_enabled;
    builder_->inference_mode = ambient_->inference_mode;
    builder_->default_dtype = ambient_->default_dtype;
    builder_->default_device = ambient_->default_device;
    builder_->source = ambient_->source;
  }
  outer_ = current_recorder;
  current_recorder = this;
}

void Recorder::exit() {
  current_recorder = outer_;
  if (ambient_) recorded_ = builder_->body();
  builder_.reset();
}

std::unique_ptr<Recorder> Recorder::nested(std::shared_ptr<TraceContext> ctx,
                                           const Ambient& ambient) {
  auto recorder = std::make_unique<Recorder>();
  recorder->ctx_ = std::move(ctx);
  recorder->follows_modes_ = false;
  recorder->ambient_ = ambient;
  return recorder;
}

nb::object Recorder::gradient_of(nb::handle proxy) {
  const PyProxy* state = fulmen::bindings::proxy_of(proxy);
  const TensorProxy* t = state ? as_tensor(state->p) : nullptr;
  if (!t) {
    throw UserError(ErrorKind::kType, "grad-transform",
                    "get_grad(): expected a tensor that the grad_transform computed");
  }
  TensorType type = t->type;
  type.requires_grad = false;
  return wrap_proxy(ctx_->make_tensor(std::move(type), cat("grad_", t->name)), ctx_);
}

const TensorProxy* Recorder::make_input(nb::handle tensor, const std::string& name) {
  const bridge::TensorInfo info = bridge::read_tensor(tensor.ptr());
  if (!info.plain)
    throw Unsupported("a tensor subclass, or a conjugated or functorch tensor, as input");
  TensorProxy* p = ctx_->make_tensor(info.type, name);
  p->is_leaf = info.is_leaf;
  p->is_inference = info.is_inference;
  inputs_.push_back(p);
  if (info.storage) storages_.emplace_back(info.storage, p);
  return p;
}

nb::object Recorder::add_tensor_input(nb::handle tensor, const std::string& name) {
  return wrap_proxy(make_input(tensor, name), ctx_);
}

nb::object Recorder::add_number_input(nb::handle value, const std::string& name) {
  const NumberType type = number_type(reinterpret_cast<PyObject*>(Py_TYPE(value.ptr())));
  const Dim dim = type == NumberType::kInt ? Dim(nb::cast<int64_t>(value)) : Dim(0);
  const NumberProxy* p = ctx_->make_number(type, dim, name);
  inputs_.push_back(p);
  return wrap_proxy(p, ctx_);
}

void Recorder::name_tensor(nb::handle tensor, const std::string& name) {
  names_[tensor.ptr()] = name;
}

nb::object Recorder::input_for(nb::handle tensor) {
  const auto it = proxy_of_tensor_.find(tensor.ptr());
  if (it != proxy_of_tensor_.end()) return it->second;
  const auto name = names_.find(tensor.ptr());
  nb::object proxy =
      wrap_proxy(make_input(tensor, name == names_.end() ? "tensor" : name->second), ctx_);
  lifted_.push_back(nb::borrow(tensor));
  proxy_of_tensor_.emplace(tensor.ptr(), proxy);
  tensor_of_proxy_.emplace(proxy.ptr(), tensor.ptr());
  return proxy;
}

void Recorder::adopt(nb::handle proxy, nb::handle tensor) {
  PyProxy* state = proxy_of(proxy);
  const auto it = proxy_of_tensor_.find(tensor.ptr());
  if (it != proxy_of_tensor_.end()) {
    *state = *proxy_of(it->second);
  } else {
    *state = {ctx_, make_input(tensor, std::string(state->p->name))};
    lifted_.push_back(nb::borrow(tensor));
    proxy_of_tensor_.emplace(tensor.ptr(), nb::borrow(proxy));
  }
  tensor_of_proxy_.emplace(proxy.ptr(), tensor.ptr());
}

void Recorder::adopt_number(nb::handle number) {
  SymbolicNumber* n = symbolic_number(number.ptr());
  const NumberType type = number_type(reinterpret_cast<PyObject*>(Py_TYPE(n->value)));
  const Proxy* p =
      ctx_->make_number(type, type == NumberType::kInt ? ctx_->make_symbolic_dim() : Dim(0),
                        proxy_of(number)->p->name);
  inputs_.push_back(p);
  lifted_.push_back(nb::borrow(number));
  Py_SETREF(n->proxy, wrap_proxy(p, ctx_).release().ptr());
}

const Proxy* Recorder::lift(nb::handle tensor) { return proxy_of(input_for(tensor))->p; }

const Proxy* Recorder::lift_number(nb::handle number) {
  if (!takes_numbers_) return nullptr;
  const Proxy*& p = numbers_[number.ptr()];
  if (p) return p;
  const NumberType type =
      number_type(reinterpret_cast<PyObject*>(Py_TYPE(symbolic_number(number.ptr())->value)));
  const auto name = names_.find(number.ptr());
  p = ctx_->make_number(type, type == NumberType::kInt ? ctx_->make_symbolic_dim() : Dim(0),
                        name == names_.end() ? "number" : name->second);
  inputs_.push_back(p);
  lifted_.push_back(nb::borrow(number));
  return p;
}

PyObject* Recorder::tensor_of(PyObject* proxy) const {
  const auto it = tensor_of_proxy_.find(proxy);
  return it == tensor_of_proxy_.end() ? nullptr : it->second;
}

std::optional<Arg> Recorder::try_record(const Symbol& symbol, std::span<const Arg> args,
                                        const Kwargs& kwargs, std::string* why) {
  Args bound;
  if (!try_bind(symbol.info->schema, args, kwargs, ctx_->arena(), bound, why)) return std::nullopt;
  if (follows_modes_) {
    refuse_inference_tensors(symbol, bound);
    cast_arguments(symbol, bound);
  }
  return builder().call(symbol, bound);
}

nb::object Recorder::result_object(const Arg& output, std::span<PyObject* const> args) {
  // An identity returns the argument's own Python object, as eager does.
  if (output.is_proxy()) {
    for (PyObject* a : args) {
      const PyProxy* proxy = proxy_of(a);
      if (proxy && proxy->p == output.proxy()) return nb::borrow(a);
    }
  }
  return to_object(output, ctx_);
}

nb::object Recorder::record(nb::handle callable, nb::tuple args, nb::dict kwargs) {
  SmallVec<PyObject*, 8> all;
  for (nb::handle a : args) all.push_back(a.ptr());
  const size_t count = all.size();
  if (kwargs.size() == 0) return record(callable, all.data(), count, nullptr);
  const nb::tuple names(kwargs.keys());
  for (nb::handle value : kwargs.values()) all.push_back(value.ptr());
  return record(callable, all.data(), count, names.ptr());
}

nb::object Recorder::record(nb::handle callable, PyObject* const* args, size_t count,
                            PyObject* names) {
  const auto& overloads = overloads_of(callable);
  follow_modes();
  if (overloads.empty()) throw Unsupported("no row for this callable");
  Args converted;
  for (size_t i = 0; i < count; ++i) converted.push_back(to_arg(args[i], *ctx_, this));
  Kwargs named;
  for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); ++i) {
    const char* name = PyUnicode_AsUTF8(PyTuple_GET_ITEM(names, i));
    if (!name) throw nb::python_error();
    named.push_back({ctx_->arena().copy(std::string_view(name)),
                     to_arg(args[count + static_cast<size_t>(i)], *ctx_, this)});
  }
  std::string reasons;
  const bool native = !PyFunction_Check(callable.ptr());
  for (const Symbol* symbol : overloads) {
    std::string why;
    std::optional<Arg> output;
    try {
      output =
          native && named.size() > 0
              ? try_record(*symbol, converted, with_torch_names(symbol->info->schema, named), &why)
              : try_record(*symbol, converted, named, &why);
    } catch (const Unsupported& e) {
      why = e.what();
    }
    if (!output) {
      fulmen::append(reasons, cat(reasons.empty() ? "" : "; ", symbol->name(), ": ", why));
      continue;
    }
    if (symbol->has(kInplace) && symbol->info->functional && count > 0) {
      // A tensor of the caller's, which an operation may meet before anything else, becomes a
      // proxy.
      nb::object self = bridge::is_tensor(args[0]) && !proxy_of(args[0]) ? input_for(args[0])
                                                                         : nb::borrow(args[0]);
      if (PyProxy* state = proxy_of(self)) {
        if (output->is_proxy()) state->p = output->proxy();
        return self;
      }
    }
    return result_object(*output, {args, count});
  }
  throw Unsupported(reasons);
}

nb::object Recorder::record_symbol(const Symbol& symbol, nb::tuple args, nb::dict kwargs) {
  follow_modes();
  Args converted;
  for (nb::handle a : args) converted.push_back(to_arg(a, *ctx_, this));
  Kwargs named;
  for (auto [key, value] : kwargs) {
    named.push_back({ctx_->arena().copy(std::string_view(nb::cast<const char*>(key))),
                     to_arg(value, *ctx_, this)});
  }
  std::string why;
  const std::optional<Arg> output = try_record(symbol, converted, named, &why);
  if (!output) {
    throw UserError(ErrorKind::kType, "bad-call",
                    cat(symbol.name(), "(): ", why, source_suffix(builder().source)));
  }
  SmallVec<PyObject*, 8> objects;
  for (nb::handle a : args) objects.push_back(a.ptr());
  return result_object(*output, objects);
}

Arg Recorder::output_from_spec(nb::handle spec, bool* views) {
  if (PyType_Check(spec.ptr())) {
    const NumberType type = number_type(spec);
    return Arg(static_cast<const Proxy*>(
        ctx_->make_number(type, type == NumberType::kInt ? ctx_->make_symbolic_dim() : Dim(0))));
  }
  const bool list = PyList_Check(spec.ptr());
  if (!list && !PyTuple_Check(spec.ptr())) return to_arg(spec, *ctx_, this);
  if (!list && nb::len(spec) == 7 && PyUnicode_Check(nb::object(spec[0]).ptr())) {
    TensorType type;
    Arg dtype, device;
    if (!bridge::torch_constant(nb::object(spec[1]).ptr(), &dtype) ||
        !bridge::torch_constant(nb::object(spec[2]).ptr(), &device)) {
      throw Unsupported("a result of an unknown dtype or device");
    }
    type.dtype = dtype.dtype();
    type.device = device.device();
    // -1 stands for a size that only the run decides.
    for (nb::handle d : nb::object(spec[3])) {
      const auto v = nb::cast<int64_t>(d);
      type.shape.push_back(v >= 0 ? Dim(v) : ctx_->make_symbolic_dim());
    }
    for (nb::handle d : nb::object(spec[4])) {
      const auto v = nb::cast<int64_t>(d);
      type.strides.push_back(v >= 0 ? Dim(v) : ctx_->make_symbolic_dim());
    }
    type.requires_grad = nb::cast<bool>(spec[5]);
    TensorProxy* result = ctx_->make_tensor(std::move(type));
    if (const PyProxy* base = proxy_of(nb::object(spec[6]))) {
      result->alias_of = as_tensor(base->p);
      *views = true;
    }
    return Arg(result);
  }
  Args items;
  for (nb::handle item : spec) items.push_back(output_from_spec(item, views));
  return ctx_->make_collection(list ? Arg::Kind::kList : Arg::Kind::kTuple, items);
}

nb::object Recorder::record_opaque(const std::string& name, nb::tuple args, nb::dict kwargs,
                                   nb::handle spec, bool mutates) {
  follow_modes();
  const Arg bound[] = {to_arg(args, *ctx_, this), to_arg(kwargs, *ctx_, this)};
  bool views = false;
  const Arg output = output_from_spec(spec, &views);
  for_each_proxy(output, [&](const Proxy* p) {
    auto* t = const_cast<TensorProxy*>(as_tensor(p));
    if (t) t->is_inference = t->alias_of ? t->alias_of->is_inference : builder().inference_mode;
  });
  const Symbol& symbol =
      Registry::get().opaque(name, (mutates ? kInplace : 0u) | (views ? kView : 0u));
  builder().append(ctx_->make_bound_symbol(symbol, bound, output, builder().source));
  return to_object(output, ctx_);
}

nb::object Recorder::describe(nb::handle spec) {
  bool views = false;
  return to_object(output_from_spec(spec, &views), ctx_);
}

bool Recorder::leaves_to_levels(PyObject* const* args, size_t count) const {
  if (levels_ != Levels::kValues) return levels_ == Levels::kActive;
  for (size_t i = 0; i < count; ++i) {
    const PyProxy* proxy = tensor_proxy_state(args[i]);
    if (proxy && proxy->ctx != ctx_) return true;
    const bool list = PyList_CheckExact(args[i]);
    if (!list && !PyTuple_CheckExact(args[i])) continue;
    PyObject** items = list ? reinterpret_cast<PyListObject*>(args[i])->ob_item
                            : reinterpret_cast<PyTupleObject*>(args[i])->ob_item;
    if (leaves_to_levels(items, static_cast<size_t>(Py_SIZE(args[i])))) return true;
  }
  return false;
}

nb::object Recorder::getitem(nb::handle self, nb::handle index) {
  follow_modes();
  const Arg tensor = to_arg(self, *ctx_, this);
  return to_object(ops::getitem(builder(), tensor, to_arg(index, *ctx_, this)), ctx_);
}

void Recorder::setitem(nb::handle self, nb::handle index, nb::handle value) {
  follow_modes();
  const Arg tensor = to_arg(self, *ctx_, this);
  ops::setitem(builder(), tensor, to_arg(index, *ctx_, this), to_arg(value, *ctx_, this));
}

nb::list Recorder::leading_to(nb::list outputs, nb::handle candidates) const {
  std::unordered_set<const Proxy*> wanted;
  for (nb::handle o : outputs) {
    if (const PyProxy* state = proxy_of(o)) wanted.insert(storage_of(state->p));
  }
  const auto& body = builder().body();
  for (size_t i = body.size(); i-- > 0;) {
    bool leads = false;
    for_each_proxy(body[i]->output, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      leads = leads || (t && requires_grad(*t) && wanted.contains(storage_of(p)));
    });
    if (!leads) continue;
    for (const Arg& a : body[i]->args) {
      for_each_proxy(a, [&](const Proxy* p) {
        const TensorProxy* t = as_tensor(p);
        if (t && requires_grad(*t)) wanted.insert(storage_of(p));
      });
    }
  }
  nb::list found;
  std::unordered_set<const Proxy*> given;
  if (!candidates.is_none()) {
    for (nb::handle c : candidates) {
      const PyProxy* state = proxy_of(c);
      if (!state) continue;
      given.insert(state->p);
      if (wanted.contains(storage_of(state->p))) found.append(c);
    }
  }
  for (const nb::object& tensor : lifted_) {
    const auto it = proxy_of_tensor_.find(tensor.ptr());
    if (it == proxy_of_tensor_.end()) continue;
    const TensorProxy* t = as_tensor(proxy_of(it->second)->p);
    if (!t || !t->type.requires_grad || !wanted.contains(storage_of(t))) continue;
    if (!storage_of(t)->is_leaf && !given.contains(t))
      throw Unsupported(cat("backward() into what came before the call", where()));
    if (candidates.is_none()) found.append(it->second);
  }
  return found;
}

namespace {

std::vector<std::vector<const Proxy*>> group_by_storage(
    std::vector<std::pair<const void*, const Proxy*>> storages) {
  std::stable_sort(storages.begin(), storages.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::vector<const Proxy*>> groups;
  for (size_t i = 0; i < storages.size(); ++i) {
    if (i == 0 || storages[i].first != storages[i - 1].first) groups.emplace_back();
    groups.back().push_back(storages[i].second);
  }
  std::erase_if(groups, [](const auto& g) { return g.size() < 2; });
  return groups;
}

}  // namespace

bool Recorder::try_truncate(size_t n) {
  auto& body = builder().body();
  for (size_t i = n; i < body.size(); ++i) {
    if (body[i]->symbol->has(kInplace | kEffect)) return false;
  }
  body.resize(n);
  return true;
}

Trace Recorder::finish(nb::handle output, const std::string& name) {
  follow_modes();
  Trace trace;
  trace.ctx = ctx_;
  trace.name = name;
  trace.output = to_arg(output, *ctx_, this);
  trace.inputs = inputs_;
  trace.alias_groups = group_by_storage(storages_);
  trace.body = builder().body();
  trace.provenance = "Acquisition";
  return trace;
}

bool Recorder::requires_grad(const TensorProxy& t) const {
  const Arg args[] = {Arg(&t)};
  return t.type.requires_grad || builder().has_late_graph(args);
}

nb::object Recorder::gradient_strides(nb::handle outputs, nb::handle seeds, nb::handle inputs) {
  Trace trace = finish(nb::none(), "gradients");
  const Arg args[] = {to_arg(outputs, *ctx_, this),
                      to_arg(seeds, *ctx_, this),
                      to_arg(inputs, *ctx_, this),
                      Arg(false),
                      Arg(),
                      Arg()};
  const Arg results = builder().infer(ops::gradients, args);
  trace.body.push_back(ctx_->make_bound_symbol(ops::gradients, args, results, nullptr));
  trace.output = results;
  return to_object(passes::strides_of_gradients(trace), ctx_);
}

std::unique_ptr<Recorder> Recorder::for_trace(const Trace& trace) {
  auto recorder = std::make_unique<Recorder>();
  recorder->ctx_ = trace.ctx;
  recorder->inputs_ = trace.inputs;
  recorder->follows_modes_ = false;
  return recorder;
}

PyBoundSymbol Recorder::substituted(const PyBoundSymbol& bsym) const {
  builder().source = bsym.bsym->source;
  return {ctx_, substitution_.apply(*ctx_, *bsym.bsym)};
}

void Recorder::append(const PyBoundSymbol& bsym) { builder().append(bsym.bsym); }

void Recorder::replace(nb::handle output, nb::handle value) {
  const Arg from = to_arg(output, *ctx_, nullptr);
  const Arg to = to_arg(value, *ctx_, nullptr);
  const auto refuse = [&](std::string_view what) {
    std::string got, expected;
    fulmen::append(got, to);
    fulmen::append(expected, from);
    throw UserError(ErrorKind::kValue, "bad-replacement",
                    cat("a rewrite replaced ", expected, " by ", got, ": ", what));
  };
  SmallVec<const Proxy*, 8> olds, news;
  for_each_proxy(from, [&](const Proxy* p) { olds.push_back(p); });
  for_each_proxy(to, [&](const Proxy* p) { news.push_back(p); });
  if (olds.size() != news.size()) refuse("another structure");
  for (size_t i = 0; i < olds.size(); ++i) {
    const TensorProxy *a = as_tensor(olds[i]), *b = as_tensor(news[i]);
    if (!a || !b) continue;
    TensorType expected = a->type;
    expected.requires_grad = b->type.requires_grad;
    expected.strides = b->type.strides;
    if (!(expected == b->type)) refuse("expected the same shape, dtype and device");
  }
  substitution_.bind(from, to);
}

Trace Recorder::finish_rewrite(const Trace& original, const std::string& provenance) {
  Trace trace = original;
  trace.inputs = inputs_;
  trace.body = builder().body();
  trace.output = substitution_.apply(*ctx_, original.output);
  trace.provenance = provenance;
  return trace;
}

void Recorder::set_source(std::string_view file, int line, std::string_view function) {
  if (ambient_) return;  // that of the bound symbol
  const SourceLine next{file, line, function, checkpoints_.empty() ? 0 : num_checkpoints_};
  if (builder().source && *builder().source == next) return;
  builder().source = ctx_->make_source(next);
}

}  // namespace fulmen::bindings
