#include "models/ops/rms_norm/rms_norm_kernel.cuh"

namespace exactmamba::ops {

template size_t rms_norm_backward_workspace(const RmsNormCudaParams<float>&);
template cudaError_t launch_rms_norm_forward(const RmsNormCudaParams<float>&);
template cudaError_t launch_rms_norm_backward(const RmsNormCudaParams<float>&);

}  // namespace exactmamba::ops
