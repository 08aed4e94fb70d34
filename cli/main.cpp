#include "cli/arguments.h"
#include "cli/failure.h"
#include "core/stop_signal.h"

int main(int argc, char** argv) {
  try {
    exactmamba::core::install_stop_handler();
    exactmamba::cli::parse_arguments(argc, argv)();
    return 0;
  } catch (...) {
    return exactmamba::cli::report_failure();
  }
}
