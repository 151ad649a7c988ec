#include "passes/functionalize.h"

#include <algorithm>
#include <deque>
#include <unordered_map>

#include "analysis/proxy_map.h"
#include "analysis/recorded.h"
#include "ir/builder.h"
#include "ir/rewrite.h"
#include "ir/write_back.h"
#include "ops/control.h"
#include "ops/shape.h"
#include "ops/state.h"
#include "passes/emit.h"
#include "passes/escape.h"
#include "passes/inplace_lowering.h"
#include "passes/saved_values.h"
#include "passes/view_inverse.h"

// Note [Write-backs]
// In a functional trace every value is written once. The inputs that the program changes get their
// final values at the end, by one `torch.Tensor.copy_(input, value)` each; after the first of these
// stand only other write-backs and views of written inputs that are results. So whatever reads an
// input before reads its old value, and no pass may move a bound symbol across the first
// write-back. A result that is a written input is the result of its write-back. When regions are
// made a write-back may become part of one, which then stands before other bound symbols, none of
// which reads the input as it was.

namespace fulmen::passes {
namespace {

// Thrown where the program can't be functionalized exactly.
struct NotFunctional {
  std::string reason;
};

template <class... Parts>
[[noreturn]] void give_up(const BoundSymbol* at, const Parts&... parts) {
  throw NotFunctional{at ? cat(at->symbol->name(), ": ", parts..., source_suffix(at->source))
                         : cat(parts...)};
}

struct Node;

// A storage. `version` counts the writes to it.
struct Root {
  const TensorProxy* input;  // null: made by the program
  Node* node;
  uint32_t version = 0;
  bool written = false;
  bool opaque = false;    // an opaque symbol made it or saw it: unknown tensors may share it
  Args earlier{};         // of an updated parameter: the values before; see is_update
  bool borrowed = false;  // of one, too: its value may be that of a tensor without history
};

// One bound symbol whose results share storage with its arguments, and how to make it again.
struct View {
  const BoundSymbol* bsym;
  std::vector<Node*> results;  // one per proxy of the output
};

// A tensor as the program sees it: a storage, or a view of another node. In-place results are the
// node of the tensor that was written.
struct Node {
  Root* root;
  Node* base;  // null for a root's own node
  View* view;
  const TensorProxy* declared;  // its metadata, which every value has
  const TensorProxy* value;     // what it held at `version` of the root
  uint32_t version;
  bool renamed = false;  // t_() and its like gave the user's tensor other metadata
};

bool same_layout(const TensorType& a, const TensorType& b) {
  return a.dtype == b.dtype && a.device == b.device && a.shape == b.shape && a.strides == b.strides;
}

// Whether several elements may be one in memory.
bool has_internal_overlap(const TensorType& t) {
  std::vector<std::pair<int64_t, int64_t>> steps;  // stride, turns
  for (size_t i = 0; i < t.ndim(); ++i) {
    if (is_zero(t.strides[i]) && t.shape[i].value_or(2) > 1) return true;
    if (!t.strides[i].is_concrete() || !t.shape[i].is_concrete()) continue;
    if (t.shape[i].value() == 0) return false;
    if (t.shape[i].value() > 1) steps.emplace_back(t.strides[i].value(), t.shape[i].value());
  }
  std::sort(steps.begin(), steps.end());
  int64_t reach = 0;  // the last element of the dimensions so far
  for (const auto& [stride, turns] : steps) {
    if (stride <= reach) return true;
    reach += stride * (turns - 1);
  }
  return false;
}

// Whether an opaque call may write to its arguments, by PyTorch's habits of naming.
bool may_write(const BoundSymbol& b) {
  std::string_view name = b.symbol->name();
  const auto positional = b.args[0].items();
  // call_with_autocast(state, cache, name, ...)
  if (name.ends_with(".call_with_autocast") && positional.size() > 2) name = positional[2].text();
  const size_t dot = name.rfind('.');
  const std::string_view last = dot == std::string_view::npos ? name : name.substr(dot + 1);
  if (last.ends_with("_") && !last.ends_with("__")) return true;
  if (last.starts_with("__i") || last == "__setitem__" || last == "setitem") return true;
  // A custom operator's schema is not known here.
  if (name.starts_with("torch.ops.") && !name.starts_with("torch.ops.aten.")) return true;
  const auto kwargs = b.args[1].items();
  for (size_t i = 0; i + 1 < kwargs.size(); i += 2) {
    if (kwargs[i].kind() != Arg::Kind::kString) continue;
    if (kwargs[i].text() == "out" && !kwargs[i + 1].is_none()) return true;
    if (kwargs[i].text() == "inplace" && !(kwargs[i + 1] == Arg(false))) return true;
  }
  return false;
}

bool changes_grad_mode(const Symbol& s) {
  return s.has(kEffect) && (s.name().find("grad") != std::string::npos ||
                            s.name().find("inference") != std::string::npos);
}

class Functionalizer {
 public:
  explicit Functionalizer(const Trace& trace) : trace_(trace), builder_(trace.ctx) {
    bool other_modes = false;
    for (const BoundSymbol* b : trace_.body) {
      const bool is_plain = b->symbol == &ops::set_grad_enabled;
      mixed_grad_modes_ = mixed_grad_modes_ || changes_grad_mode(*b->symbol);
      other_modes = other_modes || (!is_plain && changes_grad_mode(*b->symbol));
      whole_step_ = whole_step_ || b->symbol == &ops::gradients;
    }
    without_autograd_ = mixed_grad_modes_ && !other_modes && !whole_step_ && !is_recorded(trace);
    builder_.grad_enabled = !without_autograd_ && was_recorded_with_grad();
    for (const auto& group : trace.alias_groups) {
      for (const Proxy* p : group) shared_.set(p, true);
    }
    for (const Proxy* p : trace.inputs) {
      const TensorProxy* t = as_tensor(p);
      if (!t) continue;
      if (t->alias_of) shared_.set(storage_of(t), true), shared_.set(t, true);
      make_root(t, t, t);
    }
    builder_.body().reserve(trace.body.size() + trace.inputs.size());
  }

  Trace run() {
    const BoundSymbol* last_mode = nullptr;
    if (without_autograd_) builder_.append(ops::grad_mode_change(*trace_.ctx, false));
    for (const BoundSymbol* b : trace_.body) {
      if (without_autograd_ && b->symbol == &ops::set_grad_enabled) {
        last_mode = b;
        continue;
      }
      builder_.source = b->source;
      visit(*b);
      if (whole_step_ && b->symbol == &ops::set_grad_enabled)
        builder_.grad_enabled = b->args[0].boolean();
    }
    builder_.source = nullptr;
    Trace out = trace_;
    out.output = finish();
    if (last_mode) builder_.append(last_mode);
    out.body = std::move(builder_.body());
    out.functional = true;
    return out;
  }

 private:
  // The trace does not say in which grad mode it runs; its types show it.
  bool was_recorded_with_grad() {
    bool seen_inplace = false;
    for (const BoundSymbol* b : trace_.body) {
      if (!any_requires_grad(b->output)) continue;
      const auto& params = b->symbol->info->schema.params;
      if (!b->symbol->has(kInplace) || params.empty() || !params[0].mutated) return true;
      const TensorProxy* self = b->args.empty() ? nullptr : b->args[0].tensor();
      if (!self || !self->type.requires_grad) return true;
      seen_inplace = seen_inplace || !self->is_leaf;
    }
    return seen_inplace;
  }

  Node* make_root(const TensorProxy* declared, const TensorProxy* value, const TensorProxy* input) {
    roots_.push_back({input, nullptr});
    nodes_.push_back({&roots_.back(), nullptr, nullptr, declared, value, 0});
    roots_.back().node = &nodes_.back();
    node_of_.set(declared, &nodes_.back());
    owner_.set(storage_of(value), &roots_.back());
    return &nodes_.back();
  }

  Node* node_of(const TensorProxy* t) {
    if (Node* n = node_of_.get(t)) return n;
    give_up(nullptr, "tensor ", t->name, " is neither an input nor the result of a call");
  }

  // --- Reading ---

  // The node's current value; null when a write reached its storage in a way that can't be
  // replayed.
  const TensorProxy* try_read(Node* n) {
    if (n->version == n->root->version) return n->value;
    if (!n->view || !try_read(n->base)) return nullptr;
    replay(*n->view);
    return n->value;
  }

  const TensorProxy* read(Node* n) {
    const TensorProxy* value = try_read(n);
    if (!value)
      give_up(nullptr, "a write through a view of ", n->declared->name, " has no inverse");
    return value;
  }

  Arg read_arg(const Arg& a) {
    return map_proxies(*trace_.ctx, a, [&](const Proxy* p) -> Arg {
      if (const TensorProxy* t = as_tensor(p)) {
        Node* n = node_of(t);
        if (n->root->borrowed && builder_.grad_enabled) make_own(*n->root);
        return Arg(read(n));
      }
      const Proxy* q = other_.get(p);
      return Arg(q ? q : p);
    });
  }

  // The value of an updated parameter as a tensor of its own, so that gradients of what was written
  // to the parameter are no gradients of the parameter.
  void make_own(Root& root) {
    const TensorProxy* value = emit("detach", {read(root.node)}).tensor();
    const_cast<TensorProxy*>(value)->type.requires_grad = root.node->declared->type.requires_grad;
    root.borrowed = false;
    ++root.version;
    set(root.node, value);
  }

  Args read_args(const BoundSymbol& b) {
    Args args;
    for (const Arg& a : b.args) args.push_back(read_arg(a));
    return args;
  }

  // Makes a view again from what its base holds now.
  void replay(View& view) {
    const BoundSymbol& b = *view.bsym;
    const Arg out = call_view(b, read_args(b));
    size_t i = 0;
    for_each_proxy(out, [&](const Proxy* p) {
      Node* n = view.results[i++];
      if (!n || n->version == n->root->version) return;
      n->value = as_tensor(p);
      n->version = n->root->version;
    });
  }

  Arg call_view(const BoundSymbol& b, std::span<const Arg> args) {
    const std::string& name = b.symbol->name();
    if (b.symbol->has(kOpaque)) give_up(&b, "an opaque view of a tensor that is written");
    if (name.starts_with("as_strided")) {
      give_up(&b, "as_strided of a tensor that is written");  // sees the storage, not the tensor
    }
    const Arg out = builder_.call(*b.symbol, args);
    check_layouts(b, out, b.output);
    return out;
  }

  void check_layouts(const BoundSymbol& b, const Arg& got, const Arg& expected) {
    if (expected.is_collection()) {
      if (!got.is_collection() || got.items().size() != expected.items().size()) {
        give_up(&b, "the replayed view has another structure");
      }
      for (size_t i = 0; i < got.items().size(); ++i) {
        check_layouts(b, got.items()[i], expected.items()[i]);
      }
      return;
    }
    const TensorProxy* x = got.tensor();
    const TensorProxy* y = expected.tensor();
    if (!x != !y || (x && !same_layout(x->type, y->type))) {
      give_up(&b, "the replayed view has another layout");
    }
  }

  // --- Bound symbols ---

  void visit(const BoundSymbol& b) {
    const Symbol& s = *b.symbol;
    for (const Arg& a : b.args) {
      for_each_proxy(a, [&](const Proxy* p) {
        const TensorProxy* t = as_tensor(p);
        if (t && node_of(t)->renamed) give_up(&b, "a tensor is read under its old shape");
      });
    }
    if (s.has(kInplace)) return write(b);
    if (s.has(kOpaque)) visit_opaque(b);
    Args args;
    bool changed = false;
    for (const Arg& a : b.args) {
      args.push_back(read_arg(a));
      changed = changed || !(args.back() == a);
    }
    if (&s == &ops::gradients) {
      changed = add_earlier_values(b, args) || changed;
      check_saved(args[0].items());
    }
    bool views = false;
    for_each_proxy(b.output, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      views = views || (t && t->alias_of && !node_of_.get(t));
    });
    if (!changed) {
      builder_.append(&b);
      declare(b, b.output, views);
    } else if (views) {
      declare(b, call_view(b, args), views);
    } else {
      builder_.append(trace_.ctx->make_bound_symbol(s, args, b.output, b.source));
      declare(b, b.output, false);
    }
    if (s.has(kOpaque)) {
      for_each_proxy(b.output, [&](const Proxy* p) {
        if (const TensorProxy* t = as_tensor(p)) node_of(t)->root->opaque = true;
      });
    }
  }

  bool add_earlier_values(const BoundSymbol& b, Args& args) {
    Args all;
    bool any = false;
    for (const Arg& input : b.args[2].items()) {
      const Args& earlier = node_of(input.tensor())->root->earlier;
      any = any || !earlier.empty();
      all.push_back(trace_.ctx->make_collection(Arg::Kind::kList, earlier));
    }
    if (any) args[4] = trace_.ctx->make_collection(Arg::Kind::kList, all);
    return any;
  }

  void visit_opaque(const BoundSymbol& b) {
    if (may_write(b)) give_up(&b, "an opaque symbol may write to its arguments");
    for (const Arg& a : b.args) {
      for_each_proxy(a, [&](const Proxy* p) {
        const TensorProxy* t = as_tensor(p);
        if (!t) return;
        Root& root = *node_of(t)->root;
        if (root.written && root.input) give_up(&b, "an opaque symbol reads a written input");
        root.opaque = true;
      });
    }
  }

  // Gives the recorded results of `b` the values `now`.
  void declare(const BoundSymbol& b, const Arg& now, bool views) {
    View* view = nullptr;
    if (views) {
      views_.push_back({&b, {}});
      view = &views_.back();
    }
    declare(view, b.output, now);
  }

  void declare(View* view, const Arg& recorded, const Arg& now) {
    if (recorded.is_collection()) {
      for (size_t i = 0; i < recorded.items().size(); ++i) {
        declare(view, recorded.items()[i], now.items()[i]);
      }
      return;
    }
    if (!recorded.is_proxy()) return;
    Node* made = nullptr;
    const TensorProxy* t = recorded.tensor();
    if (!t) {
      if (now.proxy() != recorded.proxy()) other_.set(recorded.proxy(), now.proxy());
    } else if (!node_of_.get(t)) {
      if (t->alias_of) {
        Node* base = node_of(t->alias_of);
        nodes_.push_back({base->root, base, view, t, now.tensor(), base->root->version});
        made = &nodes_.back();
        node_of_.set(t, made);
      } else {
        make_root(t, now.tensor(), nullptr);
      }
    }
    if (view) view->results.push_back(made);
  }

  // --- Writing ---

  void write(const BoundSymbol& b) {
    if (is_write_back(b) && b.args[1].is_tensor() &&
        same_part(node_of(b.args[0].tensor()), node_of(b.args[1].tensor()))) {
      // x[i] -= y ends with it.
      if (const TensorProxy* t = b.output.tensor()) node_of_.set(t, node_of(b.args[0].tensor()));
      return;
    }
    const InplaceLowering* lowering = find_inplace_lowering(b.symbol->name());
    const Symbol* row = lowering ? nullptr : b.symbol->info->functional;
    if (row && row->has(kView)) return rename(b, *row);
    if (!row && !lowering) give_up(&b, "it has no functional form");

    SmallVec<Node*, 4> written;
    const auto& params = b.symbol->info->schema.params;
    for (size_t i = 0; i < b.args.size(); ++i) {
      if (!params[i].mutated || b.args[i].is_none()) continue;
      const TensorProxy* t = b.args[i].tensor();
      if (!t) give_up(&b, "it writes a list of tensors");
      written.push_back(node_of(t));
      check_writable(b, written.back(), lowering && lowering->outside_autograd);
    }
    check_overlap(b, written);
    const Args args = read_args(b);
    const size_t place = builder_.body().size();
    for (Node* n : written) {
      if (!is_data(n) && !(lowering && lowering->outside_autograd)) last_write_[n->root] = place;
    }
    if (row) copied_.emplace(place, args[0].proxy());
    for (Node* n : written) {
      if (is_update(n)) n->root->earlier.push_back(Arg(read(n->root->node)));
    }
    if (row) {
      const TensorProxy* value = builder_.call(*row, args).tensor();
      if (!value || written.size() != 1) give_up(&b, "it has several results");
      if (is_update(written[0]))
        const_cast<TensorProxy*>(value)->type.requires_grad |=
            b.output.tensor()->type.requires_grad;
      assign(written[0], value);
    } else {
      Args values;
      const Arg results = lowering->run(args, values);
      if (values.size() != written.size()) give_up(&b, "its functional form misses a result");
      for (size_t i = 0; i < written.size(); ++i) assign(written[i], values[i].tensor());
      if (!results.is_none()) declare(b, results, false);
    }
    // What the call returns besides fresh results is the written tensor itself.
    for_each_proxy(b.output, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      if (t && t->alias_of && !node_of_.get(t)) node_of_.set(t, node_of(t->alias_of));
    });
  }

  // t_(), unsqueeze_(): from here on the user's tensor is a view of what it was.
  void rename(const BoundSymbol& b, const Symbol& row) {
    const TensorProxy* self = b.args[0].tensor();
    Node* n = node_of(self);
    if (n->root->input) give_up(&b, "the metadata of an input changes");
    if (n->root->opaque) give_up(&b, "an opaque symbol may share the tensor");
    // Without grad mode the tensor keeps its history, which a view would not have.
    if (mixed_grad_modes_ && self->type.requires_grad)
      give_up(&b, "a tensor with a history gets another shape, where the grad mode changes");
    const BoundSymbol* view = trace_.ctx->make_bound_symbol(row, b.args, b.output, b.source);
    const Arg now = call_view(*view, read_args(*view));
    declare(*view, now, true);
    n->renamed = true;
  }

  void check_writable(const BoundSymbol& b, Node* n, bool outside_autograd) {
    const Root& root = *n->root;
    outside_autograd = outside_autograd && !root.node->declared->type.requires_grad;
    if (root.opaque) give_up(&b, "an opaque symbol may share the storage that is written");
    if (root.input && shared_.get(root.input))
      give_up(&b, "inputs share the storage that is written");
    if (mixed_grad_modes_ && !without_autograd_ && !is_update(n) &&
        !(whole_step_ && builder_.grad_enabled)) {
      if (any_requires_grad(b.args) || root.node->declared->type.requires_grad) {
        give_up(&b, "a write that gradients depend on, in a program that changes the grad mode");
      }
    }
    for (Node* at = n; at; at = at->base) {
      // PyTorch refuses most of these; in order, its own check decides.
      if (has_internal_overlap(at->declared->type)) give_up(&b, "an expanded tensor is written");
      if (!at->view) break;
      if (at->view->bsym->symbol->name() == "unfold")
        give_up(&b, "overlapping windows are written");
      // Autograd refuses writes to these, and to views of leaves.
      const bool several = at->view->bsym->output.is_collection();
      if (builder_.grad_enabled && several && any_requires_grad(b.args)) {
        give_up(&b, "one of several views that gradients depend on is written");
      }
    }
    // What the functional value saved of the input for its gradient is gone after the write-back.
    // Leaves are refused by eager's own check, in order.
    if (builder_.grad_enabled && root.input && !outside_autograd && any_requires_grad(b.args)) {
      give_up(&b, "an input is written in a way that gradients depend on");
    }
  }

  // A parameter that is written without grad mode, or as .data, in a program that contains its
  // backward: it counts with its new value from there on, and gradients add up. See
  // expand_gradients.
  bool is_update(const Node* n) const {
    if (!whole_step_ || !n->root->input || !n->root->input->is_leaf) return false;
    if (!builder_.grad_enabled) return true;
    for (; n->view; n = n->base) {
      if (is_detached(*n->view)) return true;
    }
    return false;
  }

  // Whether autograd does not count a write to it.
  static bool is_data(const Node* n) {
    for (; n->view; n = n->base) {
      if (n->view->bsym->symbol == &ops::data) return true;
    }
    return false;
  }

  // Eager refuses a backward for which it has saved what was written since: run in order, the
  // program does so itself.
  void check_saved(std::span<const Arg> results) {
    if (last_write_.empty()) return;
    const auto was_written = [&](const TensorProxy* t, size_t place) {
      const auto copy = copied_.find(place);
      if (copy != copied_.end() && copy->second == t) return false;
      const auto write = last_write_.find(owner_.get(storage_of(t)));
      return write != last_write_.end() && place < write->second;
    };
    const BoundSymbol* b = find_spoiled(trace_.ctx, builder_.body(), results, was_written);
    if (b) give_up(b, "what its gradient needs is written");
  }

  static bool is_detached(const View& view) {
    return view.bsym->symbol == &ops::detach || view.bsym->symbol == &ops::data;
  }

  // PyTorch refuses arguments that overlap the written tensor in part, or gives a result that
  // depends on the order of the loop. The tensor itself, and disjoint views, are fine.
  void check_overlap(const BoundSymbol& b, std::span<Node* const> written) {
    for (size_t i = 0; i < b.args.size(); ++i) {
      for_each_proxy(b.args[i], [&](const Proxy* p) {
        const TensorProxy* t = as_tensor(p);
        if (!t) return;
        Node* n = node_of(t);
        for (Node* w : written) {
          if (n == w || n->root != w->root || are_disjoint(n, w)) continue;
          give_up(&b, "an argument overlaps the tensor that is written");
        }
      });
    }
  }

  // Whether they are the same part of a storage: equal views of one tensor.
  bool same_part(Node* a, Node* b) {
    if (a == b) return true;
    if (!a->view || !b->view) return false;
    const BoundSymbol &x = *a->view->bsym, &y = *b->view->bsym;
    const auto place = [](const Node* n) {
      const auto& results = n->view->results;
      return std::find(results.begin(), results.end(), n) - results.begin();
    };
    return x.symbol == y.symbol && x.args.size() == y.args.size() && x.args[0].is_tensor() &&
           y.args[0].is_tensor() &&
           std::equal(x.args.begin() + 1, x.args.end(), y.args.begin() + 1) &&
           place(a) == place(b) && same_part(a->base, b->base);
  }

  bool are_disjoint(Node* a, Node* b) {
    const auto depth = [](Node* n) {
      int d = 0;
      for (; n->base; n = n->base) ++d;
      return d;
    };
    int da = depth(a), db = depth(b);
    Node* last_a = nullptr;
    Node* last_b = nullptr;
    for (; da > db; --da) last_a = a, a = a->base;
    for (; db > da; --db) last_b = b, b = b->base;
    for (; a != b; a = a->base, b = b->base) last_a = a, last_b = b;
    if (!last_a || !last_b) return false;
    const TensorType& base = a->declared->type;
    const auto x = window_of(*last_a->view->bsym, last_a->declared, base);
    const auto y = window_of(*last_b->view->bsym, last_b->declared, base);
    if (!x || !y || x->dim != y->dim) return false;
    if (x->end <= y->start || y->end <= x->start) return true;
    return x->step == y->step && (x->start - y->start) % x->step != 0;
  }

  void set(Node* n, const TensorProxy* value) {
    n->value = value;
    n->version = n->root->version;
    if (!owner_.get(storage_of(value))) owner_.set(storage_of(value), n->root);
  }

  // `value` is what the node holds after the write, up to dtype and strides.
  void assign(Node* n, const TensorProxy* value) {
    if (value == n->value && n->version == n->root->version) return;
    const TensorProxy* before = n->value;
    const bool updates = is_update(n);
    value = with_dtype(value, n->declared->type.dtype);
    SmallVec<const TensorProxy*, 8> old;
    for (Node* at = n->base; at; at = at->base) old.push_back(try_read(at));
    ++n->root->version;
    n->root->written = true;
    // A view with strides of its own is made again from its base, which has the right strides.
    if (!n->base || same_layout(value->type, n->declared->type)) {
      value = with_strides(before, value, n->declared->type);
      set(n, value);
    }
    const TensorProxy* child = value;
    size_t i = 0;
    for (Node* at = n; at->base; at = at->base, ++i) {
      const TensorProxy* base = old[i];
      const TensorProxy* next = !base ? nullptr
                                : updates && is_detached(*at->view)
                                    ? child
                                    : write_through(*at->view->bsym, at->declared, base, child);
      if (!next) break;
      child = with_strides(base, next, at->base->declared->type);
      set(at->base, child);
    }
    if (n->version != n->root->version && i == 0) {
      set(n, with_strides(before, value, n->declared->type));
    }
    n->root->borrowed = updates && !n->root->node->value->type.requires_grad;
  }

  const TensorProxy* with_dtype(const TensorProxy* value, DType dtype) {
    if (value->type.dtype == dtype) return value;
    return cast_to(value, dtype);
  }

  // `value` in the layout of `before`, whose metadata is `type`.
  const TensorProxy* with_strides(const TensorProxy* before, const TensorProxy* value,
                                  const TensorType& type) {
    if (same_layout(value->type, type)) return value;
    if (!(value->type.shape == type.shape) || type.ndim() == 0 ||
        value->type.device != type.device) {
      give_up(nullptr, "a written value has another shape or device than its tensor");
    }
    // Writing all of a copy of `before` keeps its strides, and is differentiable.
    const TensorProxy* out =
        emit("slice_scatter", {before, value, Arg(0), Arg(0), Arg(type.shape[0]), Arg(1)}).tensor();
    if (!same_layout(out->type, type)) give_up(nullptr, "slice_scatter changes the strides");
    return out;
  }

  // --- Results ---

  Arg finish() {
    ProxyMap<Node*> seen;  // by the root's own tensor: the first node that is a result
    for_each_proxy(trace_.output, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      if (!t) return;
      Node* n = node_of(t);
      Root& root = *n->root;
      if (n->renamed) give_up(nullptr, "a result is read under its old shape");
      if (!root.written || root.input) return;
      Node* first = seen.get(root.node->declared);
      if (!first) {
        seen.set(root.node->declared, n);
        own(n);
      } else if (first != n) {
        share(root);
      }
    });
    if (builder_.grad_enabled && !whole_step_) {
      const Arg results[] = {read_arg(trace_.output)};
      check_saved(results);
    }
    write_back();
    return read_arg(trace_.output);
  }

  bool owns(Node* n) { return owner_.get(storage_of(read(n))) == n->root; }

  // A result must not share storage with what was copied into it.
  void own(Node* n) {
    if (owns(n)) return;
    if (try_read(n->root->node)) return share(*n->root);
    set(n, clone(n));
  }

  const TensorProxy* clone(Node* n) {
    const TensorProxy* copy = emit("clone", {read(n)}).tensor();
    if (!same_layout(copy->type, n->declared->type))
      give_up(nullptr, "a clone changes the strides");
    owner_.set(copy, n->root);
    return copy;
  }

  // Several results see this storage: all become views of one value.
  void share(Root& root) {
    const TensorProxy* value = read(root.node);
    if (!owns(root.node)) value = clone(root.node);
    ++root.version;
    set(root.node, value);
  }

  void write_back() {
    struct Final {
      Root* root;
      const TensorProxy* value;
    };
    std::vector<Final> finals;
    for (Root& root : roots_) {
      if (!root.input || !root.written) continue;
      const TensorProxy* value = read(root.node);
      if (value == root.input) continue;
      // The value may be another written input's storage, as in a swap.
      const Root* owner = owner_.get(storage_of(value));
      if (owner && owner != &root && owner->input && owner->written) value = clone(root.node);
      finals.push_back({&root, value});
    }
    if (whole_step_) builder_.grad_enabled = false;  // as the whole program will run
    for (const Final& f : finals) {
      const TensorProxy* result = emit("copy_", {f.root->input, f.value}).tensor();
      ++f.root->version;
      set(f.root->node, result);
    }
  }

  const Trace& trace_;
  Builder builder_;
  bool mixed_grad_modes_ = false;
  bool whole_step_ = false;  // the program calls backward()
  // It changes the grad mode, but autograd records nothing of it: an optimizer's step.
  bool without_autograd_ = false;
  std::deque<Root> roots_;
  std::deque<Node> nodes_;
  std::deque<View> views_;
  ProxyMap<Node*> node_of_;
  ProxyMap<const Proxy*> other_;  // results that are no tensors, under their new names
  ProxyMap<Root*> owner_;         // storage → whose it is
  std::unordered_map<const Root*, size_t> last_write_;  // the place in the body
  std::unordered_map<size_t, const Proxy*> copied_;     // of it eager's write there saves a copy
  ProxyMap<bool> shared_;                               // inputs that share storage with another
};

bool needs_work(const Trace& trace) {
  for (const BoundSymbol* b : trace.body) {
    if (b->symbol->has(kInplace)) return true;
    if (b->symbol->has(kOpaque) && may_write(*b)) return true;
  }
  return false;
}

}  // namespace

Trace functionalize(const Trace& trace, PassContext& ctx) {
  if (trace.functional) return trace;
  if (!needs_work(trace)) {
    Trace out = trace;
    out.functional = true;
    return out;
  }
  if (!ctx.take_fuel()) return trace;
  std::string reason;
  try {
    return Functionalizer(trace).run();
  } catch (const NotFunctional& e) {
    reason = e.reason;
  } catch (const Unsupported& e) {
    reason = e.what();
  } catch (const UserError& e) {
    reason = e.what();  // run in order, the program raises this itself
  }
  ctx.note("functionalize", std::move(reason));
  return trace;
}

}  // namespace fulmen::passes
