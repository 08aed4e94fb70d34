#include "models/ops/ssd/ssd_backward_kernel.cuh"

namespace exactmamba::ops {

template size_t ssd_backward_workspace(const SsdCudaParams<__nv_bfloat16>&);
template cudaError_t launch_ssd_backward(const SsdCudaParams<__nv_bfloat16>&);

}  // namespace exactmamba::ops
