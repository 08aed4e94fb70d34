// kill -9 at a chosen moment.
#pragma once

#include <chrono>
#include <signal.h>
#include <sys/wait.h>
#include <thread>

namespace exactmamba::testing {

/// Kills `child` after `delay` and waits for its end. True when it was killed, false when it had ended by
/// itself.
inline bool killed_after(pid_t child, std::chrono::duration<double> delay) {
  std::this_thread::sleep_for(delay);
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

}  // namespace exactmamba::testing
