#include "models/ops/ssd/ssd_kernel.cuh"

namespace exactmamba::ops {

template bool ssd_takes_gate(const SsdCudaParams<float>&);
template int64_t ssd_chunk_state_count(const SsdCudaParams<float>&);
template size_t ssd_forward_workspace(const SsdCudaParams<float>&);
template cudaError_t launch_ssd_forward(const SsdCudaParams<float>&);
template cudaError_t launch_ssd_step(const SsdStepParams<float, float>&);

}  // namespace exactmamba::ops
