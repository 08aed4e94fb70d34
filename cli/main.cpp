#include <csignal>
#include <malloc.h>

#include "cli/arguments.h"
#include "cli/failure.h"

namespace {

/// Every step allocates tensors of the same sizes: keeping freed memory instead of giving it back to the
/// system, page by page, makes a small model's training a quarter faster.
void keep_freed_memory() {
  constexpr int kNever = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, kNever);
  mallopt(M_TRIM_THRESHOLD, kNever);
}

/// A shell without job control starts what ends with & so that it ignores SIGINT. It asks for a stop
/// nevertheless (kill -INT), from the beginning to the end: this runs before the libraries initialise
/// themselves, which takes LibTorch a while.
void hear_of_interrupts(int, char**, char**) { std::signal(SIGINT, SIG_DFL); }
[[gnu::section(".preinit_array"), gnu::used]] void (*const first)(int, char**, char**) = hear_of_interrupts;

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  std::signal(SIGXFSZ, SIG_IGN);  // a write beyond the limit of a file's size then fails, and says so
  try {
    exactmamba::cli::parse_arguments(argc, argv)();
    return 0;
  } catch (...) {
    return exactmamba::cli::report_failure();
  }
}
