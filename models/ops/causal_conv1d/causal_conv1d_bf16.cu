#include "models/ops/causal_conv1d/causal_conv1d_kernel.cuh"

namespace exactmamba::ops {

template bool causal_conv1d_forward_projects(const CausalConv1dCudaParams<__nv_bfloat16>&);
template bool causal_conv1d_backward_projects(const CausalConv1dCudaParams<__nv_bfloat16>&);
template size_t causal_conv1d_backward_workspace(const CausalConv1dCudaParams<__nv_bfloat16>&);
template cudaError_t launch_causal_conv1d_forward(const CausalConv1dCudaParams<__nv_bfloat16>&);
template cudaError_t launch_causal_conv1d_backward(const CausalConv1dCudaParams<__nv_bfloat16>&);
template cudaError_t launch_causal_conv1d_step(const CausalConv1dStepCudaParams<__nv_bfloat16>&);

}  // namespace exactmamba::ops
