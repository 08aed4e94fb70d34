#include "models/ops/ssd/ssd_kernel.cuh"

namespace exactmamba::ops {

template bool ssd_takes_gate(const SsdCudaParams<__nv_bfloat16>&);
template int64_t ssd_chunk_state_count(const SsdCudaParams<__nv_bfloat16>&);
template size_t ssd_forward_workspace(const SsdCudaParams<__nv_bfloat16>&);
template cudaError_t launch_ssd_forward(const SsdCudaParams<__nv_bfloat16>&);
template cudaError_t launch_ssd_step(const SsdStepParams<__nv_bfloat16, float>&);
template cudaError_t launch_ssd_step(const SsdStepParams<__nv_bfloat16, __nv_bfloat16>&);

}  // namespace exactmamba::ops
