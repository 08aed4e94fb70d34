// The gradients of B and C of ssd's backward pass (see ssd_backward_kernel.cuh), behind a walk that has made
// that of x, by warpgroups of sm_90a: ∂(CBᵀ), which nobody else needs then, is made on the way.
#pragma once

#include "models/ops/ssd/ssd_grad_pairs.cuh"

namespace exactmamba::ops {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// sums += (transposed) tile of ∂(CBᵀ) · keys.
template <class T, int N, bool kTransposed>
__device__ __forceinline__ void add_grad_products(float (&sums)[N / 8][4], uint32_t tile, uint32_t keys,
                                                  int warp, int lane) {
  uint32_t left[4][4];
#pragma unroll
  for (int k = 0; k < 4; ++k)
    if constexpr (kTransposed)
      load_left_transposed<64>(left[k], tile, warp * 16, k * 16, lane);
    else
      load_left<64>(left[k], tile, warp * 16, k * 16, lane);
  multiply_wide_columns<T, N>(sums, left, wide_tile(keys));
}

/// A head's share of the gradients of C, or of B, through the entering or the leaving state. `passes`:
/// whether the lane's tokens see it. `of_exponent`: as SsdGradientParts, without Δ.
template <class T, int N, bool kOfB>
__device__ __forceinline__ void add_head_keys(float (&sums)[N / 8][4], const SsdGradKeyStage<N>& stage,
                                              int half, uint32_t own_keys, const bool (&passes)[2],
                                              float (&of_exponent)[2], int row0, int quad) {
  float weights[2], scales[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int token = half * 64 + row0 + 8 * r;
    const float exponent = stage.cumulative[token];
    weights[r] = passes[r] ? fast_exp2(kOfB ? stage.cumulative[kSsdChunk - 1] - exponent : exponent) : 0.f;
    scales[r] = kOfB ? weights[r] * stage.delta[token] : weights[r];
    of_exponent[r] = 0;
  }
  const uint32_t values = wide_tile(kOfB ? stage.x : stage.grad_out),
                 state = wide_tile(kOfB ? stage.grad_state : stage.state);
#pragma unroll
  for (int columns = 0; columns < N / 64; ++columns) {
    float own[8][4];
    begin_products();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      multiply_wide<T, true>(own, values + wide_offset(k * 32),
                             state + wide_offset(columns * 8192 + k * 2048), k > 0);
    end_products();
    take_sums(own);
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float2 key = load_pair<T, 64>(own_keys + columns * 8192, row0 + 8 * r, n, quad);
        float* const sum = &sums[columns * 8 + n][2 * r];
        of_exponent[r] = fmaf(own[n][2 * r], key.x, fmaf(own[n][2 * r + 1], key.y, of_exponent[r]));
        sum[0] = fmaf(scales[r], own[n][2 * r], sum[0]);
        sum[1] = fmaf(scales[r], own[n][2 * r + 1], sum[1]);
      }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) of_exponent[r] = sum_quad(of_exponent[r]) * weights[r];
}

/// What a warpgroup does that makes the gradients of C, or of B.
template <class T, int N, bool kOfB>
__device__ __forceinline__ void run_grad_keys(const SsdGradKeyBlock<T, N>& b, int warp, int lane) {
  const int quad = lane % 4, row0 = warp * 16 + lane / 4;
  float sums[N / 8][4] = {};
  bool passes[2];
#pragma unroll
  for (int r = 0; r < 2; ++r)
    passes[r] = kOfB ? b.half * 64 + row0 + 8 * r >= b.chunk.tail : b.start_of(row0 + 8 * r) == 0;
  __syncthreads();  // the other keys are used
  for (int step = 0; step < b.count; ++step) {
    b.wait_for(step);
    const SsdGradKeyStage<N> stage = b.stage(step);
    if (kOfB ? b.has_grad_state : b.has_state) {
      float of_exponent[2];
      add_head_keys<T, N, kOfB>(sums, stage, b.half, kOfB ? b.keys_B() : b.keys_C(), passes, of_exponent,
                                row0, quad);
      float* const to = (kOfB ? b.a.parts.written : b.a.parts.read) + b.row(step) * kSsdChunk + b.half * 64;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int token = row0 + 8 * r;
        if (quad != 0) continue;
        if (kOfB) b.sums(step).written[token] = of_exponent[r];
        to[token] = of_exponent[r] * (kOfB ? stage.delta[b.half * 64 + token] : 1.f);
      }
    }
    b.leave(step);
  }
  __syncthreads();  // the stages are
  __syncthreads();  // ∂(CBᵀ) is there
  add_grad_products<T, N, !kOfB>(sums, b.near_tile(), kOfB ? b.keys_C() : b.keys_B(), warp, lane);
  if (b.has_far && b.half != kOfB) {
    b.filled_keys.wait(1);
    add_grad_products<T, N, false>(sums, b.far_tile(), b.other_keys(), warp, lane);
  }
  store_key_gradients<T, N>(b.a, sums, kOfB, b.chunk, b.half * 64 + row0, lane);
}

#endif

/// Grid: (2 · slots, groups, splits of a group's heads). A block makes the gradients of B and C of one half
/// of a chunk, and goes over the heads. Its warpgroups: the gradient of C; that of B; pairs (i, j) within the
/// half; pairs with the other half, of which the first half needs the sums over i, the second those over j.
template <class T, int N>
__global__ __launch_bounds__(wide_threads(SsdGradKeyWideTile<N>::kThreads), 1) void ssd_grad_key_wide_kernel(
    const __grid_constant__ SsdGradKeyWideArguments<T> arguments) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Tile = SsdGradKeyWideTile<N>;
  extern __shared__ __align__(1024) unsigned char shared[];
  __shared__ CopyBarrier filled_keys, filled[Tile::kStages];
  __shared__ PhaseBarrier emptied[Tile::kStages];
  const SsdGradKeyBlock<T, N> b{.arguments = arguments,
                                .shared = shared,
                                .filled_keys = filled_keys,
                                .filled = filled,
                                .emptied = emptied};
  if (b.half * 64 >= b.chunk.size) return;
  if (threadIdx.x == 0) filled_keys.init();
  if (threadIdx.x < Tile::kStages) {
    filled[threadIdx.x].init();
    emptied[threadIdx.x].init(Tile::kThreads / 32);
  }
  __syncthreads();
  const int part = warp_index() / 4, warp = warp_index() % 4, lane = threadIdx.x % 32;
  const bool fetches = part == 3 && warp == 3;
  if (fetches) {
    b.fetch_keys(lane);
    for (int step = 0; step < min(b.count, Tile::kStages - 1); ++step) b.fetch(step, lane);
  }
  filled_keys.wait(0);
  if (part == 0) run_grad_keys<T, N, false>(b, warp, lane);
  if (part == 1) run_grad_keys<T, N, true>(b, warp, lane);
  if (part == 2) run_near_pairs(b, warp, lane);
  if (part == 3) run_far_pairs(b, fetches, warp, lane);
#endif
}

/// Behind ssd's walk of kGradX.
template <class T, int N>
cudaError_t launch_ssd_grad_keys(const SsdCudaParams<T>& p, const SsdBackwardArguments<T>& a) {
  SsdGradKeyWideArguments<T> arguments{a};
  const auto describe = [](TensorTiles& tiles, const Rows<const T>& rows, int64_t batch, int64_t columns) {
    return describe_tiles<64>(tiles, rows, batch, columns);
  };
  const auto states_as_rows = [&](const T* states) {
    return Rows<const T>{states, a.slots * a.heads * 64, a.slots * a.heads * 64 * N, N};
  };
  const cudaError_t errors[] = {describe(arguments.x, p.x, p.batch, p.heads * 64),
                                describe(arguments.grad_out, p.grad_out, p.batch, p.heads * 64),
                                describe(arguments.B, p.B, p.batch, p.groups * N),
                                describe(arguments.C, p.C, p.batch, p.groups * N),
                                describe(arguments.states, states_as_rows(a.states), 1, N),
                                describe(arguments.grad_states, states_as_rows(a.grad_states), 1, N)};
  for (const cudaError_t error : errors)
    if (error) return error;
  using Tile = SsdGradKeyWideTile<N>;
  if (const cudaError_t error = allow_shared(ssd_grad_key_wide_kernel<T, N>, Tile::kBytes)) return error;
  const dim3 grid(static_cast<unsigned>(2 * a.slots), static_cast<unsigned>(p.groups),
                  static_cast<unsigned>(a.splits));
  ssd_grad_key_wide_kernel<T, N><<<grid, Tile::kThreads, Tile::kBytes, p.stream>>>(arguments);
  return cudaGetLastError();
}

}  // namespace exactmamba::ops
