#include "models/ops/ssd/ssd_kernel.cuh"

namespace exactmamba::ops {

template bool ssd_takes_gate(const SsdCudaParams<__half>&);
template int64_t ssd_chunk_state_count(const SsdCudaParams<__half>&);
template size_t ssd_forward_workspace(const SsdCudaParams<__half>&);
template cudaError_t launch_ssd_forward(const SsdCudaParams<__half>&);
template cudaError_t launch_ssd_step(const SsdStepParams<__half, float>&);
template cudaError_t launch_ssd_step(const SsdStepParams<__half, __half>&);

}  // namespace exactmamba::ops
