// One token of generation: what becomes of the products, and the scans between them.
#pragma once

#include "models/ops/cuda/activation_form.cuh"
#include "models/ops/cuda/norm_weight.cuh"
#include "models/ops/token_step/token_step_candidate.cuh"
#include "models/ops/token_step/token_step_product.cuh"
#include "models/ops/token_step/token_step_scan.cuh"

namespace exactmamba::ops {
namespace {

// ---- what becomes of a product ----

template <class T>
struct FinishIn {
  StepIn<T> to;
  ActivationForm form;

  /// Of the convolution, by lag: taps[0] is that of the token itself.
  struct Row {
    float taps[kStepMostConvWidth], bias;
  };
  struct Needs {
    float before[kStepMostConvWidth - 1];
  };

  /// −1: the row is not convolved.
  __device__ int channel(int row) const {
    const int channel = row - static_cast<int>(to.conv_begin);
    return channel < to.conv_channels ? max(channel, -1) : -1;
  }
  /// The oldest input comes first.
  __device__ float* state(int b, int age, int channel) const {
    return to.conv_state + (int64_t(b) * (to.conv_width - 1) + age) * to.conv_channels + channel;
  }
  __device__ void prefetch(int b, int row) const {
    for (int age = 0; age < to.conv_width - 1 && channel(row) >= 0; ++age)
      ops::prefetch(state(b, age, channel(row)));
  }
  __device__ void load_row(Row& of_row, int row) const {
    const int c = channel(row), width = static_cast<int>(to.conv_width);
    if (c < 0) return;
    of_row.bias = to.conv_bias ? to.conv_bias[c] : 0.0f;
#pragma unroll
    for (int lag = 0; lag < kStepMostConvWidth; ++lag)
      of_row.taps[lag] = lag < width ? to.conv_weight[c * width + width - 1 - lag] : 0.0f;
  }
  __device__ void load_constants(Needs& needs, int b, int row) const {
    const int c = channel(row), last = static_cast<int>(to.conv_width) - 1;
    if (c < 0) return;
#pragma unroll
    for (int lag = 1; lag < kStepMostConvWidth; ++lag)
      needs.before[lag - 1] = lag <= last ? ops::load_fresh(state(b, last - lag, c)) : 0.0f;
  }
  __device__ void load_fresh(Needs&, int, int) const {}

  template <int kRows>
  __device__ void operator()(const Row& of_row, const Needs& needs, int b, int row, float value,
                             bool valid) const {
    if (!valid) return;
    const int c = channel(row), last = static_cast<int>(to.conv_width) - 1;
    if (c < 0) {
      to.projected[b * to.product.rows + row] = from_float<T>(value);
      return;
    }
    float sum = fmaf(of_row.taps[0], value, of_row.bias);
#pragma unroll
    for (int lag = 1; lag < kStepMostConvWidth; ++lag) {
      sum = fmaf(of_row.taps[lag], needs.before[lag - 1], sum);
      if (lag <= last) *state(b, last - lag, c) = lag == 1 ? value : needs.before[max(lag - 2, 0)];
    }
    to.convolved[b * to.conv_channels + c] = from_float<T>(form.value<true>(kLog2E * sum));
  }
};

/// Of an end that needs nothing beside the product.
struct FinishAlone {
  struct Row {};
  struct Needs {};
  __device__ void prefetch(int, int) const {}
  __device__ void load_row(Row&, int) const {}
  __device__ void load_constants(Needs&, int, int) const {}
  __device__ void load_fresh(Needs&, int, int) const {}
};

struct FinishRows : FinishAlone {
  float* out;
  int64_t rows;

  template <int kRows>
  __device__ void operator()(const Row&, const Needs&, int b, int row, float value, bool valid) const {
    if (valid) out[b * rows + row] = value;
  }
};

template <class T>
struct FinishOut {
  StepOut<T> to;

  struct Row {
    float weight;
  };
  struct Needs {
    float residual, factor;
  };
  __device__ void prefetch(int, int) const {}
  __device__ void load_row(Row& of_row, int row) const {
    of_row.weight = usable_weight<T>(to.next_weight[row]);
  }
  __device__ void load_constants(Needs&, int, int) const {}
  __device__ void load_fresh(Needs& needs, int b, int row) const {
    needs.residual = ops::load_fresh(to.residual + b * to.product.rows + row);
    needs.factor = ops::load_fresh(to.factor + b);
  }
  template <int kRows>
  __device__ void operator()(const Row& of_row, const Needs& needs, int b, int row, float value,
                             bool valid) const {
    float square = 0;
    if (valid) {
      const float sum = needs.residual + value;
      to.residual[b * to.product.rows + row] = sum;
      to.normed[b * to.product.rows + row] = from_float<T>(sum * needs.factor * of_row.weight);
      square = sum * sum;
    }
#pragma unroll
    for (int mask = 1; mask < kRows; mask *= 2) square += __shfl_xor_sync(~0u, square, mask);
    if (valid && threadIdx.x % kRows == 0)
      to.squares[b * ceil_divide<int64_t>(to.product.rows, kRows) + row / kRows] = square;
  }
};

template <class T>
struct FinishHead : FinishAlone {
  StepHead<T> to;

  template <int kRows>
  __device__ void operator()(const Row&, const Needs&, int b, int row, float value, bool valid) const {
    Candidate best = valid && row < to.vocab_size ? Candidate::of(value, row) : Candidate::none();
    best.take_best_of_lanes<kRows>();
    if (b >= to.product.batch || threadIdx.x % kRows != 0) return;
    const int64_t part = b * ceil_divide<int64_t>(to.product.rows, kRows) + row / kRows;
    to.best_value[part] = best.value;
    to.best_token[part] = best.token;
  }
};

template <class T>
using InTiling = StepTiling<T, 2, 4, 4>;
template <class T>
using RowsTiling = StepTiling<T, 1, 1, 1>;
template <class T>
using OutTiling = StepTiling<T, 1, 2, 2>;
template <class T>
using HeadTiling = StepTiling<T, 4, 4, 4>;

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
    p.normed[b * p.size + k] = from_float<T>(to_float(row[k]) * rstd * usable_weight<T>(p.norm_weight[k]));
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
  const FinishIn<T> finish{p, ActivationForm(p.activation)};
  // Few sequences: no more blocks than run at once.
  if (p.product.batch <= 8 && InTiling<T>::parts(p.product.batch, p.product.rows) > 2 * multiprocessors())
    return run_step_product<T, 1, 4>(p.product, finish);
  return InTiling<T>::run(p.product, finish);
}

template <class T>
cudaError_t launch_step_rows(const StepRows<T>& p) {
  if (!takes_step_pieces(p.product)) return cudaErrorInvalidValue;
  return RowsTiling<T>::run(p.product, FinishRows{{}, p.out, p.product.rows});
}

template <class T>
cudaError_t launch_step_out(const StepOut<T>& p) {
  if (!takes_step_pieces(p.product)) return cudaErrorInvalidValue;
  return OutTiling<T>::run(p.product, FinishOut<T>{p});
}

template <class T>
cudaError_t launch_step_head(const StepHead<T>& p) {
  if (!takes_step_pieces(p.product)) return cudaErrorInvalidValue;
  return HeadTiling<T>::run(p.product, FinishHead<T>{{}, p});
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
  if (p.head_size % kStepHeadRows != 0 || p.states % 8 != 0 || p.states > kStepMostStates)
    return cudaErrorInvalidValue;
  const int64_t blocks = p.batch * p.heads * p.head_size / kStepHeadRows;
  return launch_dependent(step_scan2_kernel<T, State>, static_cast<unsigned>(blocks), kScan2Threads, 0,
                          p.stream, p);
}

}  // namespace exactmamba::ops
