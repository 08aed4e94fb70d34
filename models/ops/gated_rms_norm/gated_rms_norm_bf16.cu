#include "models/ops/gated_rms_norm/gated_rms_norm_kernel.cuh"

namespace exactmamba::ops {

template size_t gated_rms_norm_backward_workspace(const GatedRmsNormCudaParams<__nv_bfloat16>&);
template cudaError_t launch_gated_rms_norm_forward(const GatedRmsNormCudaParams<__nv_bfloat16>&);
template cudaError_t launch_gated_rms_norm_backward(const GatedRmsNormCudaParams<__nv_bfloat16>&);

}  // namespace exactmamba::ops
