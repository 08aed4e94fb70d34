// What the SSD kernels do with a warpgroup's products. Operands in shared memory are as load_tiles lays them
// out.
#pragma once

#include "models/ops/cuda/warpgroup.cuh"
#include "models/ops/ssd/ssd_mma.cuh"

namespace exactmamba::ops {

/// Waits until all that the block's threads copied is there for every one of them.
__device__ __forceinline__ void await_copies() {
  wait_for_copies();
  publish_copies();
  __syncthreads();
}

/// sums += 64 × 64 in registers · a matrix of 64 rows and N columns that load_tiles laid out.
template <class T, int N>
__device__ __forceinline__ void multiply_wide_columns(float (&sums)[N / 8][4], uint32_t (&left)[4][4],
                                                      uint32_t right) {
  const auto tile = [&](int n) -> float(&)[8][4] { return reinterpret_cast<float(&)[8][4]>(sums[n * 8]); };
#pragma unroll
  for (int k = 0; k < 4; ++k)
#pragma unroll
    for (int e = 0; e < 4; ++e) keep_packed(left[k][e]);
#pragma unroll
  for (int n = 0; n < N / 64; ++n) take_sums(tile(n));
  begin_products();
#pragma unroll
  for (int k = 0; k < 4; ++k)
#pragma unroll
    for (int n = 0; n < N / 64; ++n)
      multiply_wide<T>(tile(n), left[k], right + wide_offset(n * 8192 + k * 2048), true);
  end_products();
#pragma unroll
  for (int n = 0; n < N / 64; ++n) take_sums(tile(n));
}

}  // namespace exactmamba::ops
