// SIGINT, SIGTERM and SIGHUP (the terminal is closed, or the launcher of a rank asks, or has died; not under
// nohup) ask for a stop, and a line says so at once; long work looks at stop_requested() between steps,
// commits, and throws Interrupted. A second SIGINT or SIGTERM, SIGHUP not counted, ends the process at once
// (committed files stay whole).
#pragma once

#include <signal.h>
#include <string>

namespace exactmamba::core {

/// As long as it lives, the signals only ask; before and after they do what they did without it.
class StopHandler {
 public:
  StopHandler();
  ~StopHandler();
  StopHandler(const StopHandler&) = delete;
  StopHandler& operator=(const StopHandler&) = delete;

 private:
  struct sigaction interrupt_before_, terminate_before_, hang_up_before_;
};

/// 0, or the number of the signal that asked for a stop first.
int stop_requested();
/// Of a stop on which the processes of a job agreed: SIGHUP where only others were asked.
int agreed_stop();
/// Between two steps of work that keeps what is finished. @throws Interrupted ("stopped while DOING; run
/// again to continue") when a stop was asked for
void stop_if_asked(const std::string& doing);
/// For tests and for a fresh command in the same process.
void clear_stop_request();

}  // namespace exactmamba::core
