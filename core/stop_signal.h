// SIGINT and SIGTERM ask for a stop; long work looks at stop_requested() between steps, commits, and throws
// Interrupted. A second signal ends the process at once (committed files stay whole).
#pragma once

namespace exactmamba::core {

void install_stop_handler();
/// 0, or the number of the signal that asked for a stop.
int stop_requested();
/// For tests and for a fresh command in the same process.
void clear_stop_request();

}  // namespace exactmamba::core
