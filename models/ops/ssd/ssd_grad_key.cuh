// The gradients of B and C of ssd's backward pass (see ssd_backward_kernel.cuh), behind that of x.
#pragma once

#include "models/ops/ssd/ssd_gradients.cuh"

namespace exactmamba::ops {

template <class T, int N>
struct SsdGradKeyTile {
  static constexpr int kKeys = kSsdChunk * N * 2, kValues = kSsdChunk * 64 * 2, kState = 64 * N * 2;
  static constexpr int kStage =
      2 * (kValues + kState + kSsdChunk * 4);  // ∂out, x; state, ∂state; enter, write
  static constexpr int bytes(int stages) { return 2 * kKeys + stages * kStage; }
  static_assert(kSsdChunk * kSsdChunk * 2 <= kStage);
};

/// Grid: (slots, groups, splits of a group's heads). A block makes a chunk's gradients of C (warps 0 to 7)
/// and B (8 to 15), 16 tokens a warp.
template <class T, int N>
__global__ __launch_bounds__(512, 1) void ssd_grad_key_kernel(const SsdBackwardArguments<T> a) {
  using Tile = SsdGradKeyTile<T, N>;
  extern __shared__ __align__(1024) unsigned char shared[];
  const int slot = blockIdx.x, group = blockIdx.y, split = blockIdx.z;
  const SsdChunk chunk = a.tables.chunks[slot];
  if (chunk.size == 0) return;
  const int warp = warp_index(), lane = threadIdx.x % 32, quad = lane % 4;
  const bool of_B = warp >= 8;
  const int row_tile = warp % 8, row0 = row_tile * 16 + lane / 4, tiles = (chunk.size + 15) / 16;
  const SsdHeads heads = heads_of_block(a.heads, a.groups, a.splits);
  const bool has_state = chunk.first < 0 || a.has_initial_state,
             has_grad_state = chunk.last < 0 || a.has_grad_last_state;
  // Warpgroups multiply as a whole.
  const bool is_used = kHasWarpgroups ? row_tile / 4 * 64 < chunk.size : row_tile < tiles,
             reads_state = is_used && (of_B ? has_grad_state : has_state);
  const uint32_t tile_C = shared_address(shared), tile_B = tile_C + Tile::kKeys,
                 stages = tile_B + Tile::kKeys, own_keys = of_B ? tile_B : tile_C;
  const T *x = row_at(a.x, chunk.begin), *grad_out = row_at(a.grad_out, chunk.begin);
  const auto table_row = [&](int head) { return static_cast<int64_t>(slot) * a.heads + head; };
  const auto issue = [&](int head, int parity) {
    const uint32_t stage = stages + parity % kSsdStages * Tile::kStage, states = stage + 2 * Tile::kValues,
                   vectors = states + 2 * Tile::kState;
    const int64_t row = table_row(head);
    if (has_state) {
      load_tile<T, kSsdChunk, 64, 512>(stage, grad_out + head * 64, a.grad_out.token_stride, chunk.size);
      load_state<T, N, 512>(states, a.states + row * (64 * N));
      load_floats<512>(vectors, a.tables.enter + row * kSsdChunk, kSsdChunk);
    }
    if (has_grad_state) {
      load_tile<T, kSsdChunk, 64, 512>(stage + Tile::kValues, x + head * 64, a.x.token_stride, chunk.size);
      load_state<T, N, 512>(states + Tile::kState, a.grad_states + row * (64 * N));
      load_floats<512>(vectors + kSsdChunk * 4, a.tables.write + row * kSsdChunk, kSsdChunk, 32);
    }
  };

  load_keys<T, N, 512>(tile_C, a.C, chunk);
  load_keys<T, N, 512>(tile_B, a.B, chunk);
  issue(heads.begin, 0);
  float sums[N / 8][4] = {};
  for (int head = heads.begin; head < heads.end; ++head) {
    const int parity = (head - heads.begin) % 2;
    await_copies();
    if (kSsdStages == 2 && head + 1 < heads.end) issue(head + 1, parity ^ 1);
    const unsigned char* states =
        shared + 2 * Tile::kKeys + parity % kSsdStages * Tile::kStage + 2 * Tile::kValues;
    if (reads_state) {
      const uint32_t tile_values = shared_address(states) - (of_B ? 1 : 2) * Tile::kValues,
                     tile_state = shared_address(states) + (of_B ? Tile::kState : 0);
      const float* weight =
          reinterpret_cast<const float*>(states + 2 * Tile::kState) + (of_B ? kSsdChunk : 0);
      const float weights_of_rows[2] = {weight[row0], weight[row0 + 8]};
      float of_exponent[2] = {0, 0};
      const auto add = [&](int n, const float(&own)[4]) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const float2 key = load_pair<T, N>(own_keys, row0 + 8 * r, n, quad);
          of_exponent[r] += own[2 * r] * key.x + own[2 * r + 1] * key.y;
          sums[n][2 * r] += weights_of_rows[r] * own[2 * r];
          sums[n][2 * r + 1] += weights_of_rows[r] * own[2 * r + 1];
        }
      };
      if constexpr (kHasWarpgroups) {
        const uint32_t wide_values = wide_tile(tile_values + row_tile / 4 * 8192),
                       wide_state = wide_tile(tile_state);
#pragma unroll
        for (int columns = 0; columns < N / 64; ++columns) {
          float own[8][4];
          begin_products();
#pragma unroll
          for (int k = 0; k < 4; ++k)
            multiply_wide<T, true>(own, wide_values + wide_offset(k * 32),
                                   wide_state + wide_offset(columns * 8192 + k * 2048), k > 0);
          end_products();
          take_sums(own);
#pragma unroll
          for (int n = 0; n < 8; ++n) add(columns * 8 + n, own[n]);
        }
      } else {
        uint32_t left[4][4];
#pragma unroll
        for (int k = 0; k < 4; ++k) load_left<64>(left[k], tile_values, row_tile * 16, k * 16, lane);
#pragma unroll
        for (int n = 0; n < N / 8; n += 2) {
          float own[2][4] = {};
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            uint32_t right[4];
            load_right_transposed<N>(right, tile_state, n * 8, k * 16, lane);
            multiply_add<T>(own[0], left[k], right[0], right[1]);
            multiply_add<T>(own[1], left[k], right[2], right[3]);
          }
          add(n, own[0]);
          add(n + 1, own[1]);
        }
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float total = sum_quad(of_exponent[r]) * weights_of_rows[r];
        if (quad == 0)
          (of_B ? a.parts.written : a.parts.read)[table_row(head) * kSsdChunk + row0 + 8 * r] = total;
      }
    }
    if (has_state && has_grad_state) {
      // ⟨∂state, state⟩
      float cross = 0;
#pragma unroll
      for (int at = threadIdx.x * 16; at < Tile::kState; at += 512 * 16)
        add_inner_product<T>(cross, reinterpret_cast<const uint4&>(states[at]),
                             reinterpret_cast<const uint4&>(states[Tile::kState + at]));
      cross = sum_warp(cross);
      if (lane == 0) a.parts.cross[table_row(head) * 16 + warp] = cross;
    }
    if (kSsdStages == 1) {
      __syncthreads();
      if (head + 1 < heads.end) issue(head + 1, parity ^ 1);
    }
  }
  __syncthreads();

  if (split == 0) {
    // ∂(CBᵀ) over all splits, transposed as it is stored, in place of the stages.
    constexpr int kFours = kSsdChunk * kSsdChunk / 4 / 512;
    float4 of_pairs[kFours] = {};
    const auto is_written = [&](int j, int i) { return i / 16 >= j / 16 && i / 16 < tiles; };
    for (int s = 0; s < a.splits; ++s) {
      const float4* from = reinterpret_cast<const float4*>(
          a.grad_products + ((s * a.slots + slot) * a.groups + group) * kSsdChunk * kSsdChunk);
#pragma unroll
      for (int k = 0; k < kFours; ++k) {
        const int e = threadIdx.x + k * 512, j = e / (kSsdChunk / 4), i = e % (kSsdChunk / 4) * 4;
        if (!is_written(j, i)) continue;
        const float4 v = from[e];
        of_pairs[k].x += v.x, of_pairs[k].y += v.y, of_pairs[k].z += v.z, of_pairs[k].w += v.w;
      }
    }
#pragma unroll
    for (int k = 0; k < kFours; ++k) {
      const int e = threadIdx.x + k * 512, j = e / (kSsdChunk / 4), i = e % (kSsdChunk / 4) * 4;
      reinterpret_cast<uint2&>(shared[2 * Tile::kKeys + tile_address<kSsdChunk>(0, j, i / 8) + i % 8 * 2]) = {
          pack_pair<T>(of_pairs[k].x, of_pairs[k].y), pack_pair<T>(of_pairs[k].z, of_pairs[k].w)};
    }
    __syncthreads();
    const uint32_t other_keys = of_B ? tile_C : tile_B;
    for (int k = of_B ? row_tile : 0; k < (of_B ? tiles : min(row_tile + 1, tiles)); ++k) {
      uint32_t left[4];
      if (of_B)
        load_left<kSsdChunk>(left, stages, row_tile * 16, k * 16, lane);
      else
        load_left_transposed<kSsdChunk>(left, stages, row_tile * 16, k * 16, lane);
      add_products<T, N>(sums, left, other_keys, k * 16, lane);
    }
  }

  store_key_gradients<T, N>(a, sums, of_B, chunk, row0, lane);
}

}  // namespace exactmamba::ops
