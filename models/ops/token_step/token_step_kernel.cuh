// One token of generation: what becomes of the products, and the scans between them.
#pragma once

#include "models/ops/cuda/activation_form.cuh"
#include "models/ops/cuda/norm_weight.cuh"
#include "models/ops/token_step/token_step_candidate.cuh"
#include "models/ops/token_step/token_step_head.cuh"
#include "models/ops/token_step/token_step_product.cuh"
#include "models/ops/token_step/token_step_ring.cuh"
#include "models/ops/token_step/token_step_scan.cuh"
#include "models/ops/token_step/token_step_scan_many.cuh"
#include "models/ops/token_step/token_step_wide.cuh"

namespace exactmamba::ops {
namespace {

// ---- what becomes of a product ----

template <class T>
struct FinishIn {
  StepIn<T> to;
  ActivationForm form;

  /// Of the convolution, by lag: taps[0] is that of the token itself. Channel −1: the row is not convolved.
  struct Row {
    float taps[kStepMostConvWidth], bias;
    int channel;
  };
  struct Needs {
    float before[kStepMostConvWidth - 1];
  };

  __device__ int channel(int row) const {
    const int channel = row - static_cast<int>(to.conv_begin);
    return channel < static_cast<int>(to.conv_channels) ? max(channel, -1) : -1;
  }
  __device__ int last() const { return static_cast<int>(to.conv_width) - 1; }
  /// The input `age` tokens after the oldest, of which there are last().
  __device__ float* state(int b, int channel, int age) const {
    return to.conv_state + ((b * last() + age) * static_cast<int>(to.conv_channels) + channel);
  }
  __device__ void prefetch(int b, int row) const {
    for (int age = 0; age < last() && channel(row) >= 0; ++age) ops::prefetch(state(b, channel(row), age));
  }
  __device__ void load_row(Row& of_row, int row) const {
    const int c = of_row.channel = channel(row), width = static_cast<int>(to.conv_width);
    if (c < 0) return;
    of_row.bias = to.conv_bias ? to.conv_bias[c] : 0.0f;
#pragma unroll
    for (int lag = 0; lag < kStepMostConvWidth; ++lag)
      of_row.taps[lag] = lag < width ? to.conv_weight[c * width + width - 1 - lag] : 0.0f;
  }
  __device__ void load_constants(Needs& needs, int b, int row) const {
    const int c = channel(row);
    if (c < 0) return;
#pragma unroll
    for (int lag = 1; lag < kStepMostConvWidth; ++lag)
      needs.before[lag - 1] = lag <= last() ? ops::load_fresh(state(b, c, last() - lag)) : 0.0f;
  }
  __device__ void load_fresh(Needs&, int, int) const {}

  template <int kRows>
  __device__ void operator()(const Row& of_row, const Needs& needs, int b, int row, float value,
                             bool valid) const {
    if (!valid) return;
    const int c = of_row.channel;
    if (c < 0) {
      to.projected[b * static_cast<int>(to.product.rows) + row] = from_float<T>(value);
      return;
    }
    float sum = fmaf(of_row.taps[0], value, of_row.bias);
#pragma unroll
    for (int lag = 1; lag < kStepMostConvWidth; ++lag) {
      sum = fmaf(of_row.taps[lag], needs.before[lag - 1], sum);
      if (lag <= last()) *state(b, c, last() - lag) = lag == 1 ? value : needs.before[max(lag - 2, 0)];
    }
    to.convolved[b * static_cast<int>(to.conv_channels) + c] = from_float<T>(form.value<true>(kLog2E * sum));
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
    if (valid) out[b * static_cast<int>(rows) + row] = value;
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
  __device__ int place(int b, int row) const { return b * static_cast<int>(to.product.rows) + row; }
  __device__ void prefetch(int, int) const {}
  __device__ void load_row(Row& of_row, int row) const {
    of_row.weight = usable_weight<T>(to.next_weight[row]);
  }
  __device__ void load_constants(Needs&, int, int) const {}
  __device__ void load_fresh(Needs& needs, int b, int row) const {
    needs.residual = ops::load_fresh(to.residual + place(b, row));
    needs.factor = ops::load_fresh(to.factor + b);
  }
  template <int kRows>
  __device__ void operator()(const Row& of_row, const Needs& needs, int b, int row, float value,
                             bool valid) const {
    float square = 0;
    if (valid) {
      const float sum = needs.residual + value;
      to.residual[place(b, row)] = sum;
      to.normed[place(b, row)] = from_float<T>(sum * needs.factor * of_row.weight);
      square = sum * sum;
    }
#pragma unroll
    for (int mask = 1; mask < kRows; mask *= 2) square += __shfl_xor_sync(~0u, square, mask);
    if (valid && threadIdx.x % kRows == 0)
      to.squares[b * ceil_divide(static_cast<int>(to.product.rows), kRows) + row / kRows] = square;
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
using InTiling = StepTiling<T, 3, 4, 4>;
template <class T>
using RowsTiling = StepTiling<T, 1, 1, 1>;
template <class T>
using OutTiling = StepTiling<T, 1, 2, 2>;
template <class T>
using HeadTiling = StepTiling<T, 4, 4, 4>;

using WideIn = WideShape<4, 4, 256>;
using WideOut = WideShape<8, 4, 512>;

/// More sequences than a quarter of a warpgroup's product has, where there are warpgroups.
template <class T>
bool is_wide(int64_t batch) {
  bool wide = false;
  if constexpr (sizeof(T) == 2)
    return batch > kWideSequences / 4 && find_wide(step_head_kernel<T>, wide) == cudaSuccess && wide;
  return wide;
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

/// A block's embedding of its sequence's token. The first elements of a thread stay in registers.
template <class T>
class StepEmbedding {
 public:
  /// Loads what no kernel writes.
  __device__ __forceinline__ explicit StepEmbedding(const StepEmbed<T>& p) : p_(p) {
#pragma unroll
    for (int i = 0; i < kKept; ++i)
      if (element(i) < p.size) weights_[i] = usable_weight<T>(p.norm_weight[element(i)]);
  }

  __device__ __forceinline__ void store(int64_t b, int64_t token) const {
    const T* row = p_.embedding + (token < 0 ? 0 : token) * p_.size;
    float kept[kKept] = {}, square = 0;
    const auto enter = [&](int64_t k, float x) {
      p_.residual[b * p_.size + k] = x;
      square = fmaf(x, x, square);
    };
#pragma unroll
    for (int i = 0; i < kKept; ++i)
      if (element(i) < p_.size) kept[i] = to_float(row[element(i)]);
#pragma unroll
    for (int i = 0; i < kKept; ++i)
      if (element(i) < p_.size) enter(element(i), kept[i]);
    for (int64_t k = element(kKept); k < p_.size; k += kStepThreads) enter(k, to_float(row[k]));
    square = step_block_sum(square);
    const float rstd = rsqrtf(square / static_cast<float>(p_.size) + p_.eps);
    const auto norm = [&](int64_t k, float x, float weight) {
      p_.normed[b * p_.size + k] = from_float<T>(x * rstd * weight);
    };
#pragma unroll
    for (int i = 0; i < kKept; ++i)
      if (element(i) < p_.size) norm(element(i), kept[i], weights_[i]);
    for (int64_t k = element(kKept); k < p_.size; k += kStepThreads)
      norm(k, to_float(row[k]), usable_weight<T>(p_.norm_weight[k]));
    for (int64_t part = threadIdx.x; part < p_.parts; part += kStepThreads)
      p_.squares[b * p_.parts + part] = part == 0 ? square : 0.0f;
    if (threadIdx.x == 0) p_.factor[b] = rstd;
  }

 private:
  static constexpr int kKept = 4;
  static __device__ int64_t element(int i) { return threadIdx.x + i * kStepThreads; }

  const StepEmbed<T>& p_;
  float weights_[kKept] = {};
};

/// A block a sequence.
template <class T>
__global__ void __launch_bounds__(kStepThreads) step_embed_kernel(const __grid_constant__ StepEmbed<T> p) {
  const StepEmbedding<T> embedding(p);
  allow_dependent_launch();
  wait_for_previous_launch();
  embedding.store(blockIdx.x, load_fresh(p.tokens + blockIdx.x));
}

/// A block a sequence.
template <class T>
__global__ void __launch_bounds__(kStepThreads) step_next_kernel(const __grid_constant__ StepNext<T> p) {
  const StepEmbedding<T> embedding(p.embed);
  wait_for_previous_launch();
  constexpr int kAtOnce = 8;
  const int64_t b = blockIdx.x;
  const int position = load_fresh(p.position + b), parts = static_cast<int>(p.parts);
  const float* values = p.best_value + b * parts;
  const int32_t* tokens = p.best_token + b * parts;
  Candidate best = Candidate::none();
  for (int first = threadIdx.x; first < parts; first += kAtOnce * kStepThreads) {
    Candidate some[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int part = first + i * kStepThreads;
      some[i] = Candidate::none();
      if (part < parts) some[i] = {load_fresh(values + part), load_fresh(tokens + part)};
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) best.take_better(some[i]);
  }
  best.take_best_of_lanes<32>();
  __shared__ Candidate warps[kStepWarps];
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = best;
  __syncthreads();
  best = warps[threadIdx.x % kStepWarps];
  best.take_best_of_lanes<kStepWarps>();
  if (threadIdx.x == 0) {
    p.history[position * p.embed.batch + b] = best.token;
    p.position[b] = position + 1;
  }
  embedding.store(b, best.token);
}

template <class T>
bool takes_step_pieces(const StepProduct<T>& p) {
  return p.inner % kStepPiece<T> == 0 && is_aligned(p.x, 16) && is_aligned(p.weight, 16);
}

}  // namespace

// ---- launches ----

template <class T>
int64_t step_out_parts(int64_t batch, int64_t rows) {
  return is_wide<T>(batch) ? ceil_divide<int64_t>(rows, 32) : OutTiling<T>::parts(batch, rows);
}
template <class T>
int64_t step_head_parts(int64_t batch, int64_t rows, int64_t inner) {
  return is_wide<T>(batch) && fits_wide_head(inner) ? wide_head_parts(rows)
                                                    : HeadTiling<T>::parts(batch, rows);
}

template <class T>
cudaError_t launch_step_embed(const StepEmbed<T>& p) {
  return launch_dependent(step_embed_kernel<T>, static_cast<unsigned>(p.batch), kStepThreads, 0, p.stream, p);
}

template <class T>
cudaError_t launch_step_next(const StepNext<T>& p) {
  return launch_dependent(step_next_kernel<T>, static_cast<unsigned>(p.embed.batch), kStepThreads, 0,
                          p.embed.stream, p);
}

template <class T>
cudaError_t launch_step_in(const StepIn<T>& p) {
  if (!takes_step_pieces(p.product)) return cudaErrorInvalidValue;
  const FinishIn<T> finish{p, ActivationForm(p.activation)};
  if constexpr (sizeof(T) == 2)
    if (is_wide<T>(p.product.batch)) return run_step_wide<T, WideIn>(p.product, finish);
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
  if constexpr (sizeof(T) == 2)
    if (is_wide<T>(p.product.batch)) return run_step_wide<T, WideOut>(p.product, FinishOut<T>{p});
  return OutTiling<T>::run(p.product, FinishOut<T>{p});
}

template <class T>
cudaError_t launch_step_head(const StepHead<T>& p) {
  if (!takes_step_pieces(p.product)) return cudaErrorInvalidValue;
  if constexpr (sizeof(T) == 2)
    if (is_wide<T>(p.product.batch) && fits_wide_head(p.product.inner)) return run_step_head(p);
  return HeadTiling<T>::run(p.product, FinishHead<T>{{}, p});
}

template <class T, class State>
cudaError_t launch_step_scan1(const StepScan1<T, State>& p) {
  if (p.dt_rank > kStepMostDtRank || p.dt_rank % 4 != 0) return cudaErrorInvalidValue;
  if constexpr (sizeof(T) == 2)
    if (p.batch > kStepFew && p.dt_rank % 8 == 0) return run_step_scan1_many(p);
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
  return p.batch <= kStepFew ? with_ranks.template operator()<1>() : with_ranks.template operator()<4>();
}

template <class T, class State>
cudaError_t launch_step_scan2(const StepScan2<T, State>& p) {
  if (p.head_size % kStepHeadRows != 0 || p.states % 8 != 0 || p.states > kStepMostStates)
    return cudaErrorInvalidValue;
  // Where a warp a head is enough to keep the memory busy.
  if constexpr (sizeof(State) == 2)
    if (p.batch * p.heads >= kRingWarps * multiprocessors() && is_built_for_clusters(step_ring_kernel<T>))
      return run_step_ring(p);
  const int64_t blocks = p.batch * p.heads * p.head_size / kStepHeadRows;
  return launch_dependent(step_scan2_kernel<T, State>, static_cast<unsigned>(blocks), kScan2Threads, 0,
                          p.stream, p);
}

}  // namespace exactmamba::ops
