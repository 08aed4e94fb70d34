// A warp owns 32 · kVector channels of a chunk of consecutive positions. Its lanes keep the taps and the last
// inputs in registers and walk over time, so that a token's channels are read once, in one access each, but
// for the inputs before (and, backward, the gradients behind) the chunk. Tokens come through a ring in shared
// memory that each lane fills for itself several batches ahead: no barriers, and no registers for what is
// under way. The last chunks come first, for the second-level cache (see RowTeam::place).
#pragma once

#include <algorithm>

#include "models/ops/causal_conv1d/causal_conv1d_cuda_params.h"
#include "models/ops/causal_conv1d/causal_conv1d_projection_forward.cuh"
#include "models/ops/cuda/activation_form.cuh"
#include "models/ops/cuda/column_sums.cuh"
#include "models/ops/cuda/device_pack.cuh"
#include "models/ops/cuda/fast_math.cuh"
#include "models/ops/cuda/launch.h"

namespace exactmamba::ops {
namespace {

constexpr int kConvWarps = 4;

/// How a kernel walks: channels of a lane; positions of a batch, and batches in the ring; blocks of a
/// multiprocessor at least, which bounds the registers.
template <int kPackSize, int kBatchSize, int kBatches, int kResidentBlocks>
struct ConvWalk {
  static constexpr int kVector = kPackSize, kBatch = kBatchSize, kStages = kBatches,
                       kSlots = kBatch * kStages, kBlocks = kResidentBlocks;
};

/// How the positions are cut into chunks. Rows that lie one behind the other count as a single row.
struct ConvPlan {
  int row_length, steps, chunks_per_row, chunks, channel_blocks;
};

/// The sequence [begin, end) that a position lies in.
struct SequenceCursor {
  const int32_t* cu_seqlens;
  int length, index, begin, end;

  /// All lanes of the warp together.
  __device__ SequenceCursor(const int32_t* boundaries, int count, int row_length, int position)
      : cu_seqlens(boundaries), length(row_length) {
    if (!cu_seqlens) {
      index = position / length;
      begin = index * length;
      end = begin + length;
      return;
    }
    int low = 0, high = count;  // cu_seqlens[low] <= position < cu_seqlens[high]
    while (high - low > 1) {
      const int stride = (high - low + 31) / 32, probe = low + static_cast<int>(threadIdx.x % 32) * stride;
      const unsigned below = __ballot_sync(~0u, probe < high && cu_seqlens[probe] <= position);
      low += (__popc(below) - 1) * stride;
      high = min(low + stride, high);
    }
    index = low;
    begin = cu_seqlens[low];
    end = cu_seqlens[low + 1];
  }
  __device__ void advance() {
    ++index;
    begin = end;
    end = cu_seqlens ? cu_seqlens[index + 1] : end + length;
  }
};

/// What one lane keeps of its channels. Taps from `width` on are zero; taps and bias carry log₂e.
template <class T, int kVector, int kTaps>
struct ConvLane {
  float taps[kTaps][kVector];  // [lag]
  float bias[kVector];
  float window[kTaps - 1][kVector];  // [lag − 1]

  __device__ ConvLane(const CausalConv1dCudaParams<T>& params, int channel) {
    const int width = static_cast<int>(params.width);
    const float* weight = params.weight + int64_t(channel) * width;
    if (kTaps == 4 && width == 4 && reinterpret_cast<uintptr_t>(weight) % 16 == 0) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        const float4 row = reinterpret_cast<const float4*>(weight)[v];
        taps[3][v] = kLog2E * row.x, taps[2][v] = kLog2E * row.y;
        taps[1][v] = kLog2E * row.z, taps[0][v] = kLog2E * row.w;
      }
    } else {
#pragma unroll
      for (int k = 0; k < kTaps; ++k)
#pragma unroll
        for (int v = 0; v < kVector; ++v)
          taps[k][v] = k < width ? kLog2E * weight[v * width + width - 1 - k] : 0.0f;
    }
#pragma unroll
    for (int v = 0; v < kVector; ++v) bias[v] = params.bias ? kLog2E * params.bias[channel + v] : 0.0f;
  }

  /// The inputs before `position`: those of its sequence or the initial state. Only at the chunk's first
  /// position, which `x` points to, may there be any of the sequence.
  __device__ void fill_window(const CausalConv1dCudaParams<T>& params, const SequenceCursor& sequence,
                              int position, int channel, const T* x) {
    const int rows = static_cast<int>(params.width) - 1;
#pragma unroll
    for (int k = 0; k < kTaps - 1; ++k) {
      const int lag = k + 1, row = rows + position - lag - sequence.begin;
      if (position - lag >= sequence.begin) {
        load_floats(x - lag * params.x.token_stride, window[k]);
      } else {
        const float* state =
            params.initial_states + (int64_t(sequence.index) * params.channels + channel) * rows + row;
#pragma unroll
        for (int v = 0; v < kVector; ++v)
          window[k][v] = params.initial_states && row >= 0 ? state[v * rows] : 0.0f;
      }
    }
  }

  __device__ void store_final_state(const CausalConv1dCudaParams<T>& params, int sequence,
                                    int channel) const {
    const int rows = static_cast<int>(params.width) - 1;
    float* state = params.final_states + (int64_t(sequence) * params.channels + channel) * rows;
#pragma unroll
    for (int k = 0; k < kTaps - 1; ++k)
      if (k < rows)
#pragma unroll
        for (int v = 0; v < kVector; ++v) state[v * rows + rows - 1 - k] = window[k][v];
  }

  __device__ float convolved(const float (&x)[kVector], int v) const {
    float a = fmaf(taps[0][v], x[v], bias[v]);
#pragma unroll
    for (int k = 1; k < kTaps; ++k) a = fmaf(taps[k][v], window[k - 1][v], a);
    return a;
  }

  __device__ void shift(const float (&x)[kVector]) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
#pragma unroll
      for (int k = kTaps - 2; k > 0; --k) window[k][v] = window[k - 1][v];
      window[0][v] = x[v];
    }
  }
};

/// Where a chunk lies: positions [begin, end), inside one row.
struct ConvChunk {
  int row, begin, end;

  __device__ ConvChunk(const ConvPlan& plan, int chunk) {
    row = chunk / plan.chunks_per_row;
    const int row_begin = row * plan.row_length;
    begin = row_begin + (chunk - row * plan.chunks_per_row) * plan.steps;
    end = min(begin + plan.steps, row_begin + plan.row_length);
  }
  template <class T>
  __device__ T* pointer(const Rows<T>& rows, const ConvPlan& plan, int channel) const {
    return rows.data + row * rows.batch_stride + (begin - row * plan.row_length) * rows.token_stride +
           channel;
  }
};

/// The tokens of one warp under way, a column of packs per lane.
template <class T, class Walk>
class ConvRing {
 public:
  using Slots = DevicePack<T, Walk::kVector>[Walk::kSlots][32];

  __device__ ConvRing(Slots& slots, const T* from, int64_t stride)
      : slots_(slots), lane_(threadIdx.x % 32), from_(from), stride_(stride) {}

  /// Starts the copies of the next batch, whose positions are at most `count`.
  __device__ __forceinline__ void fetch(int count) {
#pragma unroll
    for (int i = 0; i < Walk::kBatch; ++i)
      if (i < count) start_copy(slots_[filled_ + i][lane_], from_ + i * stride_);
    from_ += Walk::kBatch * stride_;
    filled_ = filled_ + Walk::kBatch == Walk::kSlots ? 0 : filled_ + Walk::kBatch;
  }
  /// Position i of the oldest batch.
  __device__ __forceinline__ void read(int i, float (&to)[Walk::kVector]) const {
    unpack(slots_[oldest_ + i][lane_], to);
  }
  __device__ __forceinline__ void drop_batch() {
    oldest_ = oldest_ + Walk::kBatch == Walk::kSlots ? 0 : oldest_ + Walk::kBatch;
  }

 private:
  Slots& slots_;
  const int lane_;
  const T* from_;
  const int64_t stride_;
  int filled_ = 0, oldest_ = 0;
};

template <class T, class Walk, int kTaps, bool kKinked>
__global__ void __launch_bounds__(32 * kConvWarps, Walk::kBlocks)
    causal_conv1d_forward_kernel(const __grid_constant__ CausalConv1dCudaParams<T> params,
                                 const ConvPlan plan, const ActivationForm form) {
  constexpr int kVector = Walk::kVector, kBatch = Walk::kBatch;
  __shared__ typename ConvRing<T, Walk>::Slots slots[kConvWarps];
  const int unit = blockIdx.x * kConvWarps + threadIdx.x / 32, place = unit / plan.channel_blocks,
            index = plan.chunks - 1 - place;
  if (index < 0) return;
  const int channel = ((unit - place * plan.channel_blocks) * 32 + threadIdx.x % 32) * kVector;
  const ConvChunk chunk(plan, index);
  SequenceCursor sequence(params.cu_seqlens, params.sequence_count, params.x.length, chunk.begin);
  if (channel >= params.channels) return;

  const T* x = chunk.pointer(params.x, plan, channel);
  T* out = chunk.pointer(params.out, plan, channel);
  ConvRing<T, Walk> ring(slots[threadIdx.x / 32], x, params.x.token_stride);
#pragma unroll
  for (int stage = 0; stage < Walk::kStages - 1; ++stage) {
    ring.fetch(chunk.end - chunk.begin - stage * kBatch);
    close_copies();
  }
  ConvLane<T, kVector, kTaps> lane(params, channel);
  const auto convolve = [&](int i) {
    float input[kVector], result[kVector];
    ring.read(i, input);
#pragma unroll
    for (int v = 0; v < kVector; ++v) result[v] = form.value<kKinked>(lane.convolved(input, v));
    lane.shift(input);
    store_floats(out + i * params.out.token_stride, result);
  };

  int turn = chunk.begin;  // where the window is next filled anew
  for (int t = chunk.begin; t < chunk.end; t += kBatch) {
    ring.fetch(chunk.end - t - (Walk::kStages - 1) * kBatch);
    close_copies();
    wait_for_copies<Walk::kStages - 1>();
    if (t + kBatch <= min(chunk.end, turn)) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i) convolve(i);
    } else {
#pragma unroll 1
      for (int i = 0; i < kBatch && t + i < chunk.end; ++i) {
        if (t + i == turn) {
          if (turn == sequence.end) {
            if (params.final_states) lane.store_final_state(params, sequence.index, channel);
            sequence.advance();
          }
          lane.fill_window(params, sequence, t + i, channel, x);
          turn = sequence.end;
        }
        convolve(i);
      }
    }
    ring.drop_batch();
    out += kBatch * params.out.token_stride;
  }
  if (params.final_states && chunk.end == sequence.end)
    lane.store_final_state(params, sequence.index, channel);
}

/// The gradients that one lane gathers. Position t − 1 − j still lacks the gradients from t on: pending[j].
template <int kVector, int kTaps>
struct ConvGradients {
  float pending[kTaps - 1][kVector];
  float taps[kTaps][kVector] = {};  // times ln 2, like bias
  float bias[kVector] = {};

  __device__ void clear_pending() {
#pragma unroll
    for (int k = 0; k < kTaps - 1; ++k)
#pragma unroll
      for (int v = 0; v < kVector; ++v) pending[k][v] = 0;
  }
};

/// Adds up the warps of the block, which own the same channels, in a fixed order. A row of `partial` is
/// (D, W) for the taps and then (D) for the bias.
template <class T, int kVector, int kTaps>
__device__ void store_parameter_gradients(const CausalConv1dCudaParams<T>& params,
                                          const ConvGradients<kVector, kTaps>& gradients,
                                          float (&sums)[kConvWarps][kTaps + 1][32 * kVector]) {
  constexpr int kChannels = 32 * kVector;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int v = 0; v < kVector; ++v) {
#pragma unroll
    for (int k = 0; k < kTaps; ++k) sums[warp][k][lane * kVector + v] = gradients.taps[k][v];
    sums[warp][kTaps][lane * kVector + v] = gradients.bias[v];
  }
  __syncthreads();
  const int width = static_cast<int>(params.width);
  float* partial =
      static_cast<float*>(params.workspace) + int64_t(blockIdx.y) * params.channels * (width + 1);
  for (int i = threadIdx.x; i < (kTaps + 1) * kChannels; i += 32 * kConvWarps) {
    const int k = i / kChannels, c = i % kChannels, channel = blockIdx.x * kChannels + c;
    if (channel >= params.channels || (k >= width && k < kTaps)) continue;
    float total = 0;
#pragma unroll
    for (int w = 0; w < kConvWarps; ++w) total += sums[w][k][c];
    partial[k == kTaps ? params.channels * width + channel : int64_t(channel) * width + width - 1 - k] =
        kLog2E * total;
  }
}

template <class T, class Walk, int kTaps, bool kKinked>
__global__ void __launch_bounds__(32 * kConvWarps, Walk::kBlocks)
    causal_conv1d_backward_kernel(const __grid_constant__ CausalConv1dCudaParams<T> params,
                                  const ConvPlan plan, const ActivationForm form) {
  constexpr int kVector = Walk::kVector, kBatch = Walk::kBatch;
  using Slots = typename ConvRing<T, Walk>::Slots;
  __shared__ union {
    struct {
      Slots x, grad_out;
    } slots[kConvWarps];
    float sums[kConvWarps][kTaps + 1][32 * kVector];
  } shared;
  allow_dependent_launch();
  const int channel = (blockIdx.x * 32 + threadIdx.x % 32) * kVector;
  const int warp = threadIdx.x / 32, index = plan.chunks - 1 - (blockIdx.y * kConvWarps + warp);
  ConvGradients<kVector, kTaps> gradients;

  if (index >= 0) {
    const ConvChunk chunk(plan, index);
    SequenceCursor sequence(params.cu_seqlens, params.sequence_count, params.x.length, chunk.begin);
    if (channel < params.channels) {
      const T* x = chunk.pointer(params.x, plan, channel);
      T* grad_x = params.grad_x.data ? chunk.pointer(params.grad_x, plan, channel) : nullptr;
      ConvRing<T, Walk> inputs(shared.slots[warp].x, x, params.x.token_stride);
      ConvRing<T, Walk> outputs(shared.slots[warp].grad_out, chunk.pointer(params.grad_out, plan, channel),
                                params.grad_out.token_stride);
      // The last positions also need the gradients behind them, as far as their sequence goes.
      const int reach = min(chunk.end + kTaps - 1, (chunk.row + 1) * plan.row_length);
#pragma unroll
      for (int stage = 0; stage < Walk::kStages - 1; ++stage) {
        inputs.fetch(reach - chunk.begin - stage * kBatch);
        outputs.fetch(reach - chunk.begin - stage * kBatch);
        close_copies();
      }
      ConvLane<T, kVector, kTaps> lane(params, channel);
      int begin = chunk.begin;  // of the stretch of one sequence under way
      // `counts`: the position, number i of its batch, belongs to the chunk. `completes`: so does the one
      // kTaps − 1 before it, whose gradient is then complete.
      const auto differentiate = [&](int i, bool counts, bool completes) {
        float x_floats[kVector], grad[kVector], complete[kVector];
        inputs.read(i, x_floats);
        outputs.read(i, grad);
#pragma unroll
        for (int v = 0; v < kVector; ++v) {
          const float g = grad[v] * form.derivative<kKinked>(lane.convolved(x_floats, v));
          if (counts) {
            gradients.bias[v] += g;
            gradients.taps[0][v] = fmaf(g, x_floats[v], gradients.taps[0][v]);
#pragma unroll
            for (int k = 1; k < kTaps; ++k)
              gradients.taps[k][v] = fmaf(g, lane.window[k - 1][v], gradients.taps[k][v]);
          }
          complete[v] = fmaf(lane.taps[kTaps - 1][v], g, gradients.pending[kTaps - 2][v]);
#pragma unroll
          for (int k = kTaps - 2; k > 0; --k)
            gradients.pending[k][v] = fmaf(lane.taps[k][v], g, gradients.pending[k - 1][v]);
          gradients.pending[0][v] = lane.taps[0][v] * g;
        }
        lane.shift(x_floats);
        if (completes) store_floats(grad_x + (i - (kTaps - 1)) * params.grad_x.token_stride, complete);
      };

      int turn = chunk.begin;  // where the next stretch begins
      bool done = false;
      for (int t = chunk.begin; !done; t += kBatch) {
        inputs.fetch(reach - t - (Walk::kStages - 1) * kBatch);
        outputs.fetch(reach - t - (Walk::kStages - 1) * kBatch);
        close_copies();
        wait_for_copies<Walk::kStages - 1>();
        if (t + kBatch <= min(chunk.end, turn)) {
#pragma unroll
          for (int i = 0; i < kBatch; ++i) differentiate(i, true, grad_x && t + i - (kTaps - 1) >= begin);
        } else {
#pragma unroll 1
          for (int i = 0; i < kBatch; ++i) {
            const int position = t + i;
            if (position == turn) {
              if (turn == sequence.end) {
                if (grad_x) {  // what is pending is complete
#pragma unroll
                  for (int k = kTaps - 2; k >= 0; --k)
                    if (position - 1 - k >= begin && position - 1 - k < chunk.end)
                      store_floats(grad_x + (i - 1 - k) * params.grad_x.token_stride, gradients.pending[k]);
                }
                done = turn >= chunk.end;
                if (done) break;
                sequence.advance();
              }
              lane.fill_window(params, sequence, position, channel, x);
              gradients.clear_pending();
              begin = position;
              turn = sequence.end;
            }
            done = position == chunk.end + kTaps - 1;
            if (done) break;
            differentiate(i, position < chunk.end, grad_x && position - (kTaps - 1) >= begin);
          }
        }
        inputs.drop_batch();
        outputs.drop_batch();
        if (grad_x) grad_x += kBatch * params.grad_x.token_stride;
      }
    }
  }
  // A sequence may end with its chunk: then what was asked for behind it can still be under way.
  wait_for_copies<0>();
  if (!params.grad_weight && !params.grad_bias) return;
  __syncthreads();  // the rings give way to the sums
  store_parameter_gradients(params, gradients, shared.sums);
}

/// A thread per channel of a sequence.
template <class T>
__global__ void causal_conv1d_step_kernel(const __grid_constant__ CausalConv1dStepCudaParams<T> params,
                                          const ActivationForm form) {
  const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= params.batch * params.channels) return;
  const int64_t sequence = index / params.channels, channel = index - sequence * params.channels;
  const int width = static_cast<int>(params.width);
  float* state = params.state + index * (width - 1);
  const float* weight = params.weight + channel * width;
  const float x = to_float(params.x[sequence * params.x_stride + channel]);
  float a = params.bias ? params.bias[channel] : 0.0f;
  a = fmaf(weight[width - 1], x, a);
  float values[kMaxConvWidth];
#pragma unroll
  for (int r = 0; r < kMaxConvWidth - 1; ++r)
    if (r < width - 1) values[r] = state[r];
#pragma unroll
  for (int r = 0; r < kMaxConvWidth - 1; ++r)
    if (r < width - 1) {
      a = fmaf(weight[r], values[r], a);
      state[r] = r + 1 < width - 1 ? values[r + 1] : x;
    }
  params.out[sequence * params.out_stride + channel] = from_float<T>(form.value<true>(kLog2E * a));
}

template <class T>
cudaError_t checked(const CausalConv1dCudaParams<T>& params) {
  const bool fits = params.width >= 1 && params.width <= kMaxConvWidth &&
                    params.tokens < (int64_t(1) << 31) && params.channels < (int64_t(1) << 31);
  return fits ? cudaSuccess : cudaErrorInvalidValue;
}

template <class T>
bool takes_packs(const CausalConv1dCudaParams<T>& params, int vector) {
  return params.channels % vector == 0 && allows_packs(params.x, vector) &&
         allows_packs(params.out, vector) && allows_packs(params.grad_out, vector) &&
         allows_packs(params.grad_x, vector);
}

/// Chunks of at most `longest` positions, longer than which does not pay; shorter ones, down to `shortest`,
/// where these would leave warps of the device idle.
template <class T, class Walk>
ConvPlan make_plan(const CausalConv1dCudaParams<T>& params, int64_t shortest, int64_t longest) {
  const int64_t channel_blocks = ceil_divide<int64_t>(params.channels, 32 * Walk::kVector),
                warps = int64_t(multiprocessors()) * Walk::kBlocks * kConvWarps;
  const int64_t steps = std::clamp(params.tokens * channel_blocks / warps, shortest, longest);
  const bool flat = is_flat(params.x, params.tokens) && is_flat(params.out, params.tokens) &&
                    is_flat(params.grad_out, params.tokens) && is_flat(params.grad_x, params.tokens);
  ConvPlan plan;
  plan.row_length = static_cast<int>(flat ? params.tokens : params.x.length);
  plan.steps =
      static_cast<int>(ceil_divide<int64_t>(std::min<int64_t>(steps, plan.row_length), Walk::kBatch)) *
      Walk::kBatch;
  plan.chunks_per_row = ceil_divide(plan.row_length, plan.steps);
  plan.chunks = plan.chunks_per_row * static_cast<int>(params.tokens / plan.row_length);
  plan.channel_blocks = static_cast<int>(channel_blocks);
  return plan;
}
/// A chunk reads a few positions again that belong to its neighbours, which the caches mostly hold.
template <class T, class Walk>
ConvPlan forward_plan(const CausalConv1dCudaParams<T>& params) {
  return make_plan<T, Walk>(params, 8, 32);
}
/// Here it also computes their gradients again, and each leaves partial sums.
template <class T, class Walk>
ConvPlan backward_plan(const CausalConv1dCudaParams<T>& params) {
  return make_plan<T, Walk>(params, 16, 96);
}

template <class T, class Walk, int kTaps, bool kKinked>
cudaError_t run_forward(const CausalConv1dCudaParams<T>& params, const ActivationForm& form) {
  const ConvPlan plan = forward_plan<T, Walk>(params);
  const int64_t units = int64_t(plan.chunks) * plan.channel_blocks;
  causal_conv1d_forward_kernel<T, Walk, kTaps, kKinked>
      <<<static_cast<unsigned>(ceil_divide<int64_t>(units, kConvWarps)), 32 * kConvWarps, 0, params.stream>>>(
          params, plan, form);
  return cudaGetLastError();
}

template <class T, class Walk, int kTaps, bool kKinked>
cudaError_t run_backward(const CausalConv1dCudaParams<T>& params, const ActivationForm& form) {
  const ConvPlan plan = backward_plan<T, Walk>(params);
  const int parts = ceil_divide(plan.chunks, kConvWarps);
  if (parts > 65535) return cudaErrorInvalidValue;
  causal_conv1d_backward_kernel<T, Walk, kTaps, kKinked>
      <<<dim3(plan.channel_blocks, parts), 32 * kConvWarps, 0, params.stream>>>(params, plan, form);
  if (const cudaError_t error = cudaGetLastError()) return error;
  if (!params.grad_weight && !params.grad_bias) return cudaSuccess;
  const int64_t weights = params.channels * params.width;
  return launch_column_sums({static_cast<const float*>(params.workspace), parts, weights + params.channels,
                             weights, params.grad_weight, params.grad_bias},
                            params.stream);
}

/// More than four taps take more registers.
template <class Walk>
using WideWalk = ConvWalk<Walk::kVector, Walk::kBatch, Walk::kStages, 2>;

/// Calls run.operator()<Walk, kTaps, kKinked>() for the parameters: four or eight taps, packs or single
/// channels.
template <class T, class PackWalk, class SingleWalk, class Run>
cudaError_t dispatch_conv(const CausalConv1dCudaParams<T>& params, const ActivationForm& form,
                          const Run& run) {
  const auto with_activation = [&]<class Walk, int kTaps>() {
    return form.is_kinked() ? run.template operator()<Walk, kTaps, true>()
                            : run.template operator()<Walk, kTaps, false>();
  };
  const auto with_taps = [&]<class Walk>() {
    return params.width <= 4 ? with_activation.template operator()<Walk, 4>()
                             : with_activation.template operator()<WideWalk<Walk>, 8>();
  };
  return takes_packs(params, PackWalk::kVector) ? with_taps.template operator()<PackWalk>()
                                                : with_taps.template operator()<SingleWalk>();
}

using ForwardWalk = ConvWalk<4, 4, 4, 5>;
template <class T>
using BackwardWalk = ConvWalk<4, 4, sizeof(T) == 2 ? 4 : 3, 4>;
using SingleWalk = ConvWalk<1, 4, 2, 4>;

}  // namespace

template <class T>
bool causal_conv1d_forward_projects(const CausalConv1dCudaParams<T>& params) {
  if constexpr (sizeof(T) == 2) return projected::is_taken_forward(params);
  return false;
}
template <class T>
bool causal_conv1d_backward_projects(const CausalConv1dCudaParams<T>& params) {
  if constexpr (sizeof(T) == 2) return projected::is_taken(params);
  return false;
}

template <class T>
size_t causal_conv1d_backward_workspace(const CausalConv1dCudaParams<T>& params) {
  if (params.tokens == 0 || params.channels == 0) return 0;
  if constexpr (sizeof(T) == 2)
    if (params.projected_columns) return projected::workspace(params);
  size_t bytes = 0;
  const auto measure = [&]<class Walk, int kTaps, bool kKinked>() {
    const int parts = ceil_divide(backward_plan<T, Walk>(params).chunks, kConvWarps);
    bytes = sizeof(float) * parts * params.channels * (params.width + 1);
    return cudaSuccess;
  };
  dispatch_conv<T, BackwardWalk<T>, SingleWalk>(params, ActivationForm(params.activation), measure);
  return bytes;
}

template <class T>
cudaError_t launch_causal_conv1d_forward(const CausalConv1dCudaParams<T>& params) {
  if (const cudaError_t error = checked(params)) return error;
  if (params.tokens == 0 || params.channels == 0) return cudaSuccess;
  if (params.projected_columns) {
    if constexpr (sizeof(T) == 2) return projected::launch_forward(params);
    return cudaErrorInvalidValue;
  }
  const ActivationForm form(params.activation);
  return dispatch_conv<T, ForwardWalk, SingleWalk>(params, form, [&]<class Walk, int kTaps, bool kKinked>() {
    return run_forward<T, Walk, kTaps, kKinked>(params, form);
  });
}

template <class T>
cudaError_t launch_causal_conv1d_backward(const CausalConv1dCudaParams<T>& params) {
  if (const cudaError_t error = checked(params)) return error;
  if (params.tokens == 0 || params.channels == 0) return cudaSuccess;
  if (params.projected_columns) {
    if constexpr (sizeof(T) == 2) return projected::launch(params);
    return cudaErrorInvalidValue;
  }
  const ActivationForm form(params.activation);
  return dispatch_conv<T, BackwardWalk<T>, SingleWalk>(
      params, form, [&]<class Walk, int kTaps, bool kKinked>() {
        return run_backward<T, Walk, kTaps, kKinked>(params, form);
      });
}

template <class T>
cudaError_t launch_causal_conv1d_step(const CausalConv1dStepCudaParams<T>& params) {
  if (params.width < 1 || params.width > kMaxConvWidth) return cudaErrorInvalidValue;
  const int64_t count = params.batch * params.channels;
  if (count == 0) return cudaSuccess;
  constexpr int kThreads = 128;
  causal_conv1d_step_kernel<T>
      <<<static_cast<unsigned>(ceil_divide<int64_t>(count, kThreads)), kThreads, 0, params.stream>>>(
          params, ActivationForm(params.activation));
  return cudaGetLastError();
}

}  // namespace exactmamba::ops
