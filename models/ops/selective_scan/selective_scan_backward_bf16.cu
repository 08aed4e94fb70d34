#include "models/ops/selective_scan/selective_scan_backward_launch.cuh"

namespace exactmamba::ops {
template size_t selective_scan_backward_workspace(const SelectiveScanCudaParams<__nv_bfloat16>&);
template cudaError_t launch_selective_scan_backward(const SelectiveScanCudaParams<__nv_bfloat16>&);
}  // namespace exactmamba::ops
