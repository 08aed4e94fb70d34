#include "models/ops/ssd/ssd_backward_kernel.cuh"

namespace exactmamba::ops {

template size_t ssd_backward_workspace(const SsdCudaParams<float>&);
template cudaError_t launch_ssd_backward(const SsdCudaParams<float>&);

}  // namespace exactmamba::ops
