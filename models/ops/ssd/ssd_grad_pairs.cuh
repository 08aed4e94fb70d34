// The pairs of tokens of ssd_grad_key_wide_kernel: ∂(CBᵀ), and the pairs' sums for the decays, for Δ and for
// D.
#pragma once

#include "models/ops/ssd/ssd_grad_key_block.cuh"

namespace exactmamba::ops {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

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
        add_inner_product<T>(cross, load_piece(stage.state + at), load_piece(stage.grad_state + at));
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
  float exponent[2], own_delta[2], columns[2] = {0, 0}, of_rows[8][2] = {};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    exponent[r] = cumulative[near.row[r]];
    own_delta[r] = delta[near.row[r]];
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
        near.grads[g][2 * r + k] = fmaf(decayed, own_delta[r], near.grads[g][2 * r + k]);
        columns[r] += of_exponent;
        of_rows[g][k] = fmaf(of_exponent, own_delta[r], of_rows[g][k]);
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

/// Writes what a head's tokens have in all, by one warp; `delta`: Δ of the lane's two tokens.
__device__ __forceinline__ void put_token_sums(const SsdGradientParts& parts, const SsdGradKeySums& sums,
                                               float2 delta, bool has_far, bool has_grad_state, int half,
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
  reinterpret_cast<float2&>(parts.columns[to]) = {columns.x * delta.x, columns.y * delta.y};
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
    b.wait_for(step);
    if (b.has_far) {
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

}  // namespace exactmamba::ops
