#include <cstdlib>
#include <cuda_runtime_api.h>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "core/distributed/job.h"
#include "core/error.h"
#include "core/gpu.h"

namespace exactmamba::core {
namespace {

/// Where several processes share a machine's GPUs, each sees only its own, which is then the first; one that
/// was started with a single GPU keeps it. Has no effect once CUDA is in use.
void see_own_gpu_only() {
  constexpr const char* kVariable = "CUDA_VISIBLE_DEVICES";
  const Job job = job_of_this_process();
  if (job.size == 1) return;
  std::vector<std::string> visible;
  const char* set = std::getenv(kVariable);
  std::istringstream list(set == nullptr ? "" : set);
  for (std::string gpu; std::getline(list, gpu, ',');) visible.push_back(gpu);
  if (set != nullptr && visible.size() <= 1) return;
  const auto index = static_cast<size_t>(job.local_rank);
  require(set == nullptr || index < visible.size(),
          "{} has {} GPUs, too few for process {} of this machine; start one process a GPU", kVariable,
          visible.size(), index);
  setenv(kVariable, (set == nullptr ? std::to_string(index) : visible[index]).c_str(), /*replace=*/1);
}

}  // namespace

Gpus find_gpus() {
  see_own_gpu_only();
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
