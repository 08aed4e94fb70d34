// The convolution together with a projection of its output, projected = out · Wᵀ (x_proj of Mamba-1), for 16
// bits on sm_90a: out is multiplied while it is in shared memory, on its way to memory.
//
// A block is a warpgroup. It has 64 tokens, 16 of each warp, and goes over their channels, 64 at a time: a
// lane walks over its warp's tokens with two channels and leaves the outputs in memory and in a tile, which
// is the left operand of a product whose sums stay in registers to the last channel.
#pragma once

#include "models/ops/causal_conv1d/causal_conv1d_projection.cuh"

namespace exactmamba::ops {
namespace projected {

constexpr int kForwardTokens = 64, kWarpTokens = kForwardTokens / 4, kForwardStages = 2, kForwardBlocks = 4;
// A stage, in bytes: rows of W, 64 channels each; rows of x, from three tokens before the block's on. Behind
// the stages the tile of outputs.
constexpr int kXAt = kColumns * 128,
              kForwardStageBytes = ceil_divide(kXAt + (kForwardTokens + 3) * 128, 1024) * 1024,
              kOutAt = kForwardStages * kForwardStageBytes;
constexpr size_t kForwardSharedBytes = kOutAt + kForwardTokens * 128;

/// Bit i: a sequence starts at token `first` − 3 + i. All lanes of the warp together.
template <class T>
__device__ unsigned starts_around(const CausalConv1dCudaParams<T>& params, int first) {
  const int lane = threadIdx.x % 32, token = first - (kTaps - 1), length = static_cast<int>(params.x.length);
  if (!params.cu_seqlens) return __ballot_sync(~0u, (token + lane) % length == 0);
  const int count = static_cast<int>(params.sequence_count),
            index = first_start_from(params.cu_seqlens, count, token) + lane,
            offset = index < count ? params.cu_seqlens[index] - token : 32;
  return __reduce_or_sync(~0u, offset < 32 ? 1u << offset : 0u);
}

/// Copies W and x of 64 channels into a stage. What W lacks of kColumns rows is cleared beforehand.
template <class T>
class ForwardCopies {
 public:
  __device__ ForwardCopies(const CausalConv1dCudaParams<T>& params, uint32_t shared, int first, bool inner)
      : params_(params),
        rows_(static_cast<int>(params.projected_columns)),
        first_(first),
        inner_(inner),
        row_(threadIdx.x / 8),
        to_(pinned(shared + row_ * 128)),
        piece_(pinned(threadIdx.x % 8)),
        x_from_(pinned((first - (kTaps - 1) + row_) * static_cast<int>(params.x.token_stride) + piece_ * 8)),
        w_from_(pinned(row_ * static_cast<int>(params.channels) + piece_ * 8)) {
    for (int stage = 0; stage < kForwardStages; ++stage)
      for (int i = 0; i < kColumns / 16; ++i)
        if (row_ + 16 * i >= rows_) store_piece(stage * kForwardStageBytes + w_at(i), make_uint4(0, 0, 0, 0));
  }

  __device__ __forceinline__ void start(int stage, int channel) const {
    const int bytes = stage * kForwardStageBytes, channels = static_cast<int>(params_.channels),
              stride = static_cast<int>(params_.x.token_stride);
#pragma unroll
    for (int i = 0; i < kColumns / 16; ++i)
      if (row_ + 16 * i < rows_)
        copy_async_or_zero(bytes + w_at(i), params_.projection + (w_from_ + 16 * i * channels + channel),
                           true);
#pragma unroll
    for (int i = 0; i < 5; ++i) {
      const uint32_t to = bytes + to_ + kXAt + i * (16 * 128) + piece_ * 16;
      const T* const from = params_.x.data + (x_from_ + 16 * i * stride + channel);
      if (i == 4 && row_ >= kTaps - 1) break;
      if (inner_) {
        copy_async_or_zero(to, from, true);
      } else {
        const int token = first_ - (kTaps - 1) + row_ + 16 * i;
        const bool exists = token >= 0 && token < params_.tokens;
        copy_async_or_zero(to, exists ? from : params_.x.data, exists);
      }
    }
    close_copies();
  }

 private:
  __device__ __forceinline__ uint32_t w_at(int i) const {
    return to_ + i * (16 * 128) + (piece_ ^ row_ % 8) * 16;  // as tile_address
  }

  const CausalConv1dCudaParams<T>& params_;
  const int rows_, first_;
  const bool inner_;
  const int row_;
  const uint32_t to_;
  const int piece_, x_from_, w_from_;
};

/// The taps of a lane's two channels, and their bias.
struct ForwardTaps {
  float4 rows[2];  // from the oldest lag to the newest
  float bias[2];

  template <class T>
  __device__ __forceinline__ void load(const CausalConv1dCudaParams<T>& params, int channel) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      rows[e] = __ldg(reinterpret_cast<const float4*>(params.weight) + channel + e);
      bias[e] = params.bias ? __ldg(params.bias + channel + e) : 0.f;
    }
  }
};

/// A warp's part of the block's tokens.
template <class T, bool kKinked>
struct ForwardWarp {
  const CausalConv1dCudaParams<T>& params;
  const ActivationForm& form;
  int first;        // token
  unsigned around;  // starts_around()
  bool inner;       // all tokens of the block exist

  /// The outputs of two channels from `channel` on. `x`: the lane's word of the row three tokens before the
  /// first; `out`: the tile of the block.
  template <class Broken>
  __device__ __forceinline__ void convolve(uint32_t x, uint32_t out, int channel, const ForwardTaps& raw,
                                           Broken) const {
    float taps[2][kTaps], bias[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      taps[e][3] = kLog2E * raw.rows[e].x, taps[e][2] = kLog2E * raw.rows[e].y;
      taps[e][1] = kLog2E * raw.rows[e].z, taps[e][0] = kLog2E * raw.rows[e].w;
      bias[e] = kLog2E * raw.bias[e];
    }
    float2 window[kTaps];  // [lag]
#pragma unroll
    for (int k = 1; k < kTaps; ++k) window[k] = unpack_pair<T>(load_word(x + (kTaps - 1 - k) * 128));
    T* to = params.out.data + (first * static_cast<int>(params.out.token_stride) + channel);
    const int end = static_cast<int>(params.tokens) - first, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kWarpTokens; ++i) {
      window[0] = unpack_pair<T>(load_word(x + (kTaps - 1 + i) * 128));
      float values[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float a = bias[e];
#pragma unroll
        for (int k = 0; k < kTaps; ++k) {
          const bool joined = !Broken::value || (around >> (i + kTaps - k) & ((1u << k) - 1)) == 0;
          a = fmaf(taps[e][k], joined ? (e ? window[k].y : window[k].x) : 0.f, a);
        }
        values[e] = form.value<kKinked>(a);
      }
      const uint32_t word = pack_pair<T>(values[0], values[1]);
      asm volatile("st.shared.u32 [%0], %1;" ::"r"(tile_address<64>(out, warp * kWarpTokens + i, lane / 4) +
                                                   lane % 4 * 4),
                   "r"(word)
                   : "memory");
      if (inner || i < end) *reinterpret_cast<uint32_t*>(to) = word;
      to += params.out.token_stride;
#pragma unroll
      for (int k = kTaps - 1; k > 0; --k) window[k] = window[k - 1];
    }
  }
};

/// Empty where there are no warpgroups.
template <class T, bool kKinked>
__global__ void __launch_bounds__(wide_threads(kThreads), kForwardBlocks)
    forward_kernel(const __grid_constant__ CausalConv1dCudaParams<T> params,
                   const __grid_constant__ ActivationForm form) {
  if constexpr (kHasWarpgroups) {
    extern __shared__ __align__(1024) unsigned char stages[];
    const uint32_t shared = shared_address(stages);
    // The last tokens come first, for the second-level cache.
    const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kForwardTokens, warp = threadIdx.x / 32,
              lane = threadIdx.x % 32, own = first + warp * kWarpTokens,
              channels = static_cast<int>(params.channels);
    const bool inner = first > 0 && first + kForwardTokens <= params.tokens;
    const ForwardCopies<T> copies(params, shared, first, inner);
    copies.start(0, 0);
    ForwardTaps taps;
    taps.load(params, 2 * lane);
    const ForwardWarp<T, kKinked> own_tokens{params, form, own, starts_around(params, own), inner};
    const bool broken = own_tokens.around & ((1u << (kWarpTokens + kTaps - 1)) - 2);
    float sums[8][4] = {}, rest[4][4] = {};  // 64 columns and 32
    int stage = 0;
#pragma unroll 1
    for (int block = 0; block < channels; block += kChannels, stage ^= 1) {
      wait_for_copies<0>();
      publish_copies();
      __syncthreads();  // everybody's copies; the other stage and the tile of outputs are free
      const uint32_t at = shared + stage * kForwardStageBytes, out = shared + kOutAt,
                     x = at + kXAt + warp * (kWarpTokens * 128) + lane * 4;
      const ForwardTaps now = taps;
      if (block + kChannels < channels) {
        copies.start(stage ^ 1, block + kChannels);
        taps.load(params, block + kChannels + 2 * lane);
      }
      if (broken)
        own_tokens.convolve(x, out, block + 2 * lane, now, std::true_type{});
      else
        own_tokens.convolve(x, out, block + 2 * lane, now, std::false_type{});
      publish_copies();
      __syncthreads();
      const uint32_t left = wide_tile(out), right = wide_tile(at);
      take_sums(sums), take_sums(rest);
      begin_products();
#pragma unroll
      for (int k = 0; k < kChannels / 16; ++k) {
        multiply_wide<T, false>(sums, left + wide_offset(k * 32), right + wide_offset(k * 32), true);
        multiply_narrow<T, false>(rest, left + wide_offset(k * 32), right + wide_offset(64 * 128 + k * 32));
      }
      end_products();
      take_sums(sums), take_sums(rest);
    }
#pragma unroll
    for (int m = 0; m < kColumns / 8; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int token = own + lane / 4 + 8 * half, column = 8 * m + lane % 4 * 2;
        const float(&tile)[4] = m < 8 ? sums[m % 8] : rest[m % 4];
        if (token < params.tokens && column < params.projected_columns)
          *reinterpret_cast<uint32_t*>(params.projected.data + token * params.projected.token_stride +
                                       column) = pack_pair<T>(tile[2 * half], tile[2 * half + 1]);
      }
  }
}

template <class T>
bool is_taken_forward(const CausalConv1dCudaParams<T>& params) {
  bool wide = false;
  if (find_wide(forward_kernel<T, false>, wide) || !wide) return false;
  return params.width == kTaps && is_aligned(params.weight, 16) && !params.final_states &&
         has_shape(params) && has_pieces(params.x, params) && has_pieces(params.out, params) &&
         has_pieces(params.projected, params);
}

template <class T>
cudaError_t launch_forward(const CausalConv1dCudaParams<T>& params) {
  if (!is_taken_forward(params)) return cudaErrorInvalidValue;
  const ActivationForm form(params.activation);
  const auto kernel = form.is_kinked() ? forward_kernel<T, true> : forward_kernel<T, false>;
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kForwardSharedBytes))
    return error;
  kernel<<<static_cast<unsigned>(ceil_divide<int64_t>(params.tokens, kForwardTokens)), kThreads,
           kForwardSharedBytes, params.stream>>>(params, form);
  return cudaGetLastError();
}

}  // namespace projected
}  // namespace exactmamba::ops
