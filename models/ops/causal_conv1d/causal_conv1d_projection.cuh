// Backward of the convolution together with a projection of its output, projected = out · Wᵀ (x_proj of
// Mamba-1), for 16 bits on sm_90a: the gradient that comes through the projection is made where it is used,
// and so is the output, which the gradient of W needs. Neither passes through memory.
//
// A block is a warpgroup. It walks over a slab of tokens from its end, 32 at a time, with 64 channels, 16 of
// each warp. A lane has two neighbouring channels and, as columns 2c and 2c + 1 (c = lane % 4) of a product's
// four tiles of eight tokens, the tokens 8c … 8c + 7: column 2c + e of tile n is token 8c + 2n + e. Rows of
// the products are channels, row r of a warp's is channel r % 8 · 2 + r / 8.
#pragma once

#include <algorithm>
#include <type_traits>

#include "models/ops/causal_conv1d/causal_conv1d_cuda_params.h"
#include "models/ops/cuda/activation_form.cuh"
#include "models/ops/cuda/column_sums.cuh"
#include "models/ops/cuda/device_pack.cuh"
#include "models/ops/cuda/fast_math.cuh"
#include "models/ops/cuda/launch.h"
#include "models/ops/cuda/multiply_add.cuh"
#include "models/ops/cuda/sequence_search.cuh"
#include "models/ops/cuda/warpgroup.cuh"

namespace exactmamba::ops {
namespace projected {

constexpr int kThreads = 128, kWarpChannels = 16, kChannels = kThreads / 32 * kWarpChannels,
              kBlocks = 3;  // of a multiprocessor
constexpr int kTokens = 32, kTaps = 4, kColumns = 96, kStages = 3;
// As many columns as mamba1-370m has: 64 of dt, 16 of B, 16 of C. A stage, in bytes: ∂projected as two tiles
// of 64 columns, the second one half empty, rows in the order of the products; x from three tokens before the
// tile on; ∂out. In these the tokens t and t + 8 lie in neighbouring rows, which have 32 bytes more than they
// need: what a warp reads at once lies in different banks.
constexpr int kColumnTile = kTokens * 128, kPitch = 2 * kChannels + 32, kInputRows = 5;
constexpr int kInputsAt = 2 * kColumnTile, kGradsAt = kInputsAt + 8 * kInputRows * kPitch,
              kStageBytes = ceil_divide(kGradsAt + kTokens * kPitch, 1024) * 1024;
// Behind the stages W, rows of 64 channels.
constexpr int kWeightsAt = kStages * kStageBytes;
constexpr size_t kSharedBytes = kWeightsAt + size_t{kColumns} * 128;

__device__ constexpr int row_of(int token) { return token % 8 * 4 + token / 8; }
/// `token` may be up to eight before the tile.
__device__ constexpr int input_row_of(int token) { return (token + 8) % 8 * kInputRows + (token + 8) / 8; }
/// The column of the products.
__device__ constexpr int column_of(int token) { return token % 8 / 2 * 8 + token / 8 * 2 + token % 2; }

struct Plan {
  int tokens, tiles, slab_tiles, slabs;
};

template <class T>
Plan make_plan(const CausalConv1dCudaParams<T>& params) {
  Plan plan;
  plan.tokens = static_cast<int>(params.tokens);
  plan.tiles = ceil_divide(plan.tokens, kTokens);
  const int blocks = static_cast<int>(params.channels / kChannels),
            most = std::max(1, kBlocks * multiprocessors() / blocks);
  plan.slab_tiles = ceil_divide(plan.tiles, std::min(most, plan.tiles));
  plan.slabs = ceil_divide(plan.tiles, plan.slab_tiles);
  return plan;
}

/// Where sequences start around a tile of tokens of all rows. Goes from the last tile to the first; the same
/// in all lanes.
class StartsAround {
 public:
  template <class T>
  __device__ StartsAround(const CausalConv1dCudaParams<T>& params, int end)
      : cu_seqlens_(params.cu_seqlens), length_(static_cast<int>(params.x.length)) {
    // The last one that starts before `end`.
    index_ = cu_seqlens_ ? first_start_from(cu_seqlens_, static_cast<int>(params.sequence_count), end) - 1
                         : (end - 1) / length_;
    start_ = start_of(index_);
  }
  /// To the tile in front of the last one, or at first the one that begins at `token`.
  __device__ void retreat(int token) {
    bits_ <<= kTokens;
    while (index_ >= 0 && start_ >= token - (kTaps - 1)) {
      bits_ |= uint64_t{1} << (start_ - token + kTaps - 1);
      if (--index_ >= 0) start_ = start_of(index_);
    }
  }
  /// Whether one starts where a token of the tile and its last inputs or next outputs are of two sequences.
  __device__ bool any() const {
    constexpr int kReach = kTokens + 2 * (kTaps - 1);
    return bits_ & ((uint64_t{1} << kReach) - 2);
  }
  /// Bit i: token `token` − 3 + i.
  __device__ unsigned around(int token) const { return static_cast<unsigned>(bits_ >> token); }

 private:
  __device__ int start_of(int index) const { return cu_seqlens_ ? cu_seqlens_[index] : index * length_; }
  const int32_t* cu_seqlens_;
  int length_, index_, start_;
  uint64_t bits_ = 0;  // bit i: token i − 3 of the tile
};

/// Copies tiles into their stages.
template <class T>
class Copies {
 public:
  __device__ Copies(const CausalConv1dCudaParams<T>& params, int tokens, uint32_t shared)
      : params_(params),
        tokens_(tokens),
        shared_(shared),
        thread_(pinned(threadIdx.x)),
        x_(pinned(kInputsAt + input_row_of(thread_ / 8 - (kTaps - 1)) * kPitch + thread_ % 8 * 16),
           pinned((thread_ / 8 - (kTaps - 1)) * stride(params.x) + channel())),
        grad_(pinned(kGradsAt + row_of(thread_ / 8) * kPitch + thread_ % 8 * 16),
              pinned(thread_ / 8 * stride(params.grad_out) + channel())),
        projected_(pinned(column_of(thread_ / 4) * 128),
                   pinned(thread_ / 4 * stride(params.grad_projected) + thread_ % 4 * 8)) {
    // What lies behind the columns of ∂projected and the rows of W is multiplied, too.
    for (int stage = 0; stage < kStages; ++stage)
      for (int i = 0; i < kColumns / 32; ++i)
        if (!has_column(i)) store_piece(shared + stage * kStageBytes + column_at(i), make_uint4(0, 0, 0, 0));
    // Rows of the products: channels 2q and 2q + 1 of a warp's are 8 apart.
    const int pair = thread_ % 32, q = pair % 8;
    for (int column = thread_ / 32; column < kColumns; column += kThreads / 32) {
      DevicePack<T, 2> channels = {};
      if (column < params.projected_columns)
        channels =
            load_pack<2>(params.projection + column * params.channels + blockIdx.x * kChannels + 2 * pair);
#pragma unroll
      for (int e = 0; e < 2; ++e)
        asm volatile("st.shared.u16 [%0], %1;" ::"r"(
                         tile_address<64>(shared + kWeightsAt, column, pair / 8 * 2 + e) + q * 2),
                     "h"(reinterpret_cast<const uint16_t*>(&channels)[e])
                     : "memory");
    }
  }

  __device__ __forceinline__ void start(int tile, int stage) const {
    const int token = tile * kTokens;
    if (token > 0 && token + kTokens <= tokens_)
      start(token, stage, std::true_type{});
    else
      start(token, stage, std::false_type{});
  }

 private:
  /// Of the thread's first piece: where it goes within a stage, and the element where it comes from in the
  /// tile at token 0.
  struct Piece {
    uint32_t to;
    int from;
    __device__ Piece(int place, int element) : to(place), from(element) {}
  };

  __device__ int channel() const { return blockIdx.x * kChannels + thread_ % 8 * 8; }
  __device__ bool has_column(int i) const { return thread_ % 4 * 8 + 32 * i < params_.projected_columns; }
  /// Where piece thread % 4 + 4 i of ∂projected goes within a stage.
  __device__ __forceinline__ uint32_t column_at(int i) const {
    const int piece = thread_ % 4 + 4 * i;
    return tile_address<64>(projected_.to, 0, piece % 8 ^ column_of(thread_ / 4) % 8) +
           piece / 8 * kColumnTile;
  }
  template <class R>
  __device__ static int stride(const Rows<R>& rows) {
    return static_cast<int>(rows.token_stride);
  }

  /// Inner: all tokens exist.
  template <class Inner>
  __device__ __forceinline__ void start(int token, int stage, Inner inner) const {
    const uint32_t to = shared_ + stage * kStageBytes;
    // Sixteen tokens further on is two rows.
#pragma unroll
    for (int i = 0; i < 3; ++i)
      if (i < 2 || thread_ < 8 * (kTaps - 1))
        copy(to + x_.to + 2 * i * kPitch, params_.x, x_.from + (token + 16 * i) * stride(params_.x),
             token + thread_ / 8 - (kTaps - 1) + 16 * i, inner);
#pragma unroll
    for (int i = 0; i < 2; ++i)
      copy(to + grad_.to + 2 * i * kPitch, params_.grad_out,
           grad_.from + (token + 16 * i) * stride(params_.grad_out), token + thread_ / 8 + 16 * i, inner);
#pragma unroll
    for (int i = 0; i < kColumns / 32; ++i)
      if (has_column(i))
        copy(to + column_at(i), params_.grad_projected,
             projected_.from + token * stride(params_.grad_projected) + 32 * i, token + thread_ / 4, inner);
  }
  /// A piece of token t, zeros where there is none.
  template <class Inner>
  __device__ __forceinline__ void copy(uint32_t to, const Rows<const T>& rows, int element, int t,
                                       Inner) const {
    const bool exists = Inner::value || (t >= 0 && t < tokens_);
    copy_async_or_zero(to, exists ? rows.data + element : rows.data, exists);
  }

  const CausalConv1dCudaParams<T>& params_;
  const int tokens_;
  const uint32_t shared_;
  const int thread_;
  const Piece x_, grad_, projected_;
};

__device__ __forceinline__ uint32_t load_word(uint32_t address) {
  uint32_t word;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
  return word;
}

/// One warp's 16 channels of a slab. [2]: the lane's channels.
template <class T, bool kKinked>
class Walker {
 public:
  __device__ Walker(const CausalConv1dCudaParams<T>& params, const ActivationForm& form, uint32_t shared)
      : params_(params),
        form_(form),
        lane_(threadIdx.x % 32),
        quarter_(pinned(lane_ % 4)),
        warp_(threadIdx.x / 32),
        channel_(blockIdx.x * kChannels + warp_ * kWarpChannels + lane_ / 4 * 2),
        weights_(wide_tile(shared + kWeightsAt)),
        own_(pinned(warp_ * (2 * kWarpChannels) + lane_ / 4 * 4 + quarter_ * kPitch)) {
    const int width = static_cast<int>(params.width);
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float* const weight = params.weight + int64_t(channel_ + e) * width;
      bias_[e] = params.bias ? kLog2E * params.bias[channel_ + e] : 0.f;
#pragma unroll
      for (int k = 0; k < kTaps; ++k) taps_[e][k] = k < width ? kLog2E * weight[width - 1 - k] : 0.f;
    }
  }

  /// `stage`: the tile's address. ∂x takes the place of ∂out. `counts`: the tile is one of the slab's, and
  /// not the one behind it, of which only the gradients are wanted that reach into the slab.
  __device__ __forceinline__ void tile(uint32_t stage, const StartsAround& starts, bool counts) {
    const uint32_t input = stage + kInputsAt + own_;
    float grad[4][4];  // [tile][2 · channel + e]: of the outputs
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float2 pair = unpack_pair<T>(load_word(stage + kGradsAt + own_ + i * (4 * kPitch)));
      grad[i / 2][i % 2] = pair.x, grad[i / 2][2 + i % 2] = pair.y;
    }
    const uint32_t projected = wide_tile(stage);
    take_sums(grad);
    begin_products();
#pragma unroll
    for (int k = 0; k < kColumns / 16; ++k)
      multiply_narrow<T, true>(grad, weights_ + wide_offset(k * 2048),
                               projected + wide_offset(k / 4 * kColumnTile + k % 4 * 32));
    commit_products();
    uint32_t x[kBefore + kOwn];
#pragma unroll
    for (int i = 0; i < kBefore + kOwn; ++i)
      x[i] = load_word(input + (i + kOwn - kBefore) % 8 * (kInputRows * kPitch) +
                       (i + kOwn - kBefore) / 8 * kPitch);
    wait_products<0>();
    take_sums(grad);
    uint32_t out[2][4];
    if (starts.any())
      convolve(input, x, grad, out, counts, starts.around(8 * quarter_), std::true_type{});
    else
      convolve(input, x, grad, out, counts, 0u, std::false_type{});

    begin_products();
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const uint32_t left[4] = {out[0][2 * k], out[1][2 * k], out[0][2 * k + 1], out[1][2 * k + 1]};
      multiply_wide<T>(grad_projection_, left, projected + wide_offset(k * 2048), true);
      multiply_narrow<T>(grad_projection_rest_, left, projected + wide_offset(kColumnTile + k * 2048));
    }
    end_products();
    take_sums(grad_projection_), take_sums(grad_projection_rest_);
  }

  /// ∂x of the tile that begins at `token`.
  __device__ __forceinline__ void store_tile(uint32_t stage, int token, int tokens) const {
    if (!params_.grad_x.data) return;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = lane_ / 2 + 16 * i, piece = lane_ % 2, t = token + row % 4 * 8 + row / 4;
      const uint4 v = load_piece(stage + kGradsAt + row * kPitch + warp_ * (2 * kWarpChannels) + piece * 16);
      T* const to = params_.grad_x.data +
                    (t * static_cast<int>(params_.grad_x.token_stride) +
                     static_cast<int>(blockIdx.x) * kChannels + warp_ * kWarpChannels + piece * 8);
      // As one access, whatever the compiler would rather do.
      if (t < tokens)
        asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z),
                     "r"(v.w)
                     : "memory");
    }
  }

  /// The sums of a slab: `partial` (D, W), (D) and `partial_projection` (P, D).
  __device__ void store_sums(float* partial, float* partial_projection) {
    const int64_t channels = params_.channels, width = params_.width;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int64_t channel = channel_ + e;
      const float bias = sum_of_quarters(grad_bias_[e]);
      if (quarter_ == 0) partial[channels * width + channel] = kLog2E * bias;
#pragma unroll
      for (int k = 0; k < kTaps; ++k) {
        const float tap = sum_of_quarters(grad_taps_[e][k]);
        if (quarter_ == 0 && k < width) partial[channel * width + width - 1 - k] = kLog2E * tap;
      }
    }
#pragma unroll
    for (int m = 0; m < kColumns / 8; ++m)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = 8 * m + quarter_ * 2 + i;
        if (column < params_.projected_columns)
          *reinterpret_cast<float2*>(partial_projection + column * channels + channel_) =
              m < 8 ? make_float2(grad_projection_[m % 8][i], grad_projection_[m % 8][2 + i])
                    : make_float2(grad_projection_rest_[m % 4][i], grad_projection_rest_[m % 4][2 + i]);
      }
  }

 private:
  static constexpr int kOwn = 8, kBefore = kTaps - 1;  // tokens of a lane, and those that it reads before

  /// From the outputs' gradients to ∂x; the outputs go into `out`, pairs of tokens. `around`:
  /// Starts::around() of the lane's first token.
  template <class Broken>
  __device__ __forceinline__ void convolve(uint32_t input, const uint32_t (&x)[kBefore + kOwn],
                                           const float (&grad_out)[4][4], uint32_t (&out)[2][4], bool counts,
                                           unsigned around, Broken) {
    // Whether the lane's token i is of one sequence with the `lag` tokens before it.
    const auto joined = [&](int i, int lag) {
      return !Broken::value || (around >> (i + kTaps - lag) & ((1u << lag) - 1)) == 0;
    };
    uint32_t grad_x[2][kOwn / 2];  // pairs of tokens
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const auto x_at = [&](int i) {
        const float2 pair = unpack_pair<T>(x[i]);
        return e ? pair.y : pair.x;
      };
      float grad[kOwn + kBefore], value[kOwn];
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
        float a = bias_[e], lagged[kTaps];
#pragma unroll
        for (int k = 0; k < kTaps; ++k) {
          lagged[k] = joined(i, k) ? x_at(kBefore + i - k) : 0.f;
          a = fmaf(taps_[e][k], lagged[k], a);
        }
        float derivative;
        form_.differentiate<kKinked>(a, value[i], derivative);
        grad[i] = grad_out[i / 2][2 * e + i % 2] * derivative;
        const float counted = counts ? grad[i] : 0.f;
        grad_bias_[e] += counted;
#pragma unroll
        for (int k = 0; k < kTaps; ++k) grad_taps_[e][k] = fmaf(counted, lagged[k], grad_taps_[e][k]);
      }
#pragma unroll
      for (int n = 0; n < 4; ++n) out[e][n] = counts ? pack_pair<T>(value[2 * n], value[2 * n + 1]) : 0u;
        // The next lane has the gradients behind; behind the last one are those of the tile before.
#pragma unroll
      for (int i = 0; i < kBefore; ++i) {
        const float send = quarter_ == 0 ? behind_[e][i] : grad[i];
        grad[kOwn + i] = __shfl_sync(~0u, send, quarter_ + 1, 4);
        behind_[e][i] = grad[i];
      }
      const auto grad_of_input = [&](int i) {
        float sum = taps_[e][0] * grad[i];
#pragma unroll
        for (int k = 1; k < kTaps; ++k) sum = fmaf(taps_[e][k], joined(i + k, k) ? grad[i + k] : 0.f, sum);
        return sum;
      };
#pragma unroll
      for (int n = 0; n < kOwn / 2; ++n)
        grad_x[e][n] = pack_pair<T>(grad_of_input(2 * n), grad_of_input(2 * n + 1));
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i)
      asm volatile("st.shared.u32 [%0], %1;" ::"r"(input + (kGradsAt - kInputsAt) + i * (4 * kPitch)),
                   "r"(__byte_perm(grad_x[0][i / 2], grad_x[1][i / 2], i % 2 ? 0x7632 : 0x5410))
                   : "memory");
  }

  __device__ static float sum_of_quarters(float v) {
    v += __shfl_xor_sync(~0u, v, 1);
    return v + __shfl_xor_sync(~0u, v, 2);
  }

  const CausalConv1dCudaParams<T>& params_;
  const ActivationForm& form_;
  const int lane_, quarter_, warp_, channel_;
  float taps_[2][kTaps], bias_[2];                      // [lag], times log₂e
  float grad_taps_[2][kTaps] = {}, grad_bias_[2] = {};  // times ln 2
  float behind_[2][kTaps - 1] = {};  // of quarter 0: gradients of the first tokens of the tile behind
  const uint32_t weights_, own_;     // W as wgmma knows it; the lane's first place in rows of a stage
  float grad_projection_[8][4] = {}, grad_projection_rest_[4][4] = {};  // 64 columns and 32
};

/// Empty where there are no warpgroups.
template <class T, bool kKinked>
__global__ void __launch_bounds__(wide_threads(kThreads), kBlocks)
    backward_kernel(const __grid_constant__ CausalConv1dCudaParams<T> params, const Plan plan,
                    const __grid_constant__ ActivationForm form, float* partials,
                    float* partial_projections) {
  if constexpr (kHasWarpgroups) {
    extern __shared__ __align__(1024) unsigned char stages[];
    allow_dependent_launch();
    const uint32_t shared = shared_address(stages);
    const int first = blockIdx.y * plan.slab_tiles, end = min(first + plan.slab_tiles, plan.tiles);
    // The tile behind the slab is walked, too.
    const int last = min(end, plan.tiles - 1);
    const Copies<T> copies(params, plan.tokens, shared);
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) {
      if (last - i >= first) copies.start(last - i, i);
      close_copies();
    }
    Walker<T, kKinked> walker(params, form, shared);
    StartsAround starts(params, min((last + 1) * kTokens + kTaps - 1, plan.tokens));
    int stage = 0;
#pragma unroll 1
    for (int tile = last; tile >= first; --tile) {
      wait_for_copies<kStages - 2>();
      publish_copies();
      __syncthreads();  // everybody's copies; the stage of the tile before is free
      if (tile - (kStages - 1) >= first)
        copies.start(tile - (kStages - 1), stage == 0 ? kStages - 1 : stage - 1);
      close_copies();  // an empty group, too
      const uint32_t at = shared + stage * kStageBytes;
      starts.retreat(tile * kTokens);
      walker.tile(at, starts, tile < end);
      if (tile < end) walker.store_tile(at, tile * kTokens, plan.tokens);
      stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    wait_for_copies<0>();
    walker.store_sums(partials + blockIdx.y * params.channels * (params.width + 1),
                      partial_projections + blockIdx.y * params.channels * params.projected_columns);
  }
}

template <class T>
size_t partial_floats(const CausalConv1dCudaParams<T>& params) {
  return make_plan(params).slabs * params.channels * (params.width + 1);
}

template <class T>
bool has_shape(const CausalConv1dCudaParams<T>& params) {
  return params.projected_columns <= kColumns && params.projected_columns % 8 == 0 && params.channels > 0 &&
         params.channels % kChannels == 0 && !params.initial_states && is_aligned(params.projection, 16);
}
/// Whether copies of 16 bytes fit, and offsets into 32 bits.
template <class R, class T>
bool has_pieces(const Rows<R>& rows, const CausalConv1dCudaParams<T>& params) {
  return allows_packs(rows, 8) && is_flat(rows, params.tokens) &&
         (params.tokens + 64) * rows.token_stride < int64_t{1} << 31;
}

/// Other shapes take the convolution's own pass and two products.
template <class T>
bool is_taken(const CausalConv1dCudaParams<T>& params) {
  bool wide = false;
  if (find_wide(backward_kernel<T, false>, wide) || !wide) return false;
  return params.width <= kTaps && has_shape(params) && has_pieces(params.x, params) &&
         has_pieces(params.grad_out, params) && has_pieces(params.grad_x, params) &&
         has_pieces(params.grad_projected, params);
}

template <class T>
size_t workspace(const CausalConv1dCudaParams<T>& params) {
  return sizeof(float) *
         (partial_floats(params) + make_plan(params).slabs * params.channels * params.projected_columns);
}

template <class T>
cudaError_t launch(const CausalConv1dCudaParams<T>& params) {
  if (!is_taken(params)) return cudaErrorInvalidValue;
  const Plan plan = make_plan(params);
  float* const partials = static_cast<float*>(params.workspace);
  float* const partial_projections = partials + partial_floats(params);
  const ActivationForm form(params.activation);
  const auto kernel = form.is_kinked() ? backward_kernel<T, true> : backward_kernel<T, false>;
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes))
    return error;
  kernel<<<dim3(static_cast<unsigned>(params.channels / kChannels), plan.slabs), kThreads, kSharedBytes,
           params.stream>>>(params, plan, form, partials, partial_projections);
  if (const cudaError_t error = cudaGetLastError()) return error;
  const int64_t weights = params.channels * params.width,
                columns = params.channels * params.projected_columns;
  if (const cudaError_t error = launch_column_sums(
          {partials, plan.slabs, weights + params.channels, weights, params.grad_weight, params.grad_bias},
          params.stream))
    return error;
  return launch_column_sums(
      {partial_projections, plan.slabs, columns, columns, params.grad_projection, nullptr}, params.stream);
}

}  // namespace projected
}  // namespace exactmamba::ops
