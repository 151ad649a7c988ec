#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "support/cat.h"

namespace fulmen {

// The Python exception type that eager PyTorch raises for the same mistake.
enum class ErrorKind : uint8_t { kRuntime, kType, kValue, kIndex, kNotImplemented };

// A mistake in the user's program or input. `id` names a documented page (docs/errors.md).
class UserError : public std::exception {
 public:
  UserError(ErrorKind kind, std::string_view id, std::string message)
      : kind_(kind), id_(id), message_(std::move(message)) {}

  ErrorKind kind() const { return kind_; }
  const std::string& id() const { return id_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  ErrorKind kind_;
  std::string id_;
  std::string message_;
};

// A mistake of ours.
class InternalError : public std::exception {
 public:
  explicit InternalError(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

// Thrown by a meta or a binding that meets a legal use which its row does not cover. The caller
// records the call as an opaque symbol instead; never seen by a user.
class Unsupported : public std::exception {
 public:
  explicit Unsupported(std::string reason) : reason_(std::move(reason)) {}
  const char* what() const noexcept override { return reason_.c_str(); }

 private:
  std::string reason_;
};

template <class... Parts>
[[noreturn]] void internal_error(const Parts&... parts) {
  throw InternalError(cat(parts...));
}

}  // namespace fulmen
