// Tiles of matrices that the copy engine brings into shared memory as wgmma reads them (sm_90 and newer).
#pragma once

#include <cuda.h>
#include <type_traits>

#include "models/ops/cuda/bulk_copy.cuh"
#include "models/ops/rows.h"

namespace exactmamba::ops {

/// What the copy engine is told of rows of 16-bit elements. Outside of them it copies zeros.
struct TensorTiles {
  CUtensorMap map;
};

/// For tiles of kTileTokens tokens and 64 columns of `rows`, which have `columns` and are 16-byte aligned.
template <int kTileTokens, class T>
cudaError_t describe_tiles(TensorTiles& tiles, const Rows<T>& rows, int64_t batch, int64_t columns) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found;
    cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
    return reinterpret_cast<Encode>(function);
  }();
  if (!encode) return cudaErrorNotSupported;
  const int64_t batch_stride = batch > 1 ? rows.batch_stride : rows.length * rows.token_stride;
  const cuuint64_t sizes[] = {cuuint64_t(columns), cuuint64_t(rows.length), cuuint64_t(batch)},
                   strides[] = {2 * cuuint64_t(rows.token_stride), 2 * cuuint64_t(batch_stride)};
  const cuuint32_t tile[] = {64, kTileTokens, 1}, steps[] = {1, 1, 1};
  const CUresult result =
      encode(&tiles.map,
             std::is_same_v<std::remove_const_t<T>, __half> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                            : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
             3, const_cast<std::remove_const_t<T>*>(rows.data), sizes, strides, tile, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

#if __CUDA_ARCH__ >= 900

/// Starts the copy of one tile; its bytes count in a phase of `barrier`.
__device__ __forceinline__ void copy_tile(uint32_t to, const TensorTiles& from, int column, int token,
                                          int row, CopyBarrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, "
      "%4}], [%5];" ::"r"(to),
      "l"(&from.map), "r"(column), "r"(token), "r"(row), "r"(shared_address(&barrier))
      : "memory");
}

/// Asks for a tile to come into the second-level cache.
__device__ __forceinline__ void prefetch_tile(const TensorTiles& from, int column, int token, int row) {
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global.tile [%0, {%1, %2, %3}];" ::"l"(&from.map),
               "r"(column), "r"(token), "r"(row)
               : "memory");
}

#endif

}  // namespace exactmamba::ops
