// What the kernels of ssd's backward pass (see ssd_backward_kernel.cuh) have in common.
#pragma once

#include "models/ops/ssd/ssd_kernel.cuh"

namespace exactmamba::ops {

template <class T>
struct SsdBackwardArguments {
  Rows<const T> x, B, C, grad_out;
  Rows<T> grad_x, grad_B, grad_C;  // [nullable]
  const float* D;                  // (H) [nullable]
  const T *states, *grad_states;   // (slots, H, P, N): entering; gradient of the leaving one
  bool has_initial_state, has_grad_last_state;
  SsdTables<float> tables;
  SsdGradientParts parts;
  float* grad_products;  // (splits, slots, G, Q, Q): transposed, ∂(CBᵀ)_ij at [j][i], i ≥ j [nullable]
  float *partial_B, *partial_C;  // (splits, B·L, G·N), only with several splits
  int heads, groups, splits;
  int64_t slots, tokens;
};

/// Stages of a block's pipeline over heads. One where an architecture has too little shared memory for two.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
inline constexpr int kSsdStages = 1;
#else
inline constexpr int kSsdStages = 2;
#endif

/// Which later tokens i of its chunk a lane's tokens j = row0 and row0 + 8 reach.
struct SsdReach {
  int row0, stop[2] = {kSsdChunk, kSsdChunk};

  __device__ SsdReach(const SsdTables<float>& tables, const SsdChunk& chunk, int slot, int row0)
      : row0(row0) {
    if (chunk.tail > 0)
      for (int r = 0; r < 2; ++r) stop[r] = tables.stop[slot * kSsdChunk + row0 + 8 * r];
  }
  __device__ bool operator()(int r, int i) const {
    const int j = row0 + 8 * r;
    return static_cast<unsigned>(i - j) < static_cast<unsigned>(stop[r] - j);
  }
};

/// Products B_j·C_i of 16 tokens i from `first` on, as 16-bit numbers; 0 where j does not reach i.
template <class T>
__device__ __forceinline__ void pack_products(uint32_t (&packed)[4], const float (*sums)[4],
                                              const SsdReach& reaches, int first, int quad) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int r = k % 2, column = first + k / 2 * 8 + quad * 2;
    packed[k] = pack_pair<T>(reaches(r, column) ? sums[k / 2][2 * r] / kProductScale<T> : 0.f,
                             reaches(r, column + 1) ? sums[k / 2][2 * r + 1] / kProductScale<T> : 0.f);
  }
}

/// The gradients of such products, [4 · 8 columns + 2 · 8 rows + column].
__device__ __forceinline__ void store_grad_products(float* to, const float (&grads)[8],
                                                    const SsdReach& reaches, int first, int quad) {
#pragma unroll
  for (int c = 0; c < 2; ++c)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int column = first + c * 8 + quad * 2;
      reinterpret_cast<float2&>(to[(reaches.row0 + 8 * r) * kSsdChunk + column]) = {
          reaches(r, column) ? grads[4 * c + 2 * r] : 0.f,
          reaches(r, column + 1) ? grads[4 * c + 2 * r + 1] : 0.f};
    }
}

/// The inner product of 8 elements each, added to `sum`.
template <class T>
__device__ __forceinline__ void add_inner_product(float& sum, const uint4& u, const uint4& v) {
  const uint32_t us[4] = {u.x, u.y, u.z, u.w}, vs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const float2 s = unpack_pair<T>(us[k]), g = unpack_pair<T>(vs[k]);
    sum = fmaf(s.x, g.x, fmaf(s.y, g.y, sum));
  }
}

/// Writes a lane's gradients of C, or of B, of its block's group, tokens row0 and row0 + 8 of the chunk.
template <class T, int N>
__device__ __forceinline__ void store_key_gradients(const SsdBackwardArguments<T>& a,
                                                    const float (&sums)[N / 8][4], bool of_B,
                                                    const SsdChunk& chunk, int row0, int lane) {
  const int group = blockIdx.y, split = blockIdx.z, quad = lane % 4;
  if (a.splits > 1) {
    float* to = (of_B ? a.partial_B : a.partial_C) +
                ((split * a.tokens + chunk.begin) * a.groups + group) * N + quad * 2;
    for (int r = 0; r < 2; ++r)
      if (row0 + 8 * r < chunk.size)
#pragma unroll
        for (int n = 0; n < N / 8; ++n)
          reinterpret_cast<float2&>(to[(row0 + 8 * r) * static_cast<int64_t>(a.groups * N) + n * 8]) = {
              sums[n][2 * r], sums[n][2 * r + 1]};
    return;
  }
  T* const data = of_B ? a.grad_B.data : a.grad_C.data;
  if (!data) return;
  const int64_t stride = of_B ? a.grad_B.token_stride : a.grad_C.token_stride;
  T* to = (of_B ? row_at(a.grad_B, chunk.begin) : row_at(a.grad_C, chunk.begin)) + group * N + quad * 8;
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int n = 0; n < N / 8; n += 4) {
      uint32_t pairs[4];
#pragma unroll
      for (int q = 0; q < 4; ++q) pairs[q] = pack_pair<T>(sums[n + q][2 * r], sums[n + q][2 * r + 1]);
      const uint4 packed = transpose_quad(pairs[0], pairs[1], pairs[2], pairs[3], lane);
      if (row0 + 8 * r < chunk.size) reinterpret_cast<uint4&>(to[(row0 + 8 * r) * stride + n * 8]) = packed;
    }
}

/// Sums over the 16 tokens j of a warp, for 16 tokens i; `of_rows`: [8 columns][column]. Each exchange halves
/// the columns that a lane keeps.
__device__ __forceinline__ void store_row_sums(float* to, const float (&of_rows)[2][2], int lane) {
  const bool upper = lane & 16, odd = lane & 8;
  float kept[2];
#pragma unroll
  for (int k = 0; k < 2; ++k)
    kept[k] = (upper ? of_rows[1][k] : of_rows[0][k]) +
              __shfl_xor_sync(~0u, upper ? of_rows[0][k] : of_rows[1][k], 16);
  float total = (odd ? kept[1] : kept[0]) + __shfl_xor_sync(~0u, odd ? kept[0] : kept[1], 8);
  total += __shfl_xor_sync(~0u, total, 4);
  if ((lane & 4) == 0) to[upper * 8 + lane % 4 * 2 + odd] = total;
}

}  // namespace exactmamba::ops
