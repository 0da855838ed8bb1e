#pragma once
// What goes wrong, said once where the fact is known and caught once in the program: one line with what, where, what to do.

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace sememe {

/// Something the user or the outside world caused: a bad file, a full disk, a shape that does not fit. Exit status 1.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

/// An option or argument that cannot be used as given. Exit status 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// The user asked to stop (SIGINT, SIGTERM) and what was reached has been saved. Exit status 130.
class Interrupted : public Error {
 public:
  using Error::Error;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args&&... args) {
  throw UsageError(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace sememe
