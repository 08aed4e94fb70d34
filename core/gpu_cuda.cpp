#include <cuda_runtime_api.h>

#include <fmt/format.h>

#include "core/gpu.h"

namespace exactmamba::core {

Gpus find_gpus() {
  Gpus gpus;
  const cudaError_t error = cudaGetDeviceCount(&gpus.count);
  if (error == cudaSuccess && gpus.count > 0) return gpus;
  gpus.count = 0;
  gpus.reason = fmt::format("no GPU was found ({})", cudaGetErrorString(error));
  cudaGetLastError();  // a machine without a GPU is no failure of what follows
  return gpus;
}

std::string cuda_version() { return fmt::format("{}.{}", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10); }

}  // namespace exactmamba::core
