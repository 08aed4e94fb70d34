// The scan of Mamba-1 for many sequences in 16 bits: a warp has 16 channels of four sequences. Their step
// sizes are one product of the tensor cores; two lanes a channel have eight states each and one after the
// other all four sequences, of two of which a lane knows what the states are multiplied with.
#pragma once

#include "models/ops/cuda/multiply_add.cuh"
#include "models/ops/token_step/token_step_scan.cuh"

namespace exactmamba::ops {
namespace {

constexpr int kManyChannels = 16, kManyRows = 4, kManyWarps = 4, kManyOwn = kStepScanStates / 2;

/// The product of dt_proj: channels × sequences, 64 ranks at once. A lane holds 8 neighbours of a row, as in
/// token_step_product.cuh.
template <class T>
class ManyDt {
 public:
  /// Loads weights, which no kernel writes.
  __device__ __forceinline__ ManyDt(const T* weight, int64_t first_channel, int64_t channels, int rank)
      : lane_weight_(weight + (first_channel + quad_) * rank),
        channels_left_(channels - first_channel - quad_),
        rank_(rank) {
    load(0);
  }
  /// Loads the lane's ranks of its sequence's `dt`, of the 64 from `first` on; null: there is none.
  __device__ __forceinline__ void load_inputs(const float* dt, int first) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
#pragma unroll
      for (int k = 0; k < 2; ++k)
        inputs_[i][k] = dt && column(first, i) < rank_
                            ? load_fresh(reinterpret_cast<const float4*>(dt + column(first, i)) + k)
                            : float4{0, 0, 0, 0};
  }
  /// Into (kManyChannels, kManyRows), from the first inputs on.
  __device__ __forceinline__ void store(float* to, const float* dt) {
    float sums[4] = {};
#pragma unroll 1
    for (int first = 0; first < rank_; first += 32 * kPieces) {
      if (first > 0) {
        load(first);
        load_inputs(dt, first);
      }
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        const auto pack = pack_floats<T>(reinterpret_cast<const float(&)[8]>(inputs_[i]));
        const uint4 right = reinterpret_cast<const uint4&>(pack), upper = weights_[i][0],
                    lower = weights_[i][1];
        multiply_add<T>(sums, {upper.x, lower.x, upper.y, lower.y}, right.x, right.y);
        multiply_add<T>(sums, {upper.z, lower.z, upper.w, lower.w}, right.z, right.w);
      }
    }
    const int row = threadIdx.x % 4 * 2;
    if (row >= kManyRows) return;
#pragma unroll
    for (int h = 0; h < 2; ++h)
      *reinterpret_cast<float2*>(to + (quad_ + 8 * h) * kManyRows + row) =
          make_float2(sums[2 * h], sums[2 * h + 1]);
  }

 private:
  static constexpr int kPieces = 2;
  static __device__ int column(int first, int i) { return first + 32 * i + threadIdx.x % 4 * 8; }

  __device__ __forceinline__ void load(int first) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        weights_[i][h] = 8 * h < channels_left_ && column(first, i) < rank_
                             ? load_once(lane_weight_ + 8 * h * rank_ + column(first, i))
                             : uint4{0, 0, 0, 0};
  }

  const int quad_ = threadIdx.x % 32 / 4;
  const T* const lane_weight_;
  const int64_t channels_left_;
  const int rank_;
  uint4 weights_[kPieces][2];
  float4 inputs_[kPieces][2];
};

/// Eight states of one sequence, as they lie in memory.
template <class State>
struct ManyStates {
  DevicePack<State, 16 / sizeof(State)> packs[kManyOwn * sizeof(State) / 16];

  __device__ __forceinline__ void load(const State* from) {
#pragma unroll
    for (int i = 0; i < kManyOwn * static_cast<int>(sizeof(State)) / 16; ++i)
      reinterpret_cast<uint4&>(packs[i]) = load_fresh(reinterpret_cast<const uint4*>(from) + i);
  }
  /// Steps and stores them; the lane's part of the output.
  __device__ __forceinline__ float step(State* to, bool valid, const float (&rates)[kManyOwn], float delta,
                                        float scaled, const float4* B, const float4* C) {
    constexpr int kPack = 16 / sizeof(State);
    float states[kManyOwn], Bs[kManyOwn], Cs[kManyOwn], y = 0;
#pragma unroll
    for (int i = 0; i < kManyOwn; i += 4) {
      reinterpret_cast<float4&>(Bs[i]) = B[i / 4];
      reinterpret_cast<float4&>(Cs[i]) = C[i / 4];
    }
#pragma unroll
    for (int i = 0; i < kManyOwn; i += kPack)
      unpack(packs[i / kPack], reinterpret_cast<float(&)[kPack]>(states[i]));
#pragma unroll
    for (int n = 0; n < kManyOwn; ++n) {
      states[n] = fmaf(fast_exp2(delta * rates[n]), states[n], scaled * Bs[n]);
      y = fmaf(states[n], Cs[n], y);
    }
    if (valid)
#pragma unroll
      for (int i = 0; i < kManyOwn; i += kPack)
        store_at_once(to + i, reinterpret_cast<float(&)[kPack]>(states[i]));
    return y;
  }
};

/// R is a multiple of 8. A block's warps have kManyWarps · kManyRows sequences of the same channels.
template <class T, class State>
__global__ void __launch_bounds__(32 * kManyWarps)
    step_scan1_many_kernel(const __grid_constant__ StepScan1<T, State> p) {
  __shared__ __align__(16) float all_deltas[kManyWarps][kManyChannels * kManyRows];
  __shared__ float4 all_B_C[kManyWarps][32];
  constexpr int kFours = kStepScanStates / 4;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, half = lane % 2,
            rank = static_cast<int>(p.dt_rank), stride = rank + 2 * kStepScanStates;
  const int64_t first_channel = int64_t(blockIdx.x) * kManyChannels, channel = first_channel + lane / 2,
                first_b = (int64_t(blockIdx.y) * kManyWarps + warp) * kManyRows;
  const int rows = static_cast<int>(min(p.batch - first_b, int64_t(kManyRows)));
  if (rows <= 0) return;
  const bool has_channel = channel < p.channels;
  State* state = p.state + (first_b * p.channels + channel) * kStepScanStates + half * kManyOwn;
  const auto state_of = [&](int row) { return state + row * static_cast<int>(p.channels) * kStepScanStates; };
  ManyStates<State> states[kManyRows] = {};
#pragma unroll
  for (int row = 0; row < kManyRows; ++row)
    if (has_channel && row < rows) states[row].load(state_of(row));
  ManyDt<T> dt(p.dt_weight, first_channel, p.channels, rank);
  float rates[kManyOwn] = {}, bias = 0, skip = 0;
  if (has_channel) {
    const float* A_log = p.A_log + channel * kStepScanStates + half * kManyOwn;
#pragma unroll
    for (int n = 0; n < kManyOwn; n += 4) load_floats(A_log + n, reinterpret_cast<float(&)[4]>(rates[n]));
#pragma unroll
    for (int n = 0; n < kManyOwn; ++n) rates[n] = -kLog2E * fast_exp2(kLog2E * rates[n]);
    bias = p.dt_bias[channel];
    skip = p.skip[channel];
  }
  // A lane's own sequences are the first or the last two. All that is fresh is asked for at once.
  const int channels = static_cast<int>(p.channels), quad = lane / 4, of_B_C = lane / 8;
  const int64_t own = first_b + 2 * half;
  const T *u_at = made_early(p.convolved + own * channels + channel),
          *z_at = made_early(p.projected + (2 * own + 1) * channels + channel);
  const float* inputs = p.dt_B_C + first_b * stride;
  const float *dt_at = made_early(quad < rows ? inputs + quad * stride : nullptr),
              *B_C_at = made_early(inputs + of_B_C * stride + rank + lane % 8 * 4);
  allow_dependent_launch();
  wait_for_previous_launch();

  dt.load_inputs(dt_at, 0);
  T fresh_u[2] = {}, fresh_z[2] = {};
  float4 B_C = {};
  const auto is_own = [&](int i) { return has_channel && 2 * half + i < rows; };
#pragma unroll
  for (int i = 0; i < 2; ++i)
    if (is_own(i)) {
      fresh_u[i] = __ldcg(u_at + i * channels);
      fresh_z[i] = __ldcg(z_at + 2 * i * channels);
    }
  if (of_B_C < rows) B_C = load_fresh(reinterpret_cast<const float4*>(B_C_at));
  dt.store(all_deltas[warp], dt_at);
  all_B_C[warp][lane] = B_C;
  __syncwarp();
  const float2 raw = reinterpret_cast<const float2*>(all_deltas[warp])[lane];
  const float delta[2] = {softplus<T>(raw.x + bias), softplus<T>(raw.y + bias)},
              u[2] = {to_float(fresh_u[0]), to_float(fresh_u[1])};
  float y[2] = {};
#pragma unroll
  for (int row = 0; row < kManyRows; ++row) {
    if (row >= rows) break;
    const int knows = lane / 2 * 2 + row / 2;
    const float of_row = __shfl_sync(~0u, delta[row % 2], knows),
                scaled = of_row * __shfl_sync(~0u, u[row % 2], knows);
    const float4 *B = all_B_C[warp] + row * 2 * kFours + half * kFours / 2, *C = B + kFours;
    float sum = states[row].step(state_of(row), has_channel, rates, of_row, scaled, B, C);
    sum += __shfl_xor_sync(~0u, sum, 1);
    if (half == row / 2) y[row % 2] = sum;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i)
    if (is_own(i))
      p.inner[(own + i) * channels + channel] =
          from_float<T>(fmaf(skip, u[i], y[i]) * silu(to_float(fresh_z[i])));
}

template <class T, class State>
cudaError_t run_step_scan1_many(const StepScan1<T, State>& p) {
  const dim3 blocks(static_cast<unsigned>(ceil_divide<int64_t>(p.channels, kManyChannels)),
                    static_cast<unsigned>(ceil_divide<int64_t>(p.batch, kManyWarps * kManyRows)));
  return launch_dependent(step_scan1_many_kernel<T, State>, blocks, 32 * kManyWarps, 0, p.stream, p);
}

}  // namespace
}  // namespace exactmamba::ops
