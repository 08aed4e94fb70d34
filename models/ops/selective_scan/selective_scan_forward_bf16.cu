#include "models/ops/selective_scan/selective_scan_kernel.cuh"

namespace exactmamba::ops {
template size_t selective_scan_forward_workspace(const SelectiveScanCudaParams<__nv_bfloat16>&);
template cudaError_t launch_selective_scan_forward(const SelectiveScanCudaParams<__nv_bfloat16>&);
template cudaError_t launch_selective_scan_step(const SelectiveScanCudaParams<__nv_bfloat16>&);
}  // namespace exactmamba::ops
