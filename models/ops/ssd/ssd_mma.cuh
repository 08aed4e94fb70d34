// Tensor-core tiles of 16-bit elements: mma.sync m16n8k16, ldmatrix and cp.async (sm_80 and newer).
// A tile lies in shared memory in rows of kCols elements whose 16-byte pieces are swizzled by the row, so
// that neither ldmatrix nor its transposing form has bank conflicts.
#pragma once

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

#include "models/ops/cuda/fast_math.cuh"
#include "models/ops/cuda/multiply_add.cuh"
#include "models/ops/cuda/warpgroup.cuh"

namespace exactmamba::ops {

template <class T>
__device__ __forceinline__ float as_float(T v) {
  return static_cast<float>(v);
}
template <class T>
__device__ __forceinline__ T from_float(float v) {
  return static_cast<T>(v);
}

/// Keeps the compiler from moving what it makes of `v` out of a loop, where it would take more registers.
__device__ __forceinline__ void keep_packed(uint32_t& v) { asm volatile("" : "+r"(v)); }

/// 16 bytes into shared memory.
__device__ __forceinline__ void copy_async(uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most `kPending` of this thread's newest groups are under way.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Waits for all copies of this thread.
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// `kRows` rows of a strided matrix into a tile, by kThreads threads from a multiple of kThreads on; rows
/// from `valid` on become 0. `kMirrored`: the tiles of 16 rows from row 64 on lie in reverse order.
template <class T, int kRows, int kCols, int kThreads, bool kMirrored = false>
__device__ __forceinline__ void load_tile(uint32_t tile, const T* from, int64_t stride, int valid) {
  constexpr int kPieces = kCols / 8, kStep = kThreads / kPieces;
  static_assert(kStep % 8 == 0 && kRows % kStep == 0, "the swizzle repeats after 8 rows");
  static_assert(!kMirrored || (kRows == 128 && kStep <= 16), "whole steps are mirrored");
  const int thread = threadIdx.x % kThreads, row = thread / kPieces, piece = thread % kPieces;
  const uint32_t to = tile_address<kCols>(tile, row, piece);
  const T* piece_of_row = from + row * stride + piece * 8;
  const int64_t step = kStep * stride;
  const auto place = [&](int r) { return to + (kMirrored && r >= 64 ? r ^ 48 : r) * (kCols * 2); };
  if (valid >= kRows) {
#pragma unroll
    for (int r = 0; r < kRows; r += kStep, piece_of_row += step) copy_async(place(r), piece_of_row);
  } else {
#pragma unroll
    for (int r = 0; r < kRows; r += kStep, piece_of_row += step)
      copy_async_or_zero(place(r), row + r < valid ? piece_of_row : from, row + r < valid);
  }
}

/// A matrix of kCols columns as tiles of 64 columns, one behind the other.
template <class T, int kRows, int kCols, int kThreads, bool kMirrored = false>
__device__ __forceinline__ void load_tiles(uint32_t tiles, const T* from, int64_t stride, int valid) {
#pragma unroll
  for (int n = 0; n < kCols; n += 64)
    load_tile<T, kRows, 64, kThreads, kMirrored>(tiles + n * (kRows * 2), from + n, stride, valid);
}

/// `count` floats, a multiple of 4 and at most 4 · kThreads.
template <int kThreads>
__device__ __forceinline__ void load_floats(uint32_t to, const float* from, int count, int first_thread = 0) {
  const int e = (threadIdx.x + kThreads - first_thread) % kThreads * 4;
  if (e < count) copy_async(to + e * 4, from + e);
}

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

/// Four tiles of 8 × 8, of which each lane has a pair of a row, into shared memory; lane l gives the place of
/// row l % 8 of tile l / 8.
__device__ __forceinline__ void store_matrices(uint32_t address, uint32_t r0, uint32_t r1, uint32_t r2,
                                               uint32_t r3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(r0),
               "r"(r1), "r"(r2), "r"(r3)
               : "memory");
}

/// The left operand's 16×16 at (m0, k0) of a tile stored [m][k].
template <int kCols>
__device__ __forceinline__ void load_left(uint32_t (&r)[4], uint32_t tile, int m0, int k0, int lane) {
  load_matrices(r, tile_address<kCols>(tile, m0 + (lane & 15), k0 / 8 + (lane >> 4)));
}
/// The same of a tile stored [k][m].
template <int kCols>
__device__ __forceinline__ void load_left_transposed(uint32_t (&r)[4], uint32_t tile, int m0, int k0,
                                                     int lane) {
  load_matrices_transposed(
      r, tile_address<kCols>(tile, k0 + (lane & 7) + ((lane >> 4) << 3), m0 / 8 + ((lane >> 3) & 1)));
}
/// The right operand's 16 (k) × 16 (n) of a tile stored [n][k]: r[0..1] columns n0.., r[2..3] columns n0
/// + 8...
template <int kCols>
__device__ __forceinline__ void load_right(uint32_t (&r)[4], uint32_t tile, int n0, int k0, int lane) {
  load_matrices(r,
                tile_address<kCols>(tile, n0 + (lane & 7) + ((lane >> 4) << 3), k0 / 8 + ((lane >> 3) & 1)));
}
/// The same of a tile stored [k][n].
template <int kCols>
__device__ __forceinline__ void load_right_transposed(uint32_t (&r)[4], uint32_t tile, int n0, int k0,
                                                      int lane) {
  load_matrices_transposed(r, tile_address<kCols>(tile, k0 + (lane & 15), n0 / 8 + (lane >> 4)));
}

/// sums += the inner products, over kSize columns, of 16 rows of `left` with 16 rows of `right`: two tiles of
/// 16 × 8.
template <class T, int kSize>
__device__ __forceinline__ void add_inner_products(float (&sums)[2][4], uint32_t left_tile, int left_row,
                                                   uint32_t right_tile, int right_row, int lane) {
#pragma unroll
  for (int k = 0; k < kSize / 16; ++k) {
    uint32_t left[4], right[4];
    load_left<kSize>(left, left_tile, left_row, k * 16, lane);
    load_right<kSize>(right, right_tile, right_row, k * 16, lane);
    multiply_add<T>(sums[0], left, right[0], right[1]);
    multiply_add<T>(sums[1], left, right[2], right[3]);
  }
}

/// sums += 16 rows of `left` · (64 rows of `right`)ᵀ, over kSize columns from k0 on.
template <class T, int kCols, int kSize>
__device__ __forceinline__ void add_row_products(float (&sums)[8][4], uint32_t left_tile, int left_row,
                                                 uint32_t right_tile, int k0, int lane) {
#pragma unroll
  for (int k = 0; k < kSize; k += 16) {
    uint32_t left[4];
    load_left<kCols>(left, left_tile, left_row, k0 + k, lane);
#pragma unroll
    for (int n = 0; n < 8; n += 2) {
      uint32_t right[4];
      load_right<kCols>(right, right_tile, n * 8, k0 + k, lane);
      multiply_add<T>(sums[n], left, right[0], right[1]);
      multiply_add<T>(sums[n + 1], left, right[2], right[3]);
    }
  }
}

/// sums += left · 16 rows of a tile, from row k0 on.
template <class T, int kCols>
__device__ __forceinline__ void add_products(float (&sums)[kCols / 8][4], const uint32_t (&left)[4],
                                             uint32_t tile, int k0, int lane) {
#pragma unroll
  for (int n = 0; n < kCols / 8; n += 2) {
    uint32_t right[4];
    load_right_transposed<kCols>(right, tile, n * 8, k0, lane);
    multiply_add<T>(sums[n], left, right[0], right[1]);
    multiply_add<T>(sums[n + 1], left, right[2], right[3]);
  }
}

/// The pair of elements at columns 8·tile + 2·(lane % 4) of a row of a tile.
template <class T, int kCols>
__device__ __forceinline__ float2 load_pair(uint32_t tile, int row, int piece, int quad_lane) {
  uint32_t v;
  asm volatile("ld.shared.u32 %0, [%1];"
               : "=r"(v)
               : "r"(tile_address<kCols>(tile, row, piece) + quad_lane * 4));
  return unpack_pair<T>(v);
}

/// r[q] of quad lane t holds columns 2t, 2t+1 of the 8-column tile q; returns tile t's columns in order.
__device__ __forceinline__ uint4 transpose_quad(uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3,
                                                int lane) {
  const bool odd = lane & 1, high = lane & 2;
  const uint32_t s0 = __shfl_xor_sync(~0u, odd ? r0 : r1, 1), s1 = __shfl_xor_sync(~0u, odd ? r2 : r3, 1);
  const uint32_t a0 = odd ? s0 : r0, a1 = odd ? r1 : s0, b0 = odd ? s1 : r2, b1 = odd ? r3 : s1;
  const uint32_t u0 = __shfl_xor_sync(~0u, high ? a0 : b0, 2), u1 = __shfl_xor_sync(~0u, high ? a1 : b1, 2);
  return high ? uint4{u0, u1, b0, b1} : uint4{a0, a1, u0, u1};
}

/// Columns 8 (lane % 4)… of a token's output, and 32 behind them.
struct SsdOutputRow {
  uint4 low, high;
};
/// sums + D x of token i, whose sums are elements 2r and 2r + 1; x of a head (tokens, 64).
template <class T>
__device__ __forceinline__ SsdOutputRow finish_output(const float (&sums)[8][4], int r, uint32_t tile_x,
                                                      int i, float skip, int lane) {
  uint4 packed[2];
#pragma unroll
  for (int n = 0; n < 8; n += 4) {
    uint32_t pairs[4];
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const float2 own = load_pair<T, 64>(tile_x, i, n + q, lane % 4);
      pairs[q] = pack_pair<T>(sums[n + q][2 * r] + skip * own.x, sums[n + q][2 * r + 1] + skip * own.y);
    }
    packed[n / 4] = transpose_quad(pairs[0], pairs[1], pairs[2], pairs[3], lane);
  }
  return {packed[0], packed[1]};
}

__device__ __forceinline__ float sum_quad(float v) {
  v += __shfl_xor_sync(~0u, v, 1);
  return v + __shfl_xor_sync(~0u, v, 2);
}
__device__ __forceinline__ float sum_warp(float v) {
#pragma unroll
  for (int step = 16; step; step /= 2) v += __shfl_xor_sync(~0u, v, step);
  return v;
}

}  // namespace exactmamba::ops
