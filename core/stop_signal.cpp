#include "core/stop_signal.h"

#include <atomic>
#include <unistd.h>

#include "core/error.h"
#include "core/log.h"

namespace exactmamba::core {
namespace {

std::atomic<int> requested{0};
std::atomic<bool> asked_by_someone{false};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free,
              "a signal handler may only touch lock-free atomics");

/// A hang-up says that somebody has gone, and nobody repeats it to make haste: a closed terminal may say so
/// twice (the shell to its jobs, and the system to those in the foreground), a launcher's death too, and the
/// end of a session brings SIGTERM and SIGHUP together.
void on_signal(int signal) {
  int none = 0;
  if (requested.compare_exchange_strong(none, signal))
    log_from_signal("stopping after this step; again to stop now");
  if (signal != SIGHUP && asked_by_someone.exchange(true)) _exit(128 + signal);
}

}  // namespace

StopHandler::StopHandler() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &interrupt_before_);
  sigaction(SIGTERM, &action, &terminate_before_);
  sigaction(SIGHUP, nullptr, &hang_up_before_);
  if (hang_up_before_.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);  // nohup ignores it
}

StopHandler::~StopHandler() {
  sigaction(SIGINT, &interrupt_before_, nullptr);
  sigaction(SIGTERM, &terminate_before_, nullptr);
  sigaction(SIGHUP, &hang_up_before_, nullptr);
}

int stop_requested() { return requested.load(); }

int agreed_stop() {
  const int signal = stop_requested();
  return signal != 0 ? signal : SIGHUP;
}

void stop_if_asked(const std::string& doing) {
  const int signal = stop_requested();
  if (signal != 0) throw Interrupted(signal, fmt::format("stopped while {}; run again to continue", doing));
}

void clear_stop_request() {
  requested.store(0);
  asked_by_someone.store(false);
}

}  // namespace exactmamba::core
