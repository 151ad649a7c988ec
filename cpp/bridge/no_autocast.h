#pragma once

#include <c10/core/impl/LocalDispatchKeySet.h>

namespace fulmen::bridge {

// A scope in which ATen casts nothing: a program's casts are in the program, see Note [Autocast].
// Unlike PyTorch's guard it leaves the other keys as they are at its end: a program may change
// them.
class NoAutocast {
 public:
  NoAutocast()
      : keys_(c10::autocast_dispatch_keyset - c10::impl::tls_local_dispatch_key_set().excluded_) {
    if (!keys_.empty()) exclude(c10::impl::tls_local_dispatch_key_set().excluded_ | keys_);
  }
  ~NoAutocast() {
    if (!keys_.empty()) exclude(c10::impl::tls_local_dispatch_key_set().excluded_ - keys_);
  }
  NoAutocast(const NoAutocast&) = delete;
  NoAutocast& operator=(const NoAutocast&) = delete;

 private:
  static void exclude(c10::DispatchKeySet excluded) {
    c10::impl::PODLocalDispatchKeySet keys{};
    keys.set_included(c10::impl::tls_local_dispatch_key_set().included_);
    keys.set_excluded(excluded);
    c10::impl::_force_tls_local_dispatch_key_set(keys);
  }

  c10::DispatchKeySet keys_;
};

}  // namespace fulmen::bridge
