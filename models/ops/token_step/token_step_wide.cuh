// Products of many sequences on the warpgroups of sm_90a: a cluster of blocks has the outputs of 64 sequences
// × 64 rows and splits the inner dimension, so that inputs and weights pass the second-level cache seldom.
// Weights are under way into shared memory before the previous kernel has ended. A block finishes its part of
// the sequences, whose sums all blocks of the cluster send to it.
#pragma once

#include "models/ops/cuda/cluster.cuh"
#include "models/ops/cuda/warpgroup.cuh"
#include "models/ops/token_step/token_step_product.cuh"

namespace exactmamba::ops {
namespace {

/// Of a block: its first warpgroup multiplies tiles of 64 columns, all warps copy and finish.
constexpr int kWarpgroup = 4, kWideSequences = 64, kWideRows = 64, kWideColumns = 64,
              kWideTileBytes = 2 * kWideRows * kWideColumns;

/// 64 rows of a matrix (rows, inner), which kThreads threads copy into tiles; zeros beyond its borders.
template <class T, int kThreads>
class WideOperand {
 public:
  __device__ __forceinline__ WideOperand(const T* matrix, int first_row, int64_t rows, int64_t inner) {
    const int row = threadIdx.x / kPieces, piece = threadIdx.x % kPieces;
    columns_ = static_cast<int>(inner) - 8 * piece;
    rows_ = static_cast<int>(rows) - first_row - row;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass)
      from_[pass] = made_early(matrix + (first_row + row + pass * kAtOnce) * inner + 8 * piece);
    place_ = tile_address<kWideColumns>(0, row, piece);
  }
  /// Nothing is read where zeros are wanted.
  __device__ __forceinline__ void copy(uint32_t tile, int column) const {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass)
      copy_async_or_zero(tile + place_ + pass * kAtOnce * 128, from_[pass] + column,
                         pass * kAtOnce < rows_ && column < columns_);
  }

 private:
  static constexpr int kPieces = kWideColumns / 8, kAtOnce = kThreads / kPieces,
                       kPasses = kWideRows / kAtOnce;
  static_assert(kAtOnce % 8 == 0 && kWideRows % kAtOnce == 0);

  const T* from_[kPasses];
  int columns_, rows_;
  uint32_t place_;
};

/// A cluster of kSplit blocks, each of which takes kTiles tiles of columns at once and finishes kMine
/// sequences. Its sums take the place of the weights, those that the blocks send each other of the inputs.
template <int kSplitOf, int kTilesOf, int kThreadsOf>
struct WideShape {
  static constexpr int kSplit = kSplitOf, kTiles = kTilesOf, kThreads = kThreadsOf,
                       kColumns = kTiles * kWideColumns, kMine = kWideSequences / kSplit,
                       kStride = kWideRows + 8, kPart = kMine * kStride,
                       kOperandBytes = kTiles * kWideTileBytes, kShared = 2 * kOperandBytes,
                       kPer = kThreads / kWideRows, kPasses = kMine / kPer;
  static_assert(4 * kSplit * kPart <= kOperandBytes);
};

/// Writes the warpgroup's sums as (sequences, kStride).
template <int kStride>
__device__ __forceinline__ void store_wide_sums(const float (&sums)[8][4], float* to) {
  to += threadIdx.x / 4 % 8 * kStride + threadIdx.x / 32 * 16 * kStride + threadIdx.x % 4 * 2;
#pragma unroll
  for (int n = 0; n < 8; ++n)
#pragma unroll
    for (int h = 0; h < 2; ++h)
      *reinterpret_cast<float2*>(to + 8 * h * kStride + 8 * n) =
          make_float2(sums[n][2 * h], sums[n][2 * h + 1]);
}

/// Starts copies of kTiles tiles from a column on.
template <int kTiles, class Operand>
__device__ __forceinline__ void copy_wide_tiles(const Operand& operand, uint32_t tiles, int first) {
#pragma unroll
  for (int t = 0; t < kTiles; ++t) operand.copy(tiles + t * kWideTileBytes, first + t * kWideColumns);
}

/// The first warpgroup's sums over the block's part of the inner dimension, from `begin` on and kColumns of
/// every `stride`. The first part of both operands is under way. At last no thread needs them any more.
template <class T, int kTiles, int kThreads>
__device__ __forceinline__ void multiply_wide_part(float (&sums)[8][4],
                                                   const WideOperand<T, kThreads>& inputs,
                                                   const WideOperand<T, kThreads>& weights, uint32_t tiles,
                                                   int begin, int inner, int stride) {
  constexpr int kBytes = kTiles * kWideTileBytes;
#pragma unroll 1
  for (int first = begin;;) {
    close_copies();
    wait_for_copies<0>();
    publish_copies();
    __syncthreads();
    if (warp_index() < kWarpgroup) {
      begin_products();
      const uint32_t left = wide_tile(tiles);
      multiply_wide_rows<T, kTiles * kWideColumns, kWideSequences, kWideRows>(
          sums, left, left + wide_offset(kBytes), true);
      end_products();
      take_sums(sums);
    }
    __syncthreads();
    first += stride;
    if (first >= inner) break;
    copy_wide_tiles<kTiles>(weights, tiles + kBytes, first);
    copy_wide_tiles<kTiles>(inputs, tiles, first);
  }
}

template <class T, class Shape, class Finish>
__global__ void __launch_bounds__(wide_threads(Shape::kThreads), Shape::kThreads > 256 ? 2 : 3)
    step_wide_kernel(const __grid_constant__ StepProduct<T> p, const __grid_constant__ Finish finish) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kSplit = Shape::kSplit, kMine = Shape::kMine, kPer = Shape::kPer, kPasses = Shape::kPasses;
  extern __shared__ __align__(1024) unsigned char wide_memory[];  // inputs, weights
  __shared__ float factors[kMine];
  __shared__ CopyBarrier parts_are_here;
  const int rank = blockIdx.x % kSplit, first_b = blockIdx.x / kSplit * kWideSequences,
            first_row = blockIdx.y * kWideRows, batch = static_cast<int>(p.batch),
            begin = rank * Shape::kColumns;
  const uint32_t tiles = shared_address(wide_memory);
  const WideOperand<T, Shape::kThreads> weights(p.weight, first_row, p.rows, p.inner),
      inputs(p.x, first_b, p.batch, p.inner);
  copy_wide_tiles<Shape::kTiles>(weights, tiles + Shape::kOperandBytes, begin);
  if (threadIdx.x == 0) parts_are_here.init_for_cluster(4 * (kSplit - 1) * Shape::kPart);

  // Of the outputs a thread has one row, of every kPer-th of its block's sequences.
  const int own_row = threadIdx.x % kWideRows, row = first_row + own_row, own_b = threadIdx.x / kWideRows,
            first_mine = first_b + rank * kMine;
  const auto sequence = [&](int pass) { return first_mine + own_b + pass * kPer; };
  const auto is_output = [&](int pass) { return row < p.rows && sequence(pass) < batch; };
  typename Finish::Needs needs[kPasses];
  typename Finish::Row of_row = {};
  StepFactors<kMine, Shape::kThreads> norm(p.norm, first_mine, min(batch, first_mine + kMine));
  if (row < p.rows) finish.load_row(of_row, row);
#pragma unroll
  for (int k = 0; k < kPasses; ++k)
    if (is_output(k)) finish.load_constants(needs[k], sequence(k), row);
  const float bias = p.bias && row < p.rows ? to_float(p.bias[row]) : 0.0f;
  allow_dependent_launch();
  wait_for_previous_launch();

  copy_wide_tiles<Shape::kTiles>(inputs, tiles, begin);
  if (p.norm.squares) norm.load();
#pragma unroll
  for (int k = 0; k < kPasses; ++k)
    if (is_output(k)) finish.load_fresh(needs[k], sequence(k), row);
  float sums[8][4] = {};
  multiply_wide_part<T, Shape::kTiles, Shape::kThreads>(sums, inputs, weights, tiles, begin,
                                                        static_cast<int>(p.inner), kSplit * Shape::kColumns);
  // Every block sends the others their sequences' sums as soon as these do not need their inputs any more.
  arrive_at_cluster();
  auto *here = reinterpret_cast<float*>(wide_memory), *own = here + Shape::kOperandBytes / 4;
  if (warp_index() < kWarpgroup) store_wide_sums<Shape::kStride>(sums, own);
  if (p.norm.squares) norm.store(factors);
  publish_to_copies();
  __syncthreads();
  wait_for_cluster();
  if (threadIdx.x < kSplit && threadIdx.x != rank)
    copy_in_cluster(here + rank * Shape::kPart, own + threadIdx.x * Shape::kPart, 4 * Shape::kPart,
                    parts_are_here, threadIdx.x);
  parts_are_here.wait(0);
  arrive_at_cluster();
  float values[kPasses] = {};
#pragma unroll
  for (int r = 0; r < kSplit; ++r) {
    const float* part = (r == rank ? own : here) + r * Shape::kPart + own_b * Shape::kStride + own_row;
#pragma unroll
    for (int k = 0; k < kPasses; ++k) values[k] += part[k * kPer * Shape::kStride];
  }
#pragma unroll
  for (int k = 0; k < kPasses; ++k) {
    if (p.norm.squares) values[k] *= factors[own_b + k * kPer];
    finish.template operator()<32>(of_row, needs[k], sequence(k), row, values[k] + bias, is_output(k));
  }
  wait_for_cluster();  // nobody has to read this block's sums any more
#endif
}

template <class T, class Shape, class Finish>
cudaError_t run_step_wide(const StepProduct<T>& p, const Finish& finish) {
  const auto kernel = step_wide_kernel<T, Shape, Finish>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::kShared);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {Shape::kSplit, 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(Shape::kSplit * ceil_divide<int64_t>(p.batch, kWideSequences)),
                        static_cast<unsigned>(ceil_divide<int64_t>(p.rows, kWideRows)));
  config.blockDim = Shape::kThreads;
  config.dynamicSmemBytes = Shape::kShared;
  config.stream = p.stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  return cudaLaunchKernelEx(&config, kernel, p, finish);
}

}  // namespace
}  // namespace exactmamba::ops
