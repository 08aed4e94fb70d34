#include "core/version.h"

#include <torch/csrc/api/include/torch/version.h>

namespace exactmamba::core {

const char* version() { return EXACTMAMBA_VERSION; }
const char* torch_version() { return TORCH_VERSION; }

}  // namespace exactmamba::core
