#pragma once

#include <Python.h>

#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

namespace fulmen::jit {

// A member of an enumeration: there is one of it, whatever refers to it.
bool is_enum_member(PyObject* object);

// How to make the Python objects that a call leaves behind (its result, and what it stores) from
// the outputs of its program: a graph of nodes, children before parents except where objects refer
// to each other in cycles.
class Recipe {
 public:
  Recipe() = default;
  ~Recipe();
  Recipe(Recipe&&) = delete;

  // What a front end knows of an object: the node that stands for it, or -1 to look inside.
  using Known = std::function<int(PyObject*)>;

  int output(int index);  // an output of the programs, counted over all of them
  int slot(int index);    // the object in a slot of the guard program
  int constant(PyObject* object);
  // The node of `object`, with its parts. Returns -1 with a Python error set for an object that
  // can't be made again (a running generator, say).
  int add(PyObject* object, const Known& known);

  // One run of a recipe: each node is made once, so that parts stay shared.
  class Run {
   public:
    Run(const Recipe& recipe, std::span<PyObject* const> outputs, std::span<PyObject* const> slots)
        : recipe_(recipe), outputs_(outputs), slots_(slots), made_(recipe.nodes_.size()) {}
    ~Run();
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;
    // New reference; null with a Python error set.
    PyObject* make(int node);

   private:
    PyObject* create(int node);
    bool fill(int node, PyObject* object);

    const Recipe& recipe_;
    std::span<PyObject* const> outputs_, slots_;
    std::vector<PyObject*> made_;
  };

  // The slots of the guard program that nodes refer to.
  std::vector<int32_t> slots() const {
    std::vector<int32_t> found;
    for (const Node& n : nodes_) {
      if (n.kind == Kind::kSlot) found.push_back(n.index);
    }
    return found;
  }
  // The output that `node` is; -1 if it is something else.
  int output_of(int node) const {
    const Node& n = nodes_[static_cast<size_t>(node)];
    return n.kind == Kind::kOutput ? n.index : -1;
  }

 private:
  enum class Kind : uint8_t {
    kOutput,    // index
    kSlot,      // index
    kConstant,  // object
    kTensor,    // a copy of the tensor `object`
    kTuple,     // items
    kList,
    kSet,
    kFrozenSet,
    kDict,      // key, value, key, value, …
    kObject,    // an instance of the type `object`; see Instance
    kCell,      // contents, or nothing
    kFunction,  // closure…; `object` is the function to repeat
    kMethod,    // function, self
    kReduced,   // what object.__reduce_ex__ says: callable, args, state, list items, dict items
  };
  struct Node {
    Kind kind;
    int index = 0;
    PyObject* object = nullptr;
    std::vector<int> items;
    // kObject: how many of the items are those of the list, dict, set or tuple that it is based on;
    // after them come (name, value) pairs of its attributes. `index` is the number of the former.
  };

  int make_node(Kind kind, PyObject* object);
  bool add_items(int node, PyObject* const* items, Py_ssize_t n, const Known& known);
  bool add_dict(int node, PyObject* dict, const Known& known);
  bool add_instance(int node, PyObject* object, const Known& known);
  int add_function(PyObject* function, const Known& known);
  int add_reduced(PyObject* object, const Known& known);

  std::vector<Node> nodes_;
  std::unordered_map<PyObject*, int> memo_;
  std::vector<PyObject*> kept_;  // objects in memo_, so that their addresses stay theirs
};

}  // namespace fulmen::jit
