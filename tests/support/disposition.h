// How a signal is met.
#pragma once

#include <csignal>

namespace exactmamba::testing {

/// As long as it lives, `signal` is met by `wanted` (SIG_DFL, SIG_IGN), also in what is started meanwhile.
class Disposition {
 public:
  Disposition(int signal, void (*wanted)(int)) : signal_(signal), before_(std::signal(signal, wanted)) {}
  ~Disposition() { std::signal(signal_, before_); }
  Disposition(const Disposition&) = delete;
  Disposition& operator=(const Disposition&) = delete;

 private:
  int signal_;
  void (*before_)(int);
};

}  // namespace exactmamba::testing
