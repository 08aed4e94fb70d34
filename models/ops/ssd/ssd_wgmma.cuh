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

/// Sums of N columns as products of 64.
template <int N>
__device__ __forceinline__ void take_products(float (&sums)[N / 8][4]) {
#pragma unroll
  for (int n = 0; n < N / 64; ++n) take_sums(reinterpret_cast<float(&)[8][4]>(sums[n * 8]));
}

/// sums += 64 × 64 in registers · a matrix of 64 rows and N columns that load_tiles laid out; take_products
/// when it is done.
template <class T, int N>
__device__ __forceinline__ void begin_multiply_wide_columns(float (&sums)[N / 8][4], uint32_t (&left)[4][4],
                                                            uint32_t right) {
#pragma unroll
  for (int k = 0; k < 4; ++k)
#pragma unroll
    for (int e = 0; e < 4; ++e) keep_packed(left[k][e]);
  take_products<N>(sums);
  begin_products();
#pragma unroll
  for (int k = 0; k < 4; ++k)
#pragma unroll
    for (int n = 0; n < N / 64; ++n)
      multiply_wide<T>(reinterpret_cast<float(&)[8][4]>(sums[n * 8]), left[k],
                       right + wide_offset(n * 8192 + k * 2048), true);
  commit_products();
}
template <class T, int N>
__device__ __forceinline__ void multiply_wide_columns(float (&sums)[N / 8][4], uint32_t (&left)[4][4],
                                                      uint32_t right) {
  begin_multiply_wide_columns<T, N>(sums, left, right);
  wait_products<0>();
  take_products<N>(sums);
}

}  // namespace exactmamba::ops
