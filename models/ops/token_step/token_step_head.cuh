// The head of many sequences on the warpgroups of sm_90a: a block a multiprocessor keeps the inputs of 64
// sequences in shared memory and walks over its tiles of 64 rows of the vocabulary, whose weights come
// through a ring; of all its rows it keeps a sequence's best.
#pragma once

#include <algorithm>

#include "models/ops/token_step/token_step_candidate.cuh"
#include "models/ops/token_step/token_step_wide.cuh"

namespace exactmamba::ops {
namespace {

constexpr int kHeadThreads = 512, kHeadSlots = 8, kHeadMostTiles = 20;

/// Two sequences' best of the rows whose sums a lane holds, four neighbouring lanes a sequence.
class HeadChoice {
 public:
  template <class T>
  __device__ __forceinline__ void take(const float (&sums)[8][4], const StepHead<T>& p, int first_row,
                                       const float (&factors)[2]) {
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = first_row + 8 * n + threadIdx.x % 4 * 2 + i % 2;
        if (row >= p.vocab_size) continue;
        const float bias = p.product.bias ? to_float(p.product.bias[row]) : 0.0f;
        best_[i / 2].take_better(Candidate::of(fmaf(sums[n][i], factors[i / 2], bias), row));
      }
  }
  template <class T>
  __device__ __forceinline__ void store(const StepHead<T>& p, int first_b) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      best_[h].take_best_of_lanes<4>();
      const int64_t b = first_b + sequence(h), part = b * gridDim.x + blockIdx.x;
      if (b >= p.product.batch || threadIdx.x % 4 != 0) continue;
      p.best_value[part] = best_[h].value;
      p.best_token[part] = best_[h].token;
    }
  }
  static __device__ int sequence(int h) { return threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + 8 * h; }

 private:
  Candidate best_[2] = {Candidate::none(), Candidate::none()};
};

template <class T>
__global__ void __launch_bounds__(wide_threads(kHeadThreads), 1)
    step_head_kernel(const __grid_constant__ StepHead<T> p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char head_memory[];  // inputs; ring of weights
  __shared__ float all_factors[kWideSequences];
  const int inner = static_cast<int>(p.product.inner), tiles = ceil_divide(inner, kWideColumns),
            row_tiles = ceil_divide(static_cast<int>(p.product.rows), kWideRows),
            first_b = blockIdx.y * kWideSequences;
  const uint32_t inputs = shared_address(head_memory), ring = inputs + tiles * kWideTileBytes;
  const auto slot = [&](int step) { return ring + step % kHeadSlots * kWideTileBytes; };
  // The next tile of weights to ask for.
  int asked = 0, asked_row_tile = blockIdx.x, asked_tile = 0;
  const auto ask = [&] {
    if (asked_row_tile < row_tiles)
      WideOperand<T, kHeadThreads>(p.product.weight, asked_row_tile * kWideRows, p.product.rows,
                                   p.product.inner)
          .copy(slot(asked), asked_tile * kWideColumns);
    close_copies();
    ++asked;
    if (++asked_tile == tiles) asked_tile = 0, asked_row_tile += gridDim.x;
  };
  for (int i = 0; i < kHeadSlots - 1; ++i) ask();
  StepFactors<kWideSequences, kHeadThreads> norm(p.product.norm, first_b, static_cast<int>(p.product.batch));
  allow_dependent_launch();
  wait_for_previous_launch();

  const WideOperand<T, kHeadThreads> x(p.product.x, first_b, p.product.batch, p.product.inner);
  for (int t = 0; t < tiles; ++t) x.copy(inputs + t * kWideTileBytes, t * kWideColumns);
  close_copies();
  norm.load();
  norm.store(all_factors);
  wait_for_copies<0>();
  __syncthreads();
  const bool multiplies = warp_index() < kWarpgroup;
  float factors[2] = {1, 1}, sums[8][4] = {};
  if (multiplies && p.product.norm.squares)
#pragma unroll
    for (int h = 0; h < 2; ++h) factors[h] = all_factors[HeadChoice::sequence(h)];

  HeadChoice choice;
  int step = 0;
#pragma unroll 1
  for (int row_tile = blockIdx.x; row_tile < row_tiles; row_tile += gridDim.x) {
#pragma unroll 1
    for (int tile = 0; tile < tiles; ++tile, ++step) {
      wait_for_copies<kHeadSlots - 2>();
      publish_copies();
      __syncthreads();  // this step's weights are there, the last step's have been multiplied
      ask();
      if (!multiplies) continue;
      begin_products();
      multiply_wide_rows<T, kWideColumns, kWideSequences, kWideRows>(
          sums, wide_tile(inputs + tile * kWideTileBytes), wide_tile(slot(step)), tile > 0);
      end_products();
      take_sums(sums);
    }
    if (multiplies) choice.take(sums, p, row_tile * kWideRows, factors);
  }
  if (multiplies) choice.store(p, first_b);
#endif
}

/// Whether the inputs fit beside the ring.
inline bool fits_wide_head(int64_t inner) { return inner <= kHeadMostTiles * kWideColumns; }
inline int64_t wide_head_parts(int64_t rows) {
  return std::min<int64_t>(multiprocessors(), ceil_divide<int64_t>(rows, kWideRows));
}

template <class T>
cudaError_t run_step_head(const StepHead<T>& p) {
  const int64_t tiles = ceil_divide<int64_t>(p.product.inner, kWideColumns);
  const size_t shared = (tiles + kHeadSlots) * kWideTileBytes;
  const cudaError_t error = cudaFuncSetAttribute(
      step_head_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (error != cudaSuccess) return error;
  const dim3 blocks(static_cast<unsigned>(wide_head_parts(p.product.rows)),
                    static_cast<unsigned>(ceil_divide<int64_t>(p.product.batch, kWideSequences)));
  return launch_dependent(step_head_kernel<T>, blocks, kHeadThreads, shared, p.product.stream, p);
}

}  // namespace
}  // namespace exactmamba::ops
