#include "models/ops/linear_cross_entropy/cross_entropy_rows_kernel.cuh"

namespace exactmamba::ops {

template cudaError_t launch_cross_entropy_rows(const CrossEntropyRowsCudaParams<__nv_bfloat16>&);

}  // namespace exactmamba::ops
