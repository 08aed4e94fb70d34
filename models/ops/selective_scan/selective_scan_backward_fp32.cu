#include "models/ops/selective_scan/selective_scan_backward_launch.cuh"

namespace exactmamba::ops {
template size_t selective_scan_backward_workspace(const SelectiveScanCudaParams<float>&);
template cudaError_t launch_selective_scan_backward(const SelectiveScanCudaParams<float>&);
}  // namespace exactmamba::ops
