#include "core/version.h"

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "core/gpu.h"

namespace exactmamba::cli {

void print_version() {
  const std::string cuda = core::cuda_version();
  write_result(fmt::format("exactmamba {}\nLibTorch {}\nCUDA {}\n", core::version(), core::torch_version(),
                           cuda.empty() ? "none in this build" : cuda));
}

}  // namespace exactmamba::cli
