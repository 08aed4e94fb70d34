#include "core/version.h"

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/output.h"

namespace exactmamba::cli {

void print_version() {
  write_result(fmt::format("exactmamba {}\nLibTorch {}\nCUDA none in this build\n", core::version(),
                           core::torch_version()));
}

}  // namespace exactmamba::cli
