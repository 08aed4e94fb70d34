// Positions are sorted by token, stably. The sorted positions are cut into pieces of a fixed size: a run of
// one token inside a piece is added to its row at once, a run that crosses pieces leaves a partial sum per
// piece, and a second kernel adds those up. Thus a token that fills the batch is as parallel as any other,
// and the order of every sum is fixed by the tokens alone.
#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "models/ops/cuda/device_pack.cuh"
#include "models/ops/cuda/launch.h"
#include "models/ops/embedding_gradient/embedding_gradient_cuda_params.h"

namespace exactmamba::ops {
namespace {

constexpr int kPiece = 32;  // sorted positions of a piece: one per lane
constexpr int kWarps = 8;   // of a block
constexpr int kRowsInFlight = 8;

/// The parts of the workspace.
struct Buffers {
  uint32_t *keys = nullptr, *sorted_keys = nullptr;
  int32_t *positions = nullptr, *sorted_positions = nullptr;
  float *heads = nullptr, *tails = nullptr;  // (pieces, d): sums of a piece's first and last run
  void* sort_storage = nullptr;
  size_t sort_bytes = 0, total_bytes = 0;
};

int pieces_of(int64_t count) { return static_cast<int>(ceil_divide<int64_t>(count, kPiece)); }
int key_bits(int64_t vocabulary) { return std::bit_width(static_cast<uint64_t>(vocabulary)); }

cudaError_t sort(const EmbeddingGradientCudaParams& params, Buffers& buffers) {
  return cub::DeviceRadixSort::SortPairs(buffers.sort_storage, buffers.sort_bytes, buffers.keys,
                                         buffers.sorted_keys, buffers.positions, buffers.sorted_positions,
                                         static_cast<int>(params.count), 0, key_bits(params.vocabulary),
                                         params.stream);
}

cudaError_t lay_out(const EmbeddingGradientCudaParams& params, Buffers& buffers) {
  if (const cudaError_t error = sort(params, buffers)) return error;
  auto* next = static_cast<unsigned char*>(params.workspace);
  const auto take = [&]<class T>(T*& pointer, size_t bytes) {
    if (params.workspace) pointer = reinterpret_cast<T*>(next + buffers.total_bytes);
    buffers.total_bytes += ceil_divide<size_t>(bytes, 256) * 256;
  };
  const size_t list = sizeof(int32_t) * params.count,
               sums = sizeof(float) * pieces_of(params.count) * params.size;
  take(buffers.keys, list);
  take(buffers.sorted_keys, list);
  take(buffers.positions, list);
  take(buffers.sorted_positions, list);
  take(buffers.heads, sums);
  take(buffers.tails, sums);
  if (params.workspace) buffers.sort_storage = next + buffers.total_bytes;
  buffers.total_bytes += buffers.sort_bytes;
  return cudaSuccess;
}

/// Tokens outside the vocabulary become the key V, which is skipped.
__global__ void make_keys_kernel(const __grid_constant__ EmbeddingGradientCudaParams params, uint32_t* keys,
                                 int32_t* positions) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= params.count) return;
  const int64_t token = params.tokens[i];
  keys[i] = static_cast<uint32_t>(token >= 0 && token < params.vocabulary ? token : params.vocabulary);
  positions[i] = static_cast<int32_t>(i);
}

template <int kVector>
__device__ void add_to(float* to, const float (&sums)[kVector]) {
  float values[kVector];
  load_floats(to, values);
#pragma unroll
  for (int v = 0; v < kVector; ++v) values[v] += sums[v];
  store_floats(to, values);
}

/// A warp per piece and 32 · kVector columns.
template <int kVector>
__global__ void __launch_bounds__(32 * kWarps)
    sum_pieces_kernel(const __grid_constant__ EmbeddingGradientCudaParams params,
                      const __grid_constant__ Buffers buffers, const int column_blocks) {
  const int64_t unit = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32, piece = unit / column_blocks;
  const int lane = threadIdx.x % 32,
            column = (static_cast<int>(unit - piece * column_blocks) * 32 + lane) * kVector;
  const int64_t begin = piece * kPiece;
  if (begin >= params.count) return;
  const int count = static_cast<int>(min(int64_t(kPiece), params.count - begin));
  const auto vocabulary = static_cast<uint32_t>(params.vocabulary);
  const uint32_t key = lane < count ? buffers.sorted_keys[begin + lane] : vocabulary;
  const int32_t position = lane < count ? buffers.sorted_positions[begin + lane] : 0;
  const uint32_t before = begin > 0 ? buffers.sorted_keys[begin - 1] : ~0u,
                 behind = begin + count < params.count ? buffers.sorted_keys[begin + count] : ~0u;
  // Bit i: entry i is the last of its run within the piece.
  const uint32_t next_key = __shfl_down_sync(~0u, key, 1);
  const unsigned ends = __ballot_sync(~0u, lane == count - 1 || (lane < count - 1 && key != next_key));
  const bool has_column = column < params.size;

  float sums[kVector] = {};
  bool starts_here = __shfl_sync(~0u, key, 0) != before;  // the current run
  for (int base = 0; base < count; base += kRowsInFlight) {
    float rows[kRowsInFlight][kVector];
#pragma unroll
    for (int i = 0; i < kRowsInFlight; ++i) {
      const int64_t row = __shfl_sync(~0u, position, (base + i) % 32);
      const uint32_t row_key = __shfl_sync(~0u, key, (base + i) % 32);
      if (base + i < count && has_column && row_key != vocabulary)
        load_floats(params.grad_out + row * params.size + column, rows[i]);
      else
#pragma unroll
        for (int v = 0; v < kVector; ++v) rows[i][v] = 0;
    }
#pragma unroll
    for (int i = 0; i < kRowsInFlight; ++i) {
      if (base + i >= count) break;
#pragma unroll
      for (int v = 0; v < kVector; ++v) sums[v] += rows[i][v];
      if (!(ends >> (base + i) & 1)) continue;
      const uint32_t run_key = __shfl_sync(~0u, key, base + i);
      const bool ends_here = base + i < count - 1 || run_key != behind;
      if (has_column && run_key != vocabulary) {
        if (starts_here && ends_here)
          add_to(params.grad_weight + int64_t(run_key) * params.size + column, sums);
        else
          store_floats((starts_here ? buffers.tails : buffers.heads) + piece * params.size + column, sums);
      }
      starts_here = true;
#pragma unroll
      for (int v = 0; v < kVector; ++v) sums[v] = 0;
    }
  }
}

/// A block per piece and 32 · kVector columns: where a run starts in this piece and goes on behind it, adds
/// its partial sums.
template <int kVector>
__global__ void __launch_bounds__(32 * kWarps)
    join_pieces_kernel(const __grid_constant__ EmbeddingGradientCudaParams params,
                       const __grid_constant__ Buffers buffers, const int pieces) {
  const int64_t piece = blockIdx.x, begin = piece * kPiece, end = begin + kPiece;
  const uint32_t* keys = buffers.sorted_keys;
  if (end >= params.count) return;
  const uint32_t key = keys[end - 1];
  if (key >= params.vocabulary || keys[end] != key || (begin > 0 && keys[begin - 1] == key)) return;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  // The pieces behind this one that begin with the key.
  int64_t last = piece + 1, above = pieces;
  while (above - last > 1) {
    const int64_t stride = (above - last + 31) / 32, probe = last + lane * stride;
    const unsigned same = __ballot_sync(~0u, probe < above && keys[probe * kPiece] == key);
    last += (__popc(same) - 1) * stride;
    above = min(last + stride, above);
  }
  const int64_t column = (int64_t(blockIdx.y) * 32 + lane) * kVector;
  __shared__ float totals[kWarps][32 * kVector];
  float sums[kVector] = {};
  if (column < params.size) {
    if (warp == 0) load_floats(buffers.tails + piece * params.size + column, sums);
#pragma unroll 8
    for (int64_t p = piece + 1 + warp; p <= last; p += kWarps) {
      float partial[kVector];
      load_floats(buffers.heads + p * params.size + column, partial);
#pragma unroll
      for (int v = 0; v < kVector; ++v) sums[v] += partial[v];
    }
  }
#pragma unroll
  for (int v = 0; v < kVector; ++v) totals[warp][lane * kVector + v] = sums[v];
  __syncthreads();
  if (warp > 0 || column >= params.size) return;
  for (int w = 1; w < kWarps; ++w)
#pragma unroll
    for (int v = 0; v < kVector; ++v) sums[v] += totals[w][lane * kVector + v];
  add_to(params.grad_weight + int64_t(key) * params.size + column, sums);
}

template <int kVector>
void launch_sums(const EmbeddingGradientCudaParams& params, const Buffers& buffers) {
  const int pieces = pieces_of(params.count);
  const auto column_blocks = static_cast<unsigned>(ceil_divide<int64_t>(params.size, 32 * kVector));
  const auto blocks = static_cast<unsigned>(ceil_divide<int64_t>(int64_t(pieces) * column_blocks, kWarps));
  sum_pieces_kernel<kVector><<<blocks, 32 * kWarps, 0, params.stream>>>(params, buffers, column_blocks);
  join_pieces_kernel<kVector>
      <<<dim3(pieces, column_blocks), 32 * kWarps, 0, params.stream>>>(params, buffers, pieces);
}

}  // namespace

size_t embedding_gradient_workspace(const EmbeddingGradientCudaParams& params) {
  Buffers buffers;
  EmbeddingGradientCudaParams sizes = params;
  sizes.workspace = nullptr;
  return lay_out(sizes, buffers) == cudaSuccess ? buffers.total_bytes : 0;
}

cudaError_t launch_embedding_gradient(const EmbeddingGradientCudaParams& params) {
  if (params.count == 0 || params.size == 0) return cudaSuccess;
  if (params.count >= (int64_t(1) << 31) || params.vocabulary >= (int64_t(1) << 31))
    return cudaErrorInvalidValue;
  Buffers buffers;
  if (const cudaError_t error = lay_out(params, buffers)) return error;
  constexpr int kThreads = 256;
  make_keys_kernel<<<static_cast<unsigned>(ceil_divide<int64_t>(params.count, kThreads)), kThreads, 0,
                     params.stream>>>(params, buffers.keys, buffers.positions);
  if (const cudaError_t error = sort(params, buffers)) return error;
  const bool packs =
      params.size % 4 == 0 && is_aligned(params.grad_out, 16) && is_aligned(params.grad_weight, 16);
  packs ? launch_sums<4>(params, buffers) : launch_sums<1>(params, buffers);
  return cudaGetLastError();
}

}  // namespace exactmamba::ops
