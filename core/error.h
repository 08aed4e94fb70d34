// One exception type per kind of failure; main() prints them in one place and exits with their code.
// A message is one line: what is wrong, where (file:line:column or byte offset), both values, what to change.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace exactmamba::core {

enum class ExitCode : int { kOk = 0, kInput = 1, kUsage = 2, kIo = 3, kNumerical = 4, kPeer = 5 };

class Error : public std::runtime_error {
 public:
  Error(int exit_code, const std::string& message) : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

/// Wrong content: recipe, checkpoint, data, shapes.
class InputError : public Error {
 public:
  explicit InputError(const std::string& message) : Error(static_cast<int>(ExitCode::kInput), message) {}
};
/// Wrong command line.
class UsageError : public Error {
 public:
  explicit UsageError(const std::string& message) : Error(static_cast<int>(ExitCode::kUsage), message) {}
};
/// The file system said no: missing, unreadable, read-only, full.
class IoError : public Error {
 public:
  explicit IoError(const std::string& message) : Error(static_cast<int>(ExitCode::kIo), message) {}
};
/// NaN or infinity where a number must be finite.
class NumericalError : public Error {
 public:
  explicit NumericalError(const std::string& message)
      : Error(static_cast<int>(ExitCode::kNumerical), message) {}
};
/// Another process of the same job failed.
class PeerError : public Error {
 public:
  explicit PeerError(const std::string& message) : Error(static_cast<int>(ExitCode::kPeer), message) {}
};
/// A signal asked the program to stop; the exit code is 128 + signal.
class Interrupted : public Error {
 public:
  Interrupted(int signal, const std::string& message) : Error(128 + signal, message) {}
};

/// Throws E with a fmt-formatted message unless `condition` holds.
template <class E = InputError, class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw E(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace exactmamba::core
