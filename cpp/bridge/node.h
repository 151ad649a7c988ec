#pragma once

#include <torch/csrc/autograd/function.h>

#include <memory>
#include <type_traits>
#include <utility>

namespace fulmen::bridge {

using NodePtr = std::remove_cvref_t<decltype(torch::autograd::Edge().function)>;

// Nodes are counted by c10::intrusive_ptr since PyTorch 2.13, before by std::shared_ptr.
template <class Pointer, class T>
Pointer pointer_to(T* node) {
  if constexpr (requires { Pointer::reclaim_copy(node); }) {
    return Pointer::reclaim_copy(node);
  } else {
    return node->shared_from_this();
  }
}
template <class Pointer, class T, class... A>
Pointer make_node(A&&... args) {
  if constexpr (requires { Pointer::reclaim_copy(static_cast<T*>(nullptr)); }) {
    return c10::make_intrusive<T>(std::forward<A>(args)...);
  } else {
    return std::make_shared<T>(std::forward<A>(args)...);
  }
}

}  // namespace fulmen::bridge
