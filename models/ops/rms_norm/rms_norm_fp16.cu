#include "models/ops/rms_norm/rms_norm_kernel.cuh"

namespace exactmamba::ops {

template size_t rms_norm_backward_workspace(const RmsNormCudaParams<__half>&);
template cudaError_t launch_rms_norm_forward(const RmsNormCudaParams<__half>&);
template cudaError_t launch_rms_norm_backward(const RmsNormCudaParams<__half>&);

}  // namespace exactmamba::ops
