// The one place where errors are printed.
#pragma once

namespace exactmamba::cli {

/// Prints the exception being handled on stderr, "exactmamba: error: …" (a line for each problem that it
/// lists), and returns the exit code: 0 ok, 1 input, 2 usage, 3 I/O, 4 numerical, 5 peer, 128 + signal. To be
/// called in a catch block.
int report_failure();

}  // namespace exactmamba::cli
