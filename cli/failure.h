// The one place where errors are printed.
#pragma once

#include "core/distributed/job.h"

namespace exactmamba::cli {

/// From now on this process of a job tells its rank with an error. `alike`: until they meet, all processes of
/// a machine read the same files and find the same wrong, which the first of them tells alone.
void tell_failures_of(const core::Job& job, bool alike);

/// Prints the exception being handled on stderr, "exactmamba: error: …" (a line for each problem that it
/// lists), and returns the exit code: 0 ok, 1 input, 2 usage, 3 I/O, 4 numerical, 5 peer, 128 + signal. To be
/// called in a catch block.
int report_failure();

}  // namespace exactmamba::cli
