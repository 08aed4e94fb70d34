// Products of many sequences (sm_90 and newer): a cluster of blocks has the outputs of 64 sequences × kRows
// rows and splits the inner dimension, so that inputs and weights pass the second-level cache seldom. A
// block's part of the weights waits in registers for the previous kernel to end, the inputs' part is copied
// into shared memory. Sums are sent to the block of the cluster whose sequences they are of.
#pragma once

#include "models/ops/cuda/bulk_copy.cuh"
#include "models/ops/token_step/token_step_product.cuh"

namespace exactmamba::ops {
namespace {

constexpr int kManySequences = 64;

/// Whether the kernel's code was compiled for sm_90 or newer: such a GPU also runs older code, which lacks
/// what these kernels are made of.
template <class... Parameters>
bool is_built_for_clusters(void (*kernel)(Parameters...)) {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)) == cudaSuccess &&
         attributes.ptxVersion >= 90;
}

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void arrive_at_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void wait_for_cluster() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
/// To the same place of another block of the cluster.
__device__ __forceinline__ void store_in_cluster(float* place, unsigned rank, float4 value) {
  uint32_t address;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(address)
               : "r"(shared_address(place)), "r"(rank));
  asm volatile("st.shared::cluster.v4.f32 [%0], {%1,%2,%3,%4};" ::"r"(address), "f"(value.x), "f"(value.y),
               "f"(value.z), "f"(value.w)
               : "memory");
}
/// 16 bytes into shared memory, zeros without a source.
__device__ __forceinline__ void copy_piece(void* to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(valid ? 16 : 0)
               : "memory");
}
#endif

/// Warps are kGroups of kTiles · 8 rows; those of a group split the block's kColumns of the inner dimension.
template <int kTilesOf, int kGroupsOf, int kSplitOf, int kColumnsOf, int kWarps, int kBlocksOf>
struct ManyShape {
  static constexpr int kTiles = kTilesOf, kGroups = kGroupsOf, kSplit = kSplitOf, kColumns = kColumnsOf,
                       kBlocks = kBlocksOf, kThreads = 32 * kWarps, kRows = 8 * kTiles * kGroups,
                       kSlices = kWarps / kGroups, kSliceColumns = kColumns / kSlices,
                       kSteps = kSliceColumns / 32, kRowBytes = 2 * kColumns + 64,
                       kMine = kManySequences / kSplit, kSumStride = kRows + 4,
                       kInputBytes = kManySequences * kRowBytes,
                       kSumBytes = kSlices * kManySequences * kSumStride * 4,
                       kUnionBytes = kInputBytes > kSumBytes ? kInputBytes : kSumBytes,
                       kSentBytes = kManySequences * kRows * 4,
                       kShared = kUnionBytes + kSentBytes + kMine * 4;

  static dim3 grid(int64_t batch, int64_t rows) {
    return dim3(static_cast<unsigned>(kSplit * ceil_divide<int64_t>(batch, kManySequences)),
                static_cast<unsigned>(ceil_divide<int64_t>(rows, kRows)));
  }
  static int64_t blocks(int64_t batch, int64_t rows) {
    const dim3 all = grid(batch, rows);
    return int64_t(all.x) * all.y;
  }
};

template <class T, class Shape, class Finish>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    step_many_kernel(const __grid_constant__ StepProduct<T> p, const __grid_constant__ Finish finish) {
#if __CUDA_ARCH__ >= 900
  constexpr int kTiles = Shape::kTiles, kRows = Shape::kRows, kSplit = Shape::kSplit, kMine = Shape::kMine,
                kSteps = Shape::kSteps, kColumns = Shape::kColumns, kRowBytes = Shape::kRowBytes,
                kSlices = Shape::kSlices, kStride = Shape::kSumStride, kFours = kRows / 4,
                kThreads = Shape::kThreads;
  extern __shared__ __align__(128) unsigned char many_memory[];
  unsigned char* inputs = many_memory;                  // (sequences, kRowBytes)
  float* sums = reinterpret_cast<float*>(many_memory);  // (slices, sequences, kStride), later
  float* sent = reinterpret_cast<float*>(many_memory + Shape::kUnionBytes);  // (split, mine, kRows)
  float* factors = sent + kManySequences * kRows;                            // (mine)
  const int rank = blockIdx.x % kSplit, first_b = blockIdx.x / kSplit * kManySequences,
            lane = threadIdx.x % 32, warp = threadIdx.x / 32, inner = static_cast<int>(p.inner),
            batch = static_cast<int>(p.batch), first_row = blockIdx.y * kRows,
            rows = min(kRows, static_cast<int>(p.rows) - first_row), group = warp % Shape::kGroups,
            slice = warp / Shape::kGroups, group_row = 8 * kTiles * group, quad = lane / 4;
  uint4 weights[kTiles][kSteps];
  const auto load_weights = [&](int begin) {
    const int at = begin + slice * Shape::kSliceColumns + lane % 4 * 8;
    const T* from = p.weight + int64_t(first_row + group_row + quad) * inner + at;
#pragma unroll
    for (int t = 0; t < kTiles; ++t, from += 8 * inner) {
      const bool has_row = group_row + 8 * t + quad < rows;
#pragma unroll
      for (int s = 0; s < kSteps; ++s)
        weights[t][s] = has_row && at + 32 * s < inner ? load_once(from + 32 * s) : uint4{0, 0, 0, 0};
    }
  };
  const auto copy_inputs = [&](int begin) {
    constexpr int kPieces = kColumns / 8, kAtOnce = kThreads / kPieces;
    const int at = threadIdx.x % kPieces * 8, own = threadIdx.x / kPieces;
    const bool has_column = begin + at < inner;
    unsigned char* to = inputs + own * kRowBytes + 2 * at;
    const T* from = p.x + int64_t(first_b + own) * inner + begin + at;
#pragma unroll 2
    for (int b = own; b < kManySequences; b += kAtOnce, to += kAtOnce * kRowBytes, from += kAtOnce * inner) {
      const bool valid = has_column && first_b + b < batch;
      copy_piece(to, valid ? from : p.x, valid);
    }
    close_copies();
  };
  // Of the outputs a thread has one row, of every kPer-th of its block's sequences.
  constexpr int kPer = kThreads / kRows, kPasses = (kMine + kPer - 1) / kPer;
  const int mine_first = first_b + rank * kMine, own_row = threadIdx.x % kRows, own_b = threadIdx.x / kRows,
            row = first_row + own_row;
  const bool has_row = own_row < rows && own_b < kPer;
  const auto is_output = [&](int k) {
    return has_row && own_b + k * kPer < kMine && mine_first + own_b + k * kPer < batch;
  };
  load_weights(rank * kColumns);
  typename Finish::Needs needs[kPasses];
  typename Finish::Row of_row = {};
  if (has_row) finish.load_row(of_row, row);
#pragma unroll
  for (int k = 0; k < kPasses; ++k)
    if (is_output(k)) finish.load_constants(needs[k], mine_first + own_b + k * kPer, row);
  arrive_at_cluster();
  allow_dependent_launch();
  wait_for_previous_launch();

  copy_inputs(rank * kColumns);
  StepFactors<kMine> norm(p.norm, mine_first, p.norm.squares ? min(batch, mine_first + kMine) : 0);
#pragma unroll
  for (int k = 0; k < kPasses; ++k)
    if (is_output(k)) finish.load_fresh(needs[k], mine_first + own_b + k * kPer, row);
  float acc[4][kTiles][4] = {};
#pragma unroll 1
  for (int begin = rank * kColumns;;) {
    wait_for_copies<0>();
    __syncthreads();
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const unsigned char* at =
          inputs + quad * kRowBytes + 2 * (slice * Shape::kSliceColumns + 32 * s + lane % 4 * 8);
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        const uint4 upper = *reinterpret_cast<const uint4*>(at + 16 * m * kRowBytes),
                    lower = *reinterpret_cast<const uint4*>(at + (16 * m + 8) * kRowBytes);
        const uint32_t left[4] = {upper.x, lower.x, upper.y, lower.y},
                       right[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          multiply_add<T>(acc[m][t], left, weights[t][s].x, weights[t][s].y);
          multiply_add<T>(acc[m][t], right, weights[t][s].z, weights[t][s].w);
        }
      }
    }
    __syncthreads();
    begin += kSplit * kColumns;
    if (begin >= inner) break;
    load_weights(begin);
    copy_inputs(begin);
  }
  float* own_sums = sums + (slice * kManySequences + quad) * kStride + group_row + lane % 4 * 2;
#pragma unroll
  for (int m = 0; m < 4; ++m)
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        *reinterpret_cast<float2*>(own_sums + (16 * m + 8 * h) * kStride + 8 * t) =
            make_float2(acc[m][t][2 * h], acc[m][t][2 * h + 1]);
  norm.store(factors);
  __syncthreads();
  wait_for_cluster();  // all blocks are there to be sent sums
#pragma unroll
  for (int k = 0; k < (kManySequences * kFours + kThreads - 1) / kThreads; ++k) {
    const int i = threadIdx.x + k * kThreads, b = i / kFours, first = i % kFours * 4;
    if (b >= kManySequences) break;
    float4 sum = {0, 0, 0, 0};
#pragma unroll
    for (int s = 0; s < kSlices; ++s) {
      const float4 part = *reinterpret_cast<const float4*>(sums + (s * kManySequences + b) * kStride + first);
      sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
    }
    float* to = sent + (rank * kMine + b % kMine) * kRows + first;
    if (b / kMine == rank)
      *reinterpret_cast<float4*>(to) = sum;
    else
      store_in_cluster(to, b / kMine, sum);
  }
  arrive_at_cluster();
  wait_for_cluster();
  const float bias = p.bias && has_row ? to_float(p.bias[row]) : 0.0f;
#pragma unroll
  for (int k = 0; k < kPasses; ++k) {
    const int b = own_b + k * kPer;
    if (kPer * kRows != kThreads && b >= kMine) break;
    float value = 0;
#pragma unroll
    for (int r = 0; r < kSplit; ++r) value += sent[(r * kMine + b) * kRows + own_row];
    if (p.norm.squares) value *= factors[b];
    finish.template operator()<32>(of_row, needs[k], mine_first + b, row, value + bias, is_output(k));
  }
#endif
}

template <class T, class Shape, class Finish>
cudaError_t run_step_many(const StepProduct<T>& p, const Finish& finish) {
  const auto kernel = step_many_kernel<T, Shape, Finish>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::kShared);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {Shape::kSplit, 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = Shape::grid(p.batch, p.rows);
  config.blockDim = Shape::kThreads;
  config.dynamicSmemBytes = Shape::kShared;
  config.stream = p.stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  return cudaLaunchKernelEx(&config, kernel, p, finish);
}

}  // namespace
}  // namespace exactmamba::ops
