// The gradients of B and C of ssd's backward pass (see ssd_backward_kernel.cuh), behind a walk that has made
// that of x, by warpgroups of sm_90a: ∂(CBᵀ), which nobody else needs then, is made on the way.
#pragma once

#include "models/ops/cuda/bulk_copy.cuh"
#include "models/ops/cuda/phase_barrier.cuh"
#include "models/ops/cuda/tensor_tiles.cuh"
#include "models/ops/ssd/ssd_gradients.cuh"

namespace exactmamba::ops {

template <class T>
struct SsdGradKeyWideArguments {
  SsdBackwardArguments<T> a;
  TensorTiles x, grad_out, B, C, states, grad_states;
};

/// What a block's warps find out about one head, for each of its tokens.
struct SsdGradKeySums {
  float rows[4][64];           // as SsdGradientParts: of its half's pairs (i, j), a warp's tokens j
  float columns[64], own[64];  // of j, without Δ_j: pairs within the half; the pair (j, j)
  float far[64];               // of pairs with the other half
  float written[64];           // without Δ
};

/// Shared memory of a block: keys of its tokens; stages of a head's tensors, the last of which at the
/// beginning and the end gives way to the other half's keys, the first at the end to ∂(CBᵀ); sums, of one
/// head more.
template <int N>
struct SsdGradKeyWideTile {
  static constexpr int kSquare = 64 * 64 * 2, kKeys = 64 * N * 2, kState = kKeys, kRow = kSsdChunk * 4;
  static constexpr int kStage = 2 * kState + 3 * kSquare + 2 * kRow, kStages = 3, kThreads = 512;
  static constexpr int kBytes =
      2 * kKeys + kStages * kStage + (kStages + 1) * static_cast<int>(sizeof(SsdGradKeySums));
};

/// Where a stage has what.
template <int N>
struct SsdGradKeyStage {
  uint32_t state, grad_state, x, grad_out, other;  // other: ∂out or x of the other half, where pairs need it
  const float *cumulative, *delta;                 // (Q)

  __device__ __forceinline__ explicit SsdGradKeyStage(const unsigned char* stage) {
    using Tile = SsdGradKeyWideTile<N>;
    state = shared_address(stage);
    grad_state = state + Tile::kState;
    x = grad_state + Tile::kState;
    grad_out = x + Tile::kSquare;
    other = grad_out + Tile::kSquare;
    cumulative = reinterpret_cast<const float*>(stage + 2 * Tile::kState + 3 * Tile::kSquare);
    delta = cumulative + kSsdChunk;
  }
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// What all warps of a block know of it: one half of a chunk, and the heads, counted as steps.
template <class T, int N>
struct SsdGradKeyBlock {
  using Tile = SsdGradKeyWideTile<N>;
  static constexpr int kWide = N / 64;  // tiles of a token's keys
  const SsdGradKeyWideArguments<T>& arguments;
  const SsdBackwardArguments<T>& a = arguments.a;
  unsigned char* shared;
  CopyBarrier &filled_keys, *filled;
  PhaseBarrier* emptied;
  int slot = blockIdx.x / 2, half = blockIdx.x % 2, group = blockIdx.y;
  SsdChunk chunk = a.tables.chunks[slot];
  SsdHeads heads = heads_of_block(a.heads, a.groups, a.splits);
  int count = heads.end - heads.begin;
  bool has_far = chunk.size > 64, has_state = chunk.first < 0, has_grad_state = chunk.last < 0;

  __device__ __forceinline__ uint32_t keys_C() const { return shared_address(shared); }
  __device__ __forceinline__ uint32_t keys_B() const { return keys_C() + Tile::kKeys; }
  __device__ __forceinline__ unsigned char* stages() const { return shared + 2 * Tile::kKeys; }
  __device__ __forceinline__ uint32_t other_keys() const {
    return shared_address(stages() + (Tile::kStages - 1) * Tile::kStage);
  }
  __device__ __forceinline__ uint32_t near_tile() const { return shared_address(stages()); }
  __device__ __forceinline__ uint32_t far_tile() const { return near_tile() + Tile::kSquare; }
  __device__ __forceinline__ SsdGradKeyStage<N> stage(int step) const {
    return SsdGradKeyStage<N>(stages() + step % Tile::kStages * Tile::kStage);
  }
  __device__ __forceinline__ SsdGradKeySums& sums(int step) const {
    return reinterpret_cast<SsdGradKeySums*>(stages() +
                                             Tile::kStages * Tile::kStage)[step % (Tile::kStages + 1)];
  }
  /// Of the tables and sums (slots, H, …).
  __device__ __forceinline__ int64_t row(int step) const {
    return static_cast<int64_t>(slot) * a.heads + heads.begin + step;
  }
  /// From which token of the chunk on, and up to which, a token's sequence reaches.
  __device__ __forceinline__ int start_of(int token) const {
    return chunk.tail > 0 ? a.tables.start[slot * kSsdChunk + half * 64 + token] : 0;
  }
  __device__ __forceinline__ int stop_of(int token) const {
    return chunk.tail > 0 ? a.tables.stop[slot * kSsdChunk + half * 64 + token] : kSsdChunk;
  }
  __device__ __forceinline__ void wait_for(int step) const {
    filled[step % Tile::kStages].wait(step / Tile::kStages % 2);
  }
  __device__ __forceinline__ void leave(int step) const { emptied[step % Tile::kStages].arrive(); }

  // By one warp: a lane a tile or a row of the tables.
  __device__ __forceinline__ int batch_row() const { return chunk.begin / static_cast<int>(a.x.length); }
  __device__ __forceinline__ int first_token(bool other) const {
    return chunk.begin % static_cast<int>(a.x.length) + (half ^ static_cast<int>(other)) * 64;
  }
  __device__ __forceinline__ void fetch(int step, int lane) const {
    const int head = heads.begin + step;
    const SsdGradKeyStage<N> to = stage(step);
    CopyBarrier& barrier = filled[step % Tile::kStages];
    if (lane == 0)
      barrier.announce((2 + has_far) * Tile::kSquare + (has_state + has_grad_state) * Tile::kState +
                       2 * Tile::kRow);
    __syncwarp();
    if (lane == 0) copy_tile(to.x, arguments.x, head * 64, first_token(false), batch_row(), barrier);
    if (lane == 1)
      copy_tile(to.grad_out, arguments.grad_out, head * 64, first_token(false), batch_row(), barrier);
    if (lane == 2 && has_far)
      copy_tile(to.other, half ? arguments.x : arguments.grad_out, head * 64, first_token(true), batch_row(),
                barrier);
    if (lane == 3 || lane == 4)
      barrier.add_copy(const_cast<float*>(lane == 3 ? to.cumulative : to.delta),
                       (lane == 3 ? a.tables.cumulative : a.tables.delta) + row(step) * kSsdChunk,
                       Tile::kRow);
    const int column = lane % kWide * 64, place = lane % kWide * Tile::kSquare,
              of_state = (slot * a.heads + head) * 64;
    if (lane / kWide == 4 && has_state)
      copy_tile(to.state + place, arguments.states, column, of_state, 0, barrier);
    if (lane / kWide == 5 && has_grad_state)
      copy_tile(to.grad_state + place, arguments.grad_states, column, of_state, 0, barrier);
  }
  __device__ __forceinline__ void copy_keys(uint32_t to, const TensorTiles& keys, bool other,
                                            int lane) const {
    copy_tile(to + lane % kWide * Tile::kSquare, keys, group * N + lane % kWide * 64, first_token(other),
              batch_row(), filled_keys);
  }
  /// Of C in the first half, of B in the second.
  __device__ __forceinline__ void fetch_other_keys(int lane) const {
    if (lane < kWide && has_far) copy_keys(other_keys(), half ? arguments.B : arguments.C, true, lane);
  }
  __device__ __forceinline__ void fetch_keys(int lane) const {
    if (lane == 0) filled_keys.announce((2 + has_far) * Tile::kKeys);
    __syncwarp();
    if (lane < kWide) copy_keys(keys_C(), arguments.C, false, lane);
    if (lane / kWide == 1) copy_keys(keys_B(), arguments.B, false, lane);
    fetch_other_keys(lane);
    __syncwarp();
  }
};

/// Which columns a lane's two rows have pairs with.
struct SsdRange {
  int low[2], high[2];
  __device__ __forceinline__ bool operator()(int r, int column) const {
    return static_cast<unsigned>(column - low[r]) < static_cast<unsigned>(high[r] - low[r]);
  }
};

/// A gradient of products as a tile of 64 × 64, 0 where there is no pair. `row`: of lane % 16.
template <class T>
__device__ __forceinline__ void put_grad_products(uint32_t tile, const float (&grads)[8][4],
                                                  const SsdRange& reaches, int row, int lane) {
  const uint32_t place = tile + row * 128 + ((lane / 16 ^ lane % 8) << 4);
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    uint32_t packed[4];
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int column = m * 16 + c * 8 + lane % 4 * 2;
        const float(&own)[4] = grads[2 * m + c];
        packed[2 * c + r] = pack_pair<T>(reaches(r, column) ? own[2 * r] : 0.f,
                                         reaches(r, column + 1) ? own[2 * r + 1] : 0.f);
      }
    store_matrices(place ^ m << 5, packed[0], packed[1], packed[2], packed[3]);
  }
}

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

/// ⟨∂state, state⟩ of the block's share of a head, by one warpgroup.
template <class T, int N>
__device__ __forceinline__ void put_cross(const SsdGradKeyBlock<T, N>& b, const SsdGradKeyStage<N>& stage,
                                          int64_t row, int warp, int lane) {
  float cross = 0;
  if (b.has_state && b.has_grad_state) {
    constexpr int kHalf = 32 * N * 2;
#pragma unroll 1
    for (int part = b.half; part < 2; part += b.has_far ? 2 : 1)
#pragma unroll
      for (int piece = 0; piece < kHalf; piece += 128 * 16) {
        const uint32_t at = part * kHalf + piece + threadIdx.x % 128 * 16;
        const uint4 u = load_piece(stage.state + at), v = load_piece(stage.grad_state + at);
        const uint32_t us[4] = {u.x, u.y, u.z, u.w}, vs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const float2 s = unpack_pair<T>(us[k]), g = unpack_pair<T>(vs[k]);
          cross = fmaf(s.x, g.x, fmaf(s.y, g.y, cross));
        }
      }
    cross = sum_warp(cross);
  }
  if (lane < (b.has_far ? 2 : 4))
    b.a.parts.cross[row * 16 + (lane / 2 ^ b.half) * 8 + lane % 2 * 4 + warp] = lane == 0 ? cross : 0.f;
}

/// Two elements of a row, in 16 bits and without kProductScale.
template <class T>
__device__ __forceinline__ uint32_t pack_masked(float low, float high, const SsdRange& reaches, int r,
                                                int column) {
  return pack_pair<T>(reaches(r, column) ? low / kProductScale<T> : 0.f,
                      reaches(r, column + 1) ? high / kProductScale<T> : 0.f);
}

/// Pairs (j, i) of the block's half: row j of a lane, columns i. A warp has the eights of rows w and 7 - w,
/// so that all have as many pairs i ≥ j; of the latter (r = 1) only columns from 32 on are used.
template <class T>
struct SsdNearPairs {
  static __device__ __forceinline__ constexpr bool is_used(int r, int g) { return r == 0 || g >= 4; }
  int row[2];
  float grads[8][4] = {};   // of CBᵀ, transposed, as the sums of products; anything where masked
  uint32_t products[8][2];  // CBᵀ, transposed; 0 where masked and of a token itself
  float own_product[2];     // C_j·B_j, in the lane that has the element

  /// `value[8 columns][2 r + column]` of a token itself; 0 in lanes that do not have it.
  __device__ __forceinline__ float own(const float (&value)[8][4], int r, int warp, int lane) const {
    const int odd = lane / 4 % 2;
    float result = 0;
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const float(&of_eight)[4] = value[r ? 7 - w : w];
      if (w == warp) result = odd ? of_eight[2 * r + 1] : of_eight[2 * r];
    }
    return lane % 4 == lane / 8 ? result : 0.f;
  }

  /// Of a matrix stored [row][k], 16 columns from k0 on of the lane's rows.
  static __device__ __forceinline__ void load_rows(uint32_t (&left)[4], uint32_t tile, int k0, int warp,
                                                   int lane) {
    const int row = (lane % 16 < 8 ? warp : 7 - warp) * 8 + lane % 8;
    load_matrices(left, tile_address<64>(tile, row, k0 / 8 + lane / 16));
  }
};

/// Adds a head's pairs x_j·∂out_i. `later`: exponents of the lane's columns. Returns what the lane has of the
/// gradient of D.
template <class T>
__device__ __forceinline__ float add_near_pairs(SsdNearPairs<T>& near, const float (&pairs)[8][4],
                                                const float2 (&later)[8], const float* cumulative,
                                                const float* delta, SsdGradKeySums& sums, int warp,
                                                int lane) {
  const int quad = lane % 4;
  float exponent[2], step[2], columns[2] = {0, 0}, of_rows[8][2] = {};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    exponent[r] = cumulative[near.row[r]];
    step[r] = delta[near.row[r]];
  }
#pragma unroll
  for (int g = 0; g < 8; ++g)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (!near.is_used(r, g)) continue;
      keep_packed(near.products[g][r]);
      const float2 both = unpack_pair<T>(near.products[g][r]);
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        // Before j the product is 0, and the decay must not be infinite.
        const float apart = (k ? later[g].y : later[g].x) - exponent[r],
                    decay = fast_exp2(r == 0 && g >= 4 ? apart : fminf(apart, 0.f)),
                    decayed = pairs[g][2 * r + k] * decay,
                    of_exponent = decayed * ((k ? both.y : both.x) * kProductScale<T>);
        near.grads[g][2 * r + k] = fmaf(decayed, step[r], near.grads[g][2 * r + k]);
        columns[r] += of_exponent;
        of_rows[g][k] = fmaf(of_exponent, step[r], of_rows[g][k]);
      }
    }
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    const float of_two[2][2] = {{of_rows[2 * m][0], of_rows[2 * m][1]},
                                {of_rows[2 * m + 1][0], of_rows[2 * m + 1][1]}};
    store_row_sums(sums.rows[warp] + m * 16, of_two, lane);
  }
  float of_skip = 0;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float own_pair = near.own(pairs, r, warp, lane), total = sum_quad(columns[r]);
    of_skip += own_pair;
    if (quad == 0) sums.columns[near.row[r]] = total;
    if (quad == lane / 8) sums.own[near.row[r]] = own_pair * near.own_product[r];
  }
  return of_skip;
}

/// What the warpgroup does that has the pairs within the half.
template <class T, int N>
__device__ __forceinline__ void run_near_pairs(const SsdGradKeyBlock<T, N>& b, int warp, int lane) {
  using Tile = SsdGradKeyWideTile<N>;
  const int quad = lane % 4;
  SsdNearPairs<T> near;
  SsdRange reaches;
  float pairs[8][4];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    near.row[r] = (r ? 7 - warp : warp) * 8 + lane / 4;
    reaches.low[r] = near.row[r] + 1;
    reaches.high[r] = max(min(b.stop_of(near.row[r]) - b.half * 64, 64), reaches.low[r]);
  }
  const auto multiply = [&](uint32_t left_tile, uint32_t right_tile, auto tiles) {
    constexpr int kSteps = 4 * decltype(tiles)::value;
    uint32_t left[kSteps][4];
#pragma unroll
    for (int k = 0; k < kSteps; ++k)
      near.load_rows(left[k], left_tile + k / 4 * Tile::kSquare, k % 4 * 16, warp, lane);
#pragma unroll
    for (int k = 0; k < kSteps; ++k)
#pragma unroll
      for (int e = 0; e < 4; ++e) keep_packed(left[k][e]);
    take_sums(pairs);
    begin_products();
#pragma unroll
    for (int k = 0; k < kSteps; ++k)
      multiply_wide<T, false>(pairs, left[k],
                              wide_tile(right_tile) + wide_offset(k / 4 * Tile::kSquare + k % 4 * 32), k > 0);
    commit_products();
  };
  multiply(b.keys_B(), b.keys_C(), std::integral_constant<int, N / 64>{});
  wait_products<0>();
  take_sums(pairs);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    near.own_product[r] = near.own(pairs, r, warp, lane);
#pragma unroll
    for (int g = 0; g < 8; ++g)
      near.products[g][r] =
          pack_masked<T>(pairs[g][2 * r], pairs[g][2 * r + 1], reaches, r, g * 8 + quad * 2);
    --reaches.low[r];
  }
  __syncthreads();
  for (int step = 0; step < b.count; ++step) {
    b.wait_for(step);
    const SsdGradKeyStage<N> stage = b.stage(step);
    const float *const cumulative = stage.cumulative + b.half * 64, *const delta = stage.delta + b.half * 64;
    multiply(stage.x, stage.grad_out, std::integral_constant<int, 1>{});
    put_cross(b, stage, b.row(step), warp, lane);
    float2 later[8];
#pragma unroll
    for (int g = 0; g < 8; ++g) later[g] = reinterpret_cast<const float2&>(cumulative[g * 8 + quad * 2]);
    wait_products<0>();
    take_sums(pairs);
    const float skip =
        sum_warp(add_near_pairs<T>(near, pairs, later, cumulative, delta, b.sums(step), warp, lane));
    if (lane < (b.has_far ? 1 : 2))
      b.a.parts.skip[b.row(step) * 8 + (b.half ^ lane) * 4 + warp] = lane == 0 ? skip : 0.f;
    b.leave(step);
  }
  __syncthreads();
  put_grad_products<T>(b.near_tile(), near.grads, reaches, (lane % 16 < 8 ? warp : 7 - warp) * 8 + lane % 8,
                       lane);
  __syncthreads();
}

/// Decay between a token and the end of the first half: `sign` is 1 for tokens of the second half, else −1.
__device__ __forceinline__ float far_decay(float exponent, float middle, float sign) {
  return fast_exp2(fmaf(sign, exponent, -sign * middle));
}

/// The same of pairs with the other half: rows are the block's tokens, columns the other's. `of_columns`:
/// their factors.
template <class T>
__device__ __forceinline__ void add_far_pairs(float (&grads)[8][4], const float (&pairs)[8][4],
                                              uint32_t (&products)[8][2], const float2 (&of_columns)[8],
                                              const float (&decays)[2], const float (&factors)[2],
                                              SsdGradKeySums& sums, int row0, int quad) {
  float of_rows[2][2] = {};
#pragma unroll
  for (int g = 0; g < 8; ++g)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      keep_packed(products[g][r]);
      const float2 both = unpack_pair<T>(products[g][r]);
      const float low = pairs[g][2 * r] * of_columns[g].x, high = pairs[g][2 * r + 1] * of_columns[g].y;
      grads[g][2 * r] = fmaf(low, factors[r], grads[g][2 * r]);
      grads[g][2 * r + 1] = fmaf(high, factors[r], grads[g][2 * r + 1]);
      of_rows[r][0] = fmaf(low, both.x * kProductScale<T>, of_rows[r][0]);
      of_rows[r][1] = fmaf(high, both.y * kProductScale<T>, of_rows[r][1]);
    }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float total = sum_quad(of_rows[r][0] + of_rows[r][1]) * decays[r];
    if (quad == 0) sums.far[row0 + 8 * r] = total;
  }
}

/// Writes what a head's tokens have in all, by one warp; `step`: Δ of the lane's two tokens.
__device__ __forceinline__ void put_token_sums(const SsdGradientParts& parts, const SsdGradKeySums& sums,
                                               float2 step, bool has_far, bool has_grad_state, int half,
                                               int64_t row, int lane) {
  const int64_t to = row * kSsdChunk + half * 64 + lane * 2;
  const auto pair_of = [&](const float* table) { return reinterpret_cast<const float2&>(table[lane * 2]); };
  const float2 far = has_far ? pair_of(sums.far) : float2{}, near = pair_of(sums.columns),
               own = pair_of(sums.own), written = has_grad_state ? pair_of(sums.written) : float2{};
  float2 rows = half ? far : float2{};
#pragma unroll
  for (int warp = 0; warp < 4; ++warp) {
    const float2 of_warp = pair_of(sums.rows[warp]);
    rows.x += of_warp.x, rows.y += of_warp.y;
  }
  const float2 columns = {near.x + (half ? 0.f : far.x), near.y + (half ? 0.f : far.y)};
  reinterpret_cast<float2&>(parts.rows[to]) = rows;
  reinterpret_cast<float2&>(parts.columns[to]) = {columns.x * step.x, columns.y * step.y};
  reinterpret_cast<float2&>(parts.direct[to]) = {columns.x + own.x + written.x,
                                                 columns.y + own.y + written.y};
}

/// What the warpgroup does that has the pairs with the other half. Its last warp also fetches, behind a head
/// that all have left, and adds up what they found out.
template <class T, int N>
__device__ __forceinline__ void run_far_pairs(const SsdGradKeyBlock<T, N>& b, bool fetches, int warp,
                                              int lane) {
  using Tile = SsdGradKeyWideTile<N>;
  const int quad = lane % 4, row0 = warp * 16 + lane / 4, half = b.half;
  float pairs[8][4], grads[8][4] = {};
  uint32_t products[8][2];
  SsdRange reaches{{0, 0}, {64, 64}};
#pragma unroll
  for (int r = 0; r < 2; ++r)
    if (half)
      reaches.low[r] = min(b.start_of(row0 + 8 * r), 64);
    else
      reaches.high[r] = max(min(b.stop_of(row0 + 8 * r) - 64, 64), 0);
  take_sums(pairs);
  begin_products();
  multiply_wide_rows<T, N, 64, 64>(pairs, wide_tile(half ? b.keys_C() : b.keys_B()),
                                   wide_tile(b.other_keys()), false);
  end_products();
  take_sums(pairs);
#pragma unroll
  for (int g = 0; g < 8; ++g)
#pragma unroll
    for (int r = 0; r < 2; ++r)
      products[g][r] = pack_masked<T>(pairs[g][2 * r], pairs[g][2 * r + 1], reaches, r, g * 8 + quad * 2);
  __syncthreads();
  if (fetches && b.count >= Tile::kStages) b.fetch(Tile::kStages - 1, lane);

  const auto finish_head = [&](int step) {
    b.emptied[step % Tile::kStages].wait(step / Tile::kStages);
    float2 delta = reinterpret_cast<const float2&>(b.stage(step).delta[half * 64 + lane * 2]);
    asm volatile("" : "+f"(delta.x), "+f"(delta.y)::"memory");  // is read before the stage gives way
    __syncwarp();
    if (step + Tile::kStages < b.count) b.fetch(step + Tile::kStages, lane);
    put_token_sums(b.a.parts, b.sums(step), delta, b.has_far, b.has_grad_state, half, b.row(step), lane);
  };
  const float sign = half ? -1.f : 1.f;  // of the columns' tokens
  for (int step = 0; step < b.count; ++step) {
    if (fetches && step > 0) finish_head(step - 1);
    if (b.has_far) {
      b.wait_for(step);
      const SsdGradKeyStage<N> stage = b.stage(step);
      take_sums(pairs);
      begin_products();
      multiply_wide_rows<T, 64, 64, 64>(pairs, wide_tile(half ? stage.grad_out : stage.x),
                                        wide_tile(stage.other), false);
      commit_products();
      const float middle = stage.cumulative[63];
      float2 of_columns[8];
#pragma unroll
      for (int g = 0; g < 8; ++g) {
        const int column = g * 8 + quad * 2;
        const float2 exponent = reinterpret_cast<const float2&>(stage.cumulative[64 - half * 64 + column]),
                     delta = reinterpret_cast<const float2&>(stage.delta[column]);
        of_columns[g] = {far_decay(exponent.x, middle, sign) * (half ? delta.x : 1.f),
                         far_decay(exponent.y, middle, sign) * (half ? delta.y : 1.f)};
      }
      float decays[2], factors[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        decays[r] = far_decay(stage.cumulative[half * 64 + row0 + 8 * r], middle, -sign);
        factors[r] = decays[r] * (half ? 1.f : stage.delta[row0 + 8 * r]);
      }
      wait_products<0>();
      take_sums(pairs);
      add_far_pairs<T>(grads, pairs, products, of_columns, decays, factors, b.sums(step), row0, quad);
    }
    b.leave(step);
  }
  if (fetches) finish_head(b.count - 1);
  __syncthreads();
  if (fetches) {
    if (lane == 0) b.filled_keys.announce(b.has_far * Tile::kKeys);
    __syncwarp();
    b.fetch_other_keys(lane);
  }
  if (b.has_far) put_grad_products<T>(b.far_tile(), grads, reaches, warp * 16 + lane % 16, lane);
  __syncthreads();
}

#endif

/// Grid: (2 · slots, groups, splits of a group's heads). A block makes the gradients of B and C of one half
/// of a chunk, and goes over the heads. Its warpgroups: the gradient of C; that of B; pairs (i, j) within the
/// half; pairs with the other half, of which the first half needs the sums over i, the second those over j.
template <class T, int N>
__global__ __launch_bounds__(wide_threads(512), 1) void ssd_grad_key_wide_kernel(
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
