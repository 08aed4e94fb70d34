// Starts one program several times on this machine, as the ranks of a job, and looks after them.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace exactmamba::core {

struct Launch {
  std::vector<std::string> command;  // the first is the program's path
  int processes = 1;
  /// For all ranks, beside what job_from() reads and OMP_NUM_THREADS (cores / processes, unless it is set).
  std::vector<std::pair<std::string, std::string>> environment;
  std::chrono::milliseconds patience{5000};  // until the others are killed when one has failed
};

/// A port of the loopback that nobody listens on now. @throws IoError
int free_port();

/// Returns when all have ended well. SIGINT, SIGTERM and SIGHUP (not under nohup) reach all as SIGHUP, which
/// also comes when this process dies; a second SIGINT or SIGTERM ends them at once. Until then the process
/// has handlers from here for them and for SIGCHLD, so that only one launch() at a time is possible; the
/// ranks begin with the default actions. Rank 0 has this process's streams; what another rank writes on
/// stderr is shown when it was the first to fail, and the others are then ended.
/// @throws Error with the exit code of the rank that failed first, or that was asked to stop and so stopped
/// the others, PeerError's when a signal ended it; Interrupted when a stop was asked for; IoError when no
/// process can be started
void launch(const Launch& launch);

}  // namespace exactmamba::core
