// Second stage of a deterministic reduction over rows: the blocks of the first stage leave `parts` rows of
// partial sums, which are added up here in a fixed order.
#pragma once

#include <cstdint>
#include <cuda_runtime.h>

#include "models/ops/cuda/dependent_launch.cuh"

namespace exactmamba::ops {

/// `partial` (parts, columns). Columns below `split` are added to first[column], the others to second[column
/// − split]; both nullable.
struct ColumnSums {
  const float* partial = nullptr;
  int parts = 0;
  int64_t columns = 0, split = 0;
  float* first = nullptr;
  float* second = nullptr;
};

inline constexpr int kMostColumnSumRows = 32;

static __global__ void __launch_bounds__(32 * kMostColumnSumRows)
    column_sums_kernel(const __grid_constant__ ColumnSums sums) {
  __shared__ float totals[kMostColumnSumRows][33];
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32, rows = blockDim.x / 32;
  const int64_t column = int64_t(blockIdx.x) * 32 + lane;
  wait_for_previous_launch();
  float total = 0;
  if (column < sums.columns) {
#pragma unroll 8
    for (int part = row; part < sums.parts; part += rows) total += sums.partial[part * sums.columns + column];
  }
  totals[row][lane] = total;
  __syncthreads();
  if (row > 0 || column >= sums.columns) return;
#pragma unroll 8
  for (int i = 1; i < rows; ++i) total += totals[i][lane];
  float* to = column < sums.split ? sums.first : sums.second;
  if (to) to[column < sums.split ? column : column - sums.split] += total;
}

/// Directly behind the first stage, which calls allow_dependent_launch().
inline cudaError_t launch_column_sums(const ColumnSums& sums, cudaStream_t stream) {
  const int rows = sums.parts < 8 * kMostColumnSumRows ? ceil_divide(sums.parts, 8) : kMostColumnSumRows;
  return launch_dependent(column_sums_kernel, static_cast<unsigned>(ceil_divide<int64_t>(sums.columns, 32)),
                          static_cast<unsigned>(32 * rows), 0, stream, sums);
}

/// The same behind a kernel that was just launched with `blocks` blocks; `sum` (columns) is nullable.
inline cudaError_t add_column_partials(const void* partial, int64_t blocks, int64_t columns, float* sum,
                                       cudaStream_t stream) {
  const cudaError_t error = cudaGetLastError();
  if (error || !sum) return error;
  return launch_column_sums(
      {static_cast<const float*>(partial), static_cast<int>(blocks), columns, columns, sum, nullptr}, stream);
}

}  // namespace exactmamba::ops
