// Stands in for CUDA in a build without it.
#include "core/gpu.h"

namespace exactmamba::core {

Gpus find_gpus() { return {0, "this build has no CUDA kernels"}; }
std::string cuda_version() { return ""; }

}  // namespace exactmamba::core
