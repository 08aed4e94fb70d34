// Products of a warpgroup (4 warps) on the tensor cores of sm_90a: wgmma m64n64k16 and m64n32k16, sums in
// float. Operands in shared memory are tiles of 64 columns at multiples of 1024 bytes, rows of 128 bytes
// whose pieces of 16 are swapped. Each warp holds 16 rows of a product, as 8 or 4 tiles of m16n8. Elsewhere
// kHasWarpgroups is false and nothing of this may be called.
#pragma once

#include <cstdint>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <type_traits>

namespace exactmamba::ops {

/// Where asynchronous instructions know a place of shared memory.
__device__ __forceinline__ uint32_t shared_address(const void* place) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(place));
}

/// 16 bytes into shared memory, zeros where not `valid`.
__device__ __forceinline__ void copy_async_or_zero(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}

/// 16 bytes of shared memory.
__device__ __forceinline__ uint4 load_piece(uint32_t address) {
  uint4 piece;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(piece.x), "=r"(piece.y), "=r"(piece.z), "=r"(piece.w)
               : "r"(address)
               : "memory");
  return piece;
}
__device__ __forceinline__ void store_piece(uint32_t address, const uint4& piece) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(piece.x), "r"(piece.y),
               "r"(piece.z), "r"(piece.w)
               : "memory");
}

/// Where a piece of 8 columns of a row lies in a tile of kCols columns.
template <int kCols>
__device__ __forceinline__ uint32_t tile_address(uint32_t tile, int row, int piece) {
  return tile + row * (kCols * 2) + ((piece ^ (row & 7)) << 4);
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
inline constexpr bool kHasWarpgroups = true;
#else
inline constexpr bool kHasWarpgroups = false;
#endif

/// Threads of a block of a kernel that is empty where there are no warpgroups.
constexpr int wide_threads(int threads) { return kHasWarpgroups ? threads : 32; }
/// Finds out whether the device's code of such a kernel is not empty.
template <class Kernel>
cudaError_t find_wide(Kernel kernel, bool& wide) {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
  wide = error == cudaSuccess && attributes.maxThreadsPerBlock > 32;
  return error;
}

/// This thread's warp of the block, known to be the same in all its lanes.
__device__ __forceinline__ int warp_index() { return __shfl_sync(~0u, threadIdx.x / 32, 0); }

/// A tile at `address`, or rows and columns of it, as the low word of what wgmma is told; `bytes` further on
/// it is wide_offset(bytes) more. The high word says: swizzled in 128 bytes, 1024 from 8 rows to the next 8.
__device__ __forceinline__ uint32_t wide_tile(uint32_t address) {
  return 1u << 16 | (address & 0x3ffff) >> 4;
}
__device__ constexpr uint32_t wide_offset(int bytes) { return bytes / 16; }

/// Shows wgmma what this thread copied or stored: after the wait for copies, before the barrier.
__device__ __forceinline__ void publish_copies() {
  if constexpr (kHasWarpgroups) asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Around products: their registers are written before, and read only after wait_products and take_sums.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most `kPending` of the newest groups of products are under way.
template <int kPending>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
__device__ __forceinline__ void end_products() {
  commit_products();
  wait_products<0>();
}
/// Keeps the compiler from moving uses of the registers across.
template <int kTiles>
__device__ __forceinline__ void take_sums(float (&sums)[kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int k = 0; k < 4; ++k) asm volatile("" : "+f"(sums[n][k])::"memory");
}

#define EXACTMAMBA_SUMS(n) "+f"(sums[n][0]), "+f"(sums[n][1]), "+f"(sums[n][2]), "+f"(sums[n][3])
#define EXACTMAMBA_WGMMA(types, tiles, operands, ...)                                                        \
  asm volatile(                                                                                              \
      "{\n.reg .pred adds;\n.reg .b64 left, right;\nsetp.ne.b32 adds, %32, 0;\n" tiles                       \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." types                                                    \
      " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26," \
      "%27,%28,%29,%30,%31}, " operands ";\n}"                                                               \
      : EXACTMAMBA_SUMS(0), EXACTMAMBA_SUMS(1), EXACTMAMBA_SUMS(2), EXACTMAMBA_SUMS(3), EXACTMAMBA_SUMS(4),  \
        EXACTMAMBA_SUMS(5), EXACTMAMBA_SUMS(6), EXACTMAMBA_SUMS(7)                                           \
      : "r"(static_cast<int>(adds)), "r"(right), "n"(1 << 30 | 1024 / 16), __VA_ARGS__)

/// sums (+)= 64 × 16 of a tile stored [m][k] · 16 × 64 of one stored [n][k], or [k][n] (`kByColumns`).
template <class T, bool kByColumns>
__device__ __forceinline__ void multiply_wide(float (&sums)[8][4], uint32_t left, uint32_t right, bool adds) {
#define EXACTMAMBA_TILES "mov.b64 left, {%35, %34};\nmov.b64 right, {%33, %34};\n"
  if constexpr (std::is_same_v<T, __half>)
    EXACTMAMBA_WGMMA("f16.f16", EXACTMAMBA_TILES, "left, right, adds, 1, 1, 0, %36", "r"(left),
                     "n"(kByColumns ? 1 : 0));
  else
    EXACTMAMBA_WGMMA("bf16.bf16", EXACTMAMBA_TILES, "left, right, adds, 1, 1, 0, %36", "r"(left),
                     "n"(kByColumns ? 1 : 0));
#undef EXACTMAMBA_TILES
}

/// sums (+)= 64 × 16 in registers, as load_left gives them · 16 × 64 of a tile stored [k][n], or [n][k].
template <class T, bool kByColumns = true>
__device__ __forceinline__ void multiply_wide(float (&sums)[8][4], const uint32_t (&left)[4], uint32_t right,
                                              bool adds) {
#define EXACTMAMBA_TILES "mov.b64 right, {%33, %34};\n"
  if constexpr (std::is_same_v<T, __half>)
    EXACTMAMBA_WGMMA("f16.f16", EXACTMAMBA_TILES, "{%35,%36,%37,%38}, right, adds, 1, 1, %39", "r"(left[0]),
                     "r"(left[1]), "r"(left[2]), "r"(left[3]), "n"(kByColumns ? 1 : 0));
  else
    EXACTMAMBA_WGMMA("bf16.bf16", EXACTMAMBA_TILES, "{%35,%36,%37,%38}, right, adds, 1, 1, %39", "r"(left[0]),
                     "r"(left[1]), "r"(left[2]), "r"(left[3]), "n"(kByColumns ? 1 : 0));
#undef EXACTMAMBA_TILES
}

#undef EXACTMAMBA_WGMMA

#define EXACTMAMBA_WGMMA(types, tiles, operands, ...)                                                  \
  asm volatile("{\n.reg .b64 left, right;\n" tiles "wgmma.mma_async.sync.aligned.m64n32k16.f32." types \
               " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, " operands ";\n}"            \
               : EXACTMAMBA_SUMS(0), EXACTMAMBA_SUMS(1), EXACTMAMBA_SUMS(2), EXACTMAMBA_SUMS(3)        \
               : "r"(right), "n"(1 << 30 | 1024 / 16), __VA_ARGS__)

/// sums += 64 × 16 of a tile stored [m][k], or [k][m] (`kByColumns`) · 16 × 32 of one stored [n][k].
template <class T, bool kByColumns>
__device__ __forceinline__ void multiply_narrow(float (&sums)[4][4], uint32_t left, uint32_t right) {
#define EXACTMAMBA_TILES "mov.b64 left, {%18, %17};\nmov.b64 right, {%16, %17};\n"
  if constexpr (std::is_same_v<T, __half>)
    EXACTMAMBA_WGMMA("f16.f16", EXACTMAMBA_TILES, "left, right, 1, 1, 1, %19, 0", "r"(left),
                     "n"(kByColumns ? 1 : 0));
  else
    EXACTMAMBA_WGMMA("bf16.bf16", EXACTMAMBA_TILES, "left, right, 1, 1, 1, %19, 0", "r"(left),
                     "n"(kByColumns ? 1 : 0));
#undef EXACTMAMBA_TILES
}

/// sums += 64 × 16 in registers · 16 × 32 of a tile stored [k][n].
template <class T>
__device__ __forceinline__ void multiply_narrow(float (&sums)[4][4], const uint32_t (&left)[4],
                                                uint32_t right) {
#define EXACTMAMBA_TILES "mov.b64 right, {%16, %17};\n"
  if constexpr (std::is_same_v<T, __half>)
    EXACTMAMBA_WGMMA("f16.f16", EXACTMAMBA_TILES, "{%18,%19,%20,%21}, right, 1, 1, 1, 1", "r"(left[0]),
                     "r"(left[1]), "r"(left[2]), "r"(left[3]));
  else
    EXACTMAMBA_WGMMA("bf16.bf16", EXACTMAMBA_TILES, "{%18,%19,%20,%21}, right, 1, 1, 1, 1", "r"(left[0]),
                     "r"(left[1]), "r"(left[2]), "r"(left[3]));
#undef EXACTMAMBA_TILES
}

#undef EXACTMAMBA_WGMMA
#undef EXACTMAMBA_SUMS

/// sums (+)= 64 rows · (64 rows)ᵀ over kCols columns, of matrices with kLeftRows and kRightRows rows as
/// tiles of 64 columns, one behind the other. Between begin_products and end_products.
template <class T, int kCols, int kLeftRows, int kRightRows>
__device__ __forceinline__ void multiply_wide_rows(float (&sums)[8][4], uint32_t left, uint32_t right,
                                                   bool adds) {
#pragma unroll
  for (int k = 0; k < kCols / 16; ++k)
    multiply_wide<T, false>(sums, left + wide_offset(k / 4 * (kLeftRows * 128) + k % 4 * 32),
                            right + wide_offset(k / 4 * (kRightRows * 128) + k % 4 * 32), adds || k > 0);
}

}  // namespace exactmamba::ops
