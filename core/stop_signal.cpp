#include "core/stop_signal.h"

#include <atomic>
#include <unistd.h>

#include "core/error.h"
#include "core/log.h"

namespace exactmamba::core {
namespace {

std::atomic<int> requested{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

void on_signal(int signal) {
  if (requested.exchange(signal) != 0) _exit(128 + signal);
  log_from_signal("stopping after this step; again to stop now");
}

}  // namespace

StopHandler::StopHandler() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &interrupt_before_);
  sigaction(SIGTERM, &action, &terminate_before_);
}

StopHandler::~StopHandler() {
  sigaction(SIGINT, &interrupt_before_, nullptr);
  sigaction(SIGTERM, &terminate_before_, nullptr);
}

int stop_requested() { return requested.load(); }

void stop_if_asked(const std::string& doing) {
  const int signal = stop_requested();
  if (signal != 0) throw Interrupted(signal, fmt::format("stopped while {}; run again to continue", doing));
}

void clear_stop_request() { requested.store(0); }

}  // namespace exactmamba::core
