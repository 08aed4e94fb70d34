#include "core/device.h"

#include <cstdlib>
#include <dlfcn.h>
#include <sstream>
#include <string>
#include <vector>

#include "core/distributed/job.h"
#include "core/error.h"
#include "core/gpu.h"

namespace exactmamba::core {
namespace {

/// Its constructors register the CUDA side of every operator of LibTorch.
void load_libtorch_cuda() {
  static const bool loaded = [] {
    require(
        dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr,
        "there is a GPU, but LibTorch's CUDA library cannot be loaded: {}; run CUDA=1 cmake/setup.sh, which "
        "fetches what it needs, or use device = \"cpu\"",
        dlerror());
    return true;
  }();
  static_cast<void>(loaded);
}

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

at::Device device_from_name(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  see_own_gpu_only();
  const Gpus gpus = find_gpus();
  if (gpus.count == 0) {
    require(name != "cuda", "device is \"cuda\", but {}; use device = \"cpu\"", gpus.reason);
    return at::kCPU;
  }
  load_libtorch_cuda();
  return {at::kCUDA, 0};
}

/// From pinned memory, which LibTorch's allocator takes back when the copy is over.
at::Tensor copy_to(const at::Device& device, const at::Tensor& tensor) {
  if (tensor.is_cpu() && device.is_cuda())
    return tensor.pin_memory().to(device, tensor.scalar_type(), /*non_blocking=*/true);
  return tensor.to(device);
}

}  // namespace exactmamba::core
