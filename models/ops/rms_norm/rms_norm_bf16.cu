#include "models/ops/rms_norm/rms_norm_kernel.cuh"

namespace exactmamba::ops {

template size_t rms_norm_backward_workspace(const RmsNormCudaParams<__nv_bfloat16>&);
template cudaError_t launch_rms_norm_forward(const RmsNormCudaParams<__nv_bfloat16>&);
template cudaError_t launch_rms_norm_backward(const RmsNormCudaParams<__nv_bfloat16>&);

}  // namespace exactmamba::ops
