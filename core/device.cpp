#include "core/device.h"

#include <dlfcn.h>

#include <ATen/Context.h>

#include "core/error.h"
#include "core/gpu.h"

namespace exactmamba::core {
namespace {

/// Its constructors register the CUDA side of every operator of LibTorch. cuBLAS is told to sum the parts of
/// a 16-bit product in float, as everything here does.
void load_libtorch_cuda() {
  static const bool loaded = [] {
    require(
        dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr,
        "there is a GPU, but LibTorch's CUDA library cannot be loaded: {}; run CUDA=1 cmake/setup.sh, which "
        "fetches what it needs, or choose the device cpu (run.device or --device)",
        dlerror());
    at::globalContext().setAllowFP16ReductionCuBLAS(false);
    at::globalContext().setAllowBF16ReductionCuBLAS(false);
    return true;
  }();
  static_cast<void>(loaded);
}

}  // namespace

at::Device planned_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  const Gpus gpus = find_gpus();
  if (gpus.count > 0) return {at::kCUDA, 0};
  require(name != "cuda", "the device cuda cannot be used: {}; choose cpu or auto (run.device or --device)",
          gpus.reason);
  return at::kCPU;
}

at::Device device_from_name(const std::string& name) {
  const at::Device device = planned_device(name);
  if (device.is_cuda()) load_libtorch_cuda();
  return device;
}

/// From pinned memory, which LibTorch's allocator takes back when the copy is over.
at::Tensor copy_to(const at::Device& device, const at::Tensor& tensor) {
  if (tensor.is_cpu() && device.is_cuda())
    return tensor.pin_memory().to(device, tensor.scalar_type(), /*non_blocking=*/true);
  return tensor.to(device);
}

}  // namespace exactmamba::core
