// The scans of one token.
#pragma once

#include "models/ops/cuda/softplus.cuh"
#include "models/ops/token_step/token_step_product.cuh"

namespace exactmamba::ops {
namespace {

__device__ __forceinline__ float silu(float x) { return x * fast_sigmoid(x); }

/// In one access of 8 or 16 bytes, which the compiler splits at times.
template <class T, int kSize>
__device__ __forceinline__ void store_at_once(T* to, const float (&from)[kSize]) {
  const DevicePack<T, kSize> pack = pack_floats<T>(from);
  const auto* words = reinterpret_cast<const uint32_t*>(pack.values);
  if constexpr (sizeof(pack) == 16)
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(words[0]), "r"(words[1]),
                 "r"(words[2]), "r"(words[3])
                 : "memory");
  else
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(to), "r"(words[0]), "r"(words[1]) : "memory");
}

// ---- Mamba-1 ----

/// One of the four lanes of a channel: four states, and a quarter of the channel's row of dt_proj, at most
/// kFours · 4 elements.
template <class T, class State, int kFours>
class Scan1Lane {
 public:
  /// What no kernel writes; nothing of a channel beyond the last.
  __device__ __forceinline__ Scan1Lane(const StepScan1<T, State>& p, int64_t channel)
      : rank_(static_cast<int>(p.dt_rank)) {
    if (channel >= p.channels) return;
    load_floats(p.A_log + channel * kStepScanStates + 4 * quarter_, decay_rate_);
#pragma unroll
    for (int k = 0; k < kFours; ++k)
      if (16 * k + 4 * quarter_ < rank_)
        weights_[k] = load_pack<4>(p.dt_weight + channel * rank_ + 16 * k + 4 * quarter_);
    bias_ = p.dt_bias[channel];
    skip_ = p.skip[channel];
  }
  static __device__ __forceinline__ State* state(const StepScan1<T, State>& p, int64_t b, int64_t channel) {
    return p.state + (b * p.channels + channel) * kStepScanStates + threadIdx.x % 4 * 4;
  }

  /// The gated output, in all four lanes. dt_of(k), B, C: the lane's, of dt_B_C.
  template <class DtOf>
  __device__ __forceinline__ float step(float (&states)[4], float u, float z, const DtOf& dt_of, float4 B,
                                        float4 C) const {
    float delta = 0;
#pragma unroll
    for (int k = 0; k < kFours; ++k) {
      if (16 * k + 4 * quarter_ >= rank_) break;
      const float4 dt = dt_of(k);
      float weights[4];
      unpack(weights_[k], weights);
      delta = fmaf(weights[0], dt.x, fmaf(weights[1], dt.y, delta));
      delta = fmaf(weights[2], dt.z, fmaf(weights[3], dt.w, delta));
    }
    const float Bs[4] = {B.x, B.y, B.z, B.w}, Cs[4] = {C.x, C.y, C.z, C.w};
    delta = softplus<T>(sum_of_four(delta) + bias_);
    float y = 0;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float decay = fast_exp2(-kLog2E * delta * fast_exp2(kLog2E * decay_rate_[n]));
      states[n] = fmaf(decay, states[n], delta * u * Bs[n]);
      y = fmaf(states[n], Cs[n], y);
    }
    return fmaf(skip_, u, sum_of_four(y)) * silu(z);
  }

 private:
  static __device__ __forceinline__ float sum_of_four(float value) {
    value += __shfl_xor_sync(~0u, value, 1);
    return value + __shfl_xor_sync(~0u, value, 2);
  }

  const int rank_, quarter_ = threadIdx.x % 4;
  DevicePack<T, 4> weights_[kFours] = {};
  float decay_rate_[4] = {}, bias_ = 0, skip_ = 0;
};

constexpr int kScanChannels = 32;

/// A block's sequences, kRows, one after the other.
template <class T, class State, int kRows, int kFours>
__global__ void __launch_bounds__(4 * kScanChannels, kFours > 4 ? 4 : 8)
    step_scan1_kernel(const __grid_constant__ StepScan1<T, State> p) {
  extern __shared__ __align__(16) float inputs[];  // dt_B_C of the sequences
  const int inputs_size = static_cast<int>(p.dt_rank) + 2 * kStepScanStates;
  const int64_t channel = int64_t(blockIdx.x) * kScanChannels + threadIdx.x / 4,
                first_b = int64_t(blockIdx.y) * kRows;
  const bool valid = channel < p.channels;
  using Lane = Scan1Lane<T, State, kFours>;
  const Lane lane(p, channel);
  float states[kRows][4] = {};
#pragma unroll
  for (int row = 0; row < kRows; ++row)
    if (valid && first_b + row < p.batch)
      load_fresh_four(Lane::state(p, first_b + row, channel), states[row]);
  const int channels = static_cast<int>(p.channels);
  const T *u_at = made_early(p.convolved + first_b * channels + channel),
          *z_at = made_early(p.projected + (2 * first_b + 1) * channels + channel);
  allow_dependent_launch();
  wait_for_previous_launch();

  T u[kRows] = {}, z[kRows] = {};
#pragma unroll
  for (int row = 0; row < kRows; ++row)
    if (valid && first_b + row < p.batch) {
      u[row] = __ldcg(u_at + row * channels);
      z[row] = __ldcg(z_at + 2 * row * channels);
    }
  const int64_t rows_left = p.batch - first_b, rows = rows_left < kRows ? rows_left : kRows;
#pragma unroll 4
  for (int i = threadIdx.x; i < rows * inputs_size; i += 4 * kScanChannels)
    inputs[i] = load_fresh(p.dt_B_C + first_b * inputs_size + i);
  __syncthreads();
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    if (row >= rows) break;
    const auto* fours = reinterpret_cast<const float4*>(inputs + row * inputs_size) + threadIdx.x % 4;
    const float gated = lane.step(
        states[row], to_float(u[row]), to_float(z[row]), [&](int k) { return fours[4 * k]; },
        fours[p.dt_rank / 4], fours[(p.dt_rank + kStepScanStates) / 4]);
    if (!valid) continue;
    store_at_once(Lane::state(p, first_b + row, channel), states[row]);
    if (threadIdx.x % 4 == 0) p.inner[(first_b + row) * p.channels + channel] = from_float<T>(gated);
  }
}

// ---- Mamba-2 ----

/// Neighbours that an earlier kernel wrote, as they lie in memory.
template <class T, int kSize>
struct FreshFloats {
  using Words = std::conditional_t<kSize * sizeof(T) % 16 == 0, uint4, uint2>;
  static constexpr int kWords = kSize * sizeof(T) / sizeof(Words), kEach = kSize / kWords;
  Words words[kWords] = {};

  __device__ __forceinline__ void load(const T* from) {
#pragma unroll
    for (int i = 0; i < kWords; ++i) words[i] = __ldcg(reinterpret_cast<const Words*>(from) + i);
  }
  __device__ __forceinline__ void unpack_to(float (&to)[kSize]) const {
#pragma unroll
    for (int i = 0; i < kWords; ++i)
      unpack(reinterpret_cast<const DevicePack<T, kEach>&>(words[i]),
             reinterpret_cast<float(&)[kEach]>(to[i * kEach]));
  }
};

/// A warp's rows of a head's state, 16 bytes a lane, kTurns times. One lane a row, its owner, knows what the
/// row is multiplied with.
template <class T, class State, int kTurns>
class Scan2Warp {
 public:
  static constexpr int kOwn = 16 / static_cast<int>(sizeof(State)), kLanes = kStepMostStates / kOwn,
                       kSides = 32 / kLanes, kRows = kSides * kTurns;

  /// What no kernel of this token writes before the scan. `channel`: the first row.
  __device__ __forceinline__ Scan2Warp(const StepScan2<T, State>& p, int64_t b, int channel)
      : states_(static_cast<int>(p.states)) {
    const int inner = static_cast<int>(p.heads * p.head_size), head = channel / static_cast<int>(p.head_size),
              owned = channel + own_row();
    state_ = p.state + (b * inner + channel + lane() / kLanes) * states_ + first_state();
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn)
      if (has_states()) words_[turn] = load_fresh(reinterpret_cast<const uint4*>(state(turn)));
    const T *convolved = p.convolved + b * (inner + 2 * states_),
            *projected = p.projected + b * (2 * inner + 2 * states_ + p.heads);
    x_ = made_early(convolved + owned);
    z_ = made_early(projected + owned);
    B_ = made_early(convolved + inner + first_state());
    dt_ = made_early(projected + 2 * inner + 2 * states_ + head);
    normed_ = p.normed + b * inner + owned;
    if (is_owner()) weight_ = p.norm_weight[owned];
    rate_ = expf(p.A_log[head]);
    bias_ = p.dt_bias[head];
    skip_ = p.skip[head];
  }

  /// Writes the states and the gated outputs; the squares of those, zero in lanes that own no row.
  __device__ __forceinline__ float step(const StepScan2<T, State>& p) const {
    FreshFloats<T, kOwn> fresh_B, fresh_C;
    if (has_states()) {
      fresh_B.load(B_);
      fresh_C.load(B_ + states_);
    }
    const float dt = load_fresh(dt_);
    float x = 0, z = 0, B[kOwn], C[kOwn];
    if (is_owner()) {
      x = load_fresh(x_);
      z = load_fresh(z_);
    }
    const float delta = fminf(fmaxf(softplus<T>(dt + bias_), p.dt_min), p.dt_max),
                decay = expf(-delta * rate_);
    fresh_B.unpack_to(B);
    fresh_C.unpack_to(C);
    float mine = 0;
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const float scaled = delta * __shfl_sync(~0u, x, lane() / kLanes * kLanes + turn);
      float states[kOwn], y = 0;
      unpack(reinterpret_cast<const DevicePack<State, kOwn>&>(words_[turn]), states);
#pragma unroll
      for (int n = 0; n < kOwn; ++n) {
        states[n] = fmaf(decay, states[n], scaled * B[n]);
        y = fmaf(states[n], C[n], y);
      }
      if (has_states()) store_at_once(state(turn), states);
#pragma unroll
      for (int mask = 1; mask < kLanes; mask *= 2) y += __shfl_xor_sync(~0u, y, mask);
      if (lane() % kLanes == turn) mine = y;
    }
    if (!is_owner()) return 0;
    const float gated = fmaf(skip_, x, mine) * silu(z);
    *normed_ = from_float<T>(gated * weight_);
    return gated * gated;
  }

 private:
  static __device__ int lane() { return threadIdx.x % 32; }
  static __device__ int first_state() { return lane() % kLanes * kOwn; }
  __device__ bool has_states() const { return first_state() < states_; }
  static __device__ bool is_owner() { return lane() % kLanes < kTurns; }
  static __device__ int own_row() { return lane() % kLanes * kSides + lane() / kLanes; }
  __device__ State* state(int turn) const { return state_ + turn * kSides * states_; }

  const int states_;
  State* state_;
  const T *x_, *z_, *B_, *dt_;  // what earlier kernels of this token write
  T* normed_;
  uint4 words_[kTurns] = {};
  float weight_ = 0, rate_, bias_, skip_;
};

constexpr int kScan2Threads = 128;

/// A block per kStepHeadRows rows of a head's state.
template <class T, class State>
__global__ void __launch_bounds__(kScan2Threads, 8)
    step_scan2_kernel(const __grid_constant__ StepScan2<T, State> p) {
  using Warp = Scan2Warp<T, State, sizeof(State) == 4 ? 4 : 2>;
  constexpr int kWarps = kScan2Threads / 32;
  static_assert(Warp::kRows * kWarps == kStepHeadRows);
  const auto parts = static_cast<unsigned>(p.heads * p.head_size / kStepHeadRows);
  const int warp = threadIdx.x / 32;
  const Warp rows(p, blockIdx.x / parts, blockIdx.x % parts * kStepHeadRows + warp * Warp::kRows);
  allow_dependent_launch();
  wait_for_previous_launch();

  float square = warp_sum(rows.step(p));
  __shared__ float squares[kWarps];
  if (threadIdx.x % 32 == 0) squares[warp] = square;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kWarps; ++w) square += squares[w];
  p.squares[blockIdx.x] = square;
}

}  // namespace
}  // namespace exactmamba::ops
