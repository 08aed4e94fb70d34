// One token of generation: what becomes of the products, and the scans between them.
#pragma once

#include "models/ops/cuda/activation_form.cuh"
#include "models/ops/token_step/token_step_candidate.cuh"
#include "models/ops/token_step/token_step_product.cuh"

namespace exactmamba::ops {
namespace {

// ---- what becomes of a product ----

template <class T>
struct FinishIn {
  StepIn<T> to;
  ActivationForm form;

  /// Of the convolution, by lag: taps[0] is that of the token itself.
  struct Needs {
    float taps[kStepMostConvWidth], before[kStepMostConvWidth - 1], bias;
  };

  /// −1: the row is not convolved.
  __device__ int channel(int row) const {
    const int channel = row - static_cast<int>(to.conv_begin);
    return channel < to.conv_channels ? max(channel, -1) : -1;
  }
  /// The oldest input comes first.
  __device__ float* state(int b, int channel) const {
    return to.conv_state + (int64_t(b) * to.conv_channels + channel) * (to.conv_width - 1);
  }
  __device__ void prefetch(int b, int row) const {
    if (channel(row) < 0) return;
    ops::prefetch(state(b, channel(row)));
    ops::prefetch(to.conv_weight + channel(row) * to.conv_width);
  }
  __device__ void load_constants(Needs& needs, int b, int row) const {
    const int c = channel(row), last = static_cast<int>(to.conv_width) - 1;
    if (c < 0) return;
    needs.bias = to.conv_bias ? to.conv_bias[c] : 0.0f;
#pragma unroll
    for (int lag = 0; lag < kStepMostConvWidth; ++lag)
      needs.taps[lag] = lag <= last ? to.conv_weight[c * (last + 1) + last - lag] : 0.0f;
#pragma unroll
    for (int lag = 1; lag < kStepMostConvWidth; ++lag)
      needs.before[lag - 1] = lag <= last ? ops::load_fresh(state(b, c) + last - lag) : 0.0f;
  }
  __device__ void load_fresh(Needs&, int, int) const {}

  template <int kRows>
  __device__ void operator()(const Needs& needs, int b, int row, float value, bool valid) const {
    if (!valid) return;
    const int c = channel(row), last = static_cast<int>(to.conv_width) - 1;
    if (c < 0) {
      to.projected[b * to.product.rows + row] = from_float<T>(value);
      return;
    }
    float sum = fmaf(needs.taps[0], value, needs.bias);
#pragma unroll
    for (int lag = 1; lag < kStepMostConvWidth; ++lag) {
      sum = fmaf(needs.taps[lag], needs.before[lag - 1], sum);
      if (lag <= last) state(b, c)[last - lag] = lag == 1 ? value : needs.before[max(lag - 2, 0)];
    }
    to.convolved[b * to.conv_channels + c] = from_float<T>(form.value<true>(kLog2E * sum));
  }
};

struct FinishRows {
  float* out;
  int64_t rows;

  struct Needs {};
  __device__ void prefetch(int, int) const {}
  __device__ void load_constants(Needs&, int, int) const {}
  __device__ void load_fresh(Needs&, int, int) const {}
  template <int kRows>
  __device__ void operator()(const Needs&, int b, int row, float value, bool valid) const {
    if (valid) out[b * rows + row] = value;
  }
};

template <class T>
struct FinishOut {
  StepOut<T> to;

  struct Needs {
    float residual, factor, weight;
  };
  __device__ void prefetch(int, int row) const { ops::prefetch(to.next_weight + row); }
  __device__ void load_constants(Needs& needs, int, int row) const { needs.weight = to.next_weight[row]; }
  __device__ void load_fresh(Needs& needs, int b, int row) const {
    needs.residual = ops::load_fresh(to.residual + b * to.product.rows + row);
    needs.factor = ops::load_fresh(to.factor + b);
  }
  template <int kRows>
  __device__ void operator()(const Needs& needs, int b, int row, float value, bool valid) const {
    float square = 0;
    if (valid) {
      const float sum = needs.residual + value;
      to.residual[b * to.product.rows + row] = sum;
      to.normed[b * to.product.rows + row] = from_float<T>(sum * needs.factor * needs.weight);
      square = sum * sum;
    }
#pragma unroll
    for (int mask = 1; mask < kRows; mask *= 2) square += __shfl_xor_sync(~0u, square, mask);
    if (valid && threadIdx.x % kRows == 0) to.squares[int64_t(b) * gridDim.y + blockIdx.y] = square;
  }
};

template <class T>
struct FinishHead {
  StepHead<T> to;

  struct Needs {};
  __device__ void prefetch(int, int) const {}
  __device__ void load_constants(Needs&, int, int) const {}
  __device__ void load_fresh(Needs&, int, int) const {}
  template <int kRows>
  __device__ void operator()(const Needs&, int b, int row, float value, bool valid) const {
    Candidate best = valid && row < to.vocab_size ? Candidate::of(value, row) : Candidate::none();
    best.take_best_of_lanes<kRows>();
    if (b >= to.product.batch || threadIdx.x % kRows != 0) return;
    to.best_value[int64_t(b) * gridDim.y + blockIdx.y] = best.value;
    to.best_token[int64_t(b) * gridDim.y + blockIdx.y] = best.token;
  }
};

template <class T>
using InTiling = StepTiling<T, 2, 4, 4>;
template <class T>
using RowsTiling = StepTiling<T, 1, 2, 1>;
template <class T>
using OutTiling = StepTiling<T, 1, 4, 2>;
template <class T>
using HeadTiling = StepTiling<T, 4, 4, 4>;

// ---- scans ----

__device__ __forceinline__ float step_softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }
__device__ __forceinline__ float silu(float x) { return x * fast_sigmoid(x); }

constexpr int kScanChannels = 32;

/// Four lanes a channel, four states a lane, kRows sequences one after the other. A lane also keeps a quarter
/// of the channel's row of dt_proj, at most kFours · 4 elements.
template <class T, class State, int kRows, int kFours>
__global__ void __launch_bounds__(4 * kScanChannels)
    step_scan1_kernel(const __grid_constant__ StepScan1<T, State> p) {
  extern __shared__ __align__(16) float inputs[];  // dt_B_C of the sequences
  const int quarter = threadIdx.x % 4, rank = static_cast<int>(p.dt_rank),
            inputs_size = rank + 2 * kStepScanStates;
  const int64_t channel = int64_t(blockIdx.x) * kScanChannels + threadIdx.x / 4,
                first_b = int64_t(blockIdx.y) * kRows;
  const bool valid = channel < p.channels;

  const auto state_at = [&](int row) {
    return p.state + ((first_b + row) * p.channels + channel) * kStepScanStates + 4 * quarter;
  };
  float decay_rate[4] = {}, states[kRows][4] = {}, weights[kFours][4] = {}, bias = 0, skip = 0;
  if (valid) {
    load_floats(p.A_log + channel * kStepScanStates + 4 * quarter, decay_rate);
#pragma unroll
    for (int row = 0; row < kRows; ++row)
      if (first_b + row < p.batch) load_fresh_four(state_at(row), states[row]);
#pragma unroll
    for (int k = 0; k < kFours; ++k)
      if (16 * k + 4 * quarter < rank)
        load_floats(p.dt_weight + channel * rank + 16 * k + 4 * quarter, weights[k]);
    bias = p.dt_bias[channel];
    skip = p.skip[channel];
  }
#pragma unroll
  for (int n = 0; n < 4; ++n) decay_rate[n] = -kLog2E * fast_exp2(kLog2E * decay_rate[n]);
  allow_dependent_launch();
  wait_for_previous_launch();

  float u[kRows] = {}, z[kRows] = {};
#pragma unroll
  for (int row = 0; row < kRows; ++row)
    if (valid && first_b + row < p.batch) {
      u[row] = load_fresh(p.convolved + (first_b + row) * p.channels + channel);
      z[row] = load_fresh(p.projected + (2 * (first_b + row) + 1) * p.channels + channel);
    }
  const int64_t rows_left = p.batch - first_b, rows = rows_left < kRows ? rows_left : kRows;
#pragma unroll 4
  for (int i = threadIdx.x; i < rows * inputs_size; i += 4 * kScanChannels)
    inputs[i] = load_fresh(p.dt_B_C + first_b * inputs_size + i);
  __syncthreads();
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    if (row >= rows) break;
    const float *dt = inputs + row * inputs_size, *B = dt + rank + 4 * quarter, *C = B + kStepScanStates;
    float delta = 0;
#pragma unroll
    for (int k = 0; k < kFours; ++k) {
      if (16 * k + 4 * quarter >= rank) break;
      const float4 four = *reinterpret_cast<const float4*>(dt + 16 * k + 4 * quarter);
      delta = fmaf(weights[k][0], four.x, fmaf(weights[k][1], four.y, delta));
      delta = fmaf(weights[k][2], four.z, fmaf(weights[k][3], four.w, delta));
    }
    delta += __shfl_xor_sync(~0u, delta, 1);
    delta += __shfl_xor_sync(~0u, delta, 2);
    delta = step_softplus(delta + bias);
    float y = 0;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      states[row][n] = fmaf(fast_exp2(delta * decay_rate[n]), states[row][n], delta * u[row] * B[n]);
      y = fmaf(states[row][n], C[n], y);
    }
    y += __shfl_xor_sync(~0u, y, 1);
    y += __shfl_xor_sync(~0u, y, 2);
    if (!valid) continue;
    store_floats(state_at(row), states[row]);
    if (quarter == 0)
      p.inner[(first_b + row) * p.channels + channel] = from_float<T>(fmaf(skip, u[row], y) * silu(z[row]));
  }
}

/// A block per kStepHeadRows rows of a head's state, four a warp, four states a lane.
template <class T, class State>
__global__ void __launch_bounds__(128) step_scan2_kernel(const __grid_constant__ StepScan2<T, State> p) {
  constexpr int kRows = kStepHeadRows / 4;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, N = static_cast<int>(p.states);
  const int64_t parts = p.heads * p.head_size / kStepHeadRows, b = blockIdx.x / parts,
                part = blockIdx.x % parts, channel = part * kStepHeadRows + warp * kRows,
                head = channel / p.head_size, inner = p.heads * p.head_size;
  State* state = p.state + (b * inner + channel) * N + 4 * lane;
  const bool valid = 4 * lane < N;
  float states[kRows][4] = {}, weights[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (valid) load_fresh_four(state + r * N, states[r]);
    weights[r] = p.norm_weight[channel + r];
  }
  const float rate = -expf(p.A_log[head]), bias = p.dt_bias[head], skip = p.skip[head];
  allow_dependent_launch();
  wait_for_previous_launch();

  const T *convolved = p.convolved + b * (inner + 2 * N),
          *projected = p.projected + b * (2 * inner + 2 * N + p.heads);
  float B[4] = {}, C[4] = {}, x[kRows], z[kRows];
  if (valid) {
    load_fresh_four(convolved + inner + 4 * lane, B);
    load_fresh_four(convolved + inner + N + 4 * lane, C);
  }
  static_assert(kRows == 4);
  load_fresh_four(convolved + channel, x);
#pragma unroll
  for (int r = 0; r < kRows; ++r) z[r] = load_fresh(projected + channel + r);
  const float delta = fminf(
      fmaxf(step_softplus(load_fresh(projected + 2 * inner + 2 * N + head) + bias), p.dt_min), p.dt_max);
  const float decay = expf(delta * rate);
  float square = 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    float y = 0;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      states[r][n] = fmaf(decay, states[r][n], delta * x[r] * B[n]);
      y = fmaf(states[r][n], C[n], y);
    }
    if (valid) store_floats(state + r * N, states[r]);
    const float gated = fmaf(skip, x[r], warp_sum(y)) * silu(z[r]);
    square = fmaf(gated, gated, square);
    if (lane == r) p.normed[b * inner + channel + r] = from_float<T>(gated * weights[r]);
  }
  __shared__ float squares[4];
  if (lane == 0) squares[warp] = square;
  __syncthreads();
  if (threadIdx.x == 0) p.squares[b * parts + part] = squares[0] + squares[1] + squares[2] + squares[3];
}

// ---- first and last ----

__device__ float step_block_sum(float value) {
  __shared__ float warps[kStepWarps];
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = 0;
#pragma unroll
  for (int w = 0; w < kStepWarps; ++w) value += warps[w];
  return value;
}

/// A block a sequence.
template <class T>
__global__ void __launch_bounds__(kStepThreads) step_embed_kernel(const __grid_constant__ StepEmbed<T> p) {
  allow_dependent_launch();
  wait_for_previous_launch();
  const int64_t b = blockIdx.x, token = load_fresh(p.tokens + b);
  const T* row = p.embedding + (token < 0 ? 0 : token) * p.size;
  float square = 0;
  for (int64_t k = threadIdx.x; k < p.size; k += kStepThreads) {
    const float x = to_float(row[k]);
    p.residual[b * p.size + k] = x;
    square = fmaf(x, x, square);
  }
  square = step_block_sum(square);
  const float rstd = rsqrtf(square / static_cast<float>(p.size) + p.eps);
  for (int64_t k = threadIdx.x; k < p.size; k += kStepThreads)
    p.normed[b * p.size + k] = from_float<T>(to_float(row[k]) * rstd * p.norm_weight[k]);
  for (int64_t part = threadIdx.x; part < p.parts; part += kStepThreads)
    p.squares[b * p.parts + part] = part == 0 ? square : 0.0f;
  if (threadIdx.x == 0) p.factor[b] = rstd;
  if (threadIdx.x == 0 && b == 0) *p.position += 1;
}

template <class T>
bool takes_step_pieces(const StepProduct<T>& p) {
  return p.inner % kStepPiece<T> == 0 && is_aligned(p.x, 16) && is_aligned(p.weight, 16);
}

}  // namespace

// ---- launches ----

template <class T>
int64_t step_out_parts(int64_t batch, int64_t rows) {
  return OutTiling<T>::parts(batch, rows);
}
template <class T>
int64_t step_head_parts(int64_t batch, int64_t rows) {
  return HeadTiling<T>::parts(batch, rows);
}

template <class T>
cudaError_t launch_step_embed(const StepEmbed<T>& p) {
  return launch_dependent(step_embed_kernel<T>, static_cast<unsigned>(p.batch), kStepThreads, 0, p.stream, p);
}

template <class T>
cudaError_t launch_step_in(const StepIn<T>& p) {
  if (!takes_step_pieces(p.product)) return cudaErrorInvalidValue;
  return InTiling<T>::run(p.product, FinishIn<T>{p, ActivationForm(p.activation)});
}

template <class T>
cudaError_t launch_step_rows(const StepRows<T>& p) {
  if (!takes_step_pieces(p.product)) return cudaErrorInvalidValue;
  return RowsTiling<T>::run(p.product, FinishRows{p.out, p.product.rows});
}

template <class T>
cudaError_t launch_step_out(const StepOut<T>& p) {
  if (!takes_step_pieces(p.product)) return cudaErrorInvalidValue;
  return OutTiling<T>::run(p.product, FinishOut<T>{p});
}

template <class T>
cudaError_t launch_step_head(const StepHead<T>& p) {
  if (!takes_step_pieces(p.product)) return cudaErrorInvalidValue;
  return HeadTiling<T>::run(p.product, FinishHead<T>{p});
}

template <class T, class State>
cudaError_t launch_step_scan1(const StepScan1<T, State>& p) {
  if (p.dt_rank > kStepMostDtRank || p.dt_rank % 4 != 0) return cudaErrorInvalidValue;
  const auto run = [&]<int kRows, int kFours>() {
    const size_t shared = sizeof(float) * kRows * (p.dt_rank + 2 * kStepScanStates);
    const dim3 blocks(static_cast<unsigned>(ceil_divide<int64_t>(p.channels, kScanChannels)),
                      static_cast<unsigned>(ceil_divide<int64_t>(p.batch, kRows)));
    return launch_dependent(step_scan1_kernel<T, State, kRows, kFours>, blocks, 4 * kScanChannels, shared,
                            p.stream, p);
  };
  const auto with_ranks = [&]<int kRows>() {
    return p.dt_rank <= 64 ? run.template operator()<kRows, 4>()
                           : run.template operator()<kRows, kStepMostDtRank / 16>();
  };
  return p.batch <= 8 ? with_ranks.template operator()<1>() : with_ranks.template operator()<4>();
}

template <class T, class State>
cudaError_t launch_step_scan2(const StepScan2<T, State>& p) {
  if (p.head_size % kStepHeadRows != 0 || p.states % 4 != 0 || p.states > kStepMostStates)
    return cudaErrorInvalidValue;
  const int64_t blocks = p.batch * p.heads * p.head_size / kStepHeadRows;
  return launch_dependent(step_scan2_kernel<T, State>, static_cast<unsigned>(blocks), 128, 0, p.stream, p);
}

}  // namespace exactmamba::ops
