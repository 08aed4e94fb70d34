// The gradient of x of ssd's backward pass (see ssd_backward_kernel.cuh), for sm_80 and newer.
#pragma once

#include "models/ops/ssd/ssd_gradients.cuh"

namespace exactmamba::ops {

/// What a pair of ∂(Δ x) adds to the gradients of Δ and D, and the pair of ∂x.
template <class T>
__device__ __forceinline__ uint32_t finish_pair(float low, float high, float2 x, float2 grad_out, float step,
                                                float skip, float& direct, float& of_skip) {
  direct += low * x.x + high * x.y;
  of_skip += grad_out.x * x.x + grad_out.y * x.y;
  return pack_pair<T>(step * low + skip * grad_out.x, step * high + skip * grad_out.y);
}

template <class T, int N>
struct SsdGradXTile {
  static constexpr int kB = kSsdChunk * N * 2, kState = 64 * N * 2, kX = kSsdChunk * 64 * 2,
                       kRow = kSsdChunk * 4;
  static constexpr int kStage = kState + 2 * kX + 3 * kRow;  // ∂s, x, ∂out; cumulative, delta, to_tile
  static constexpr int kExchange = 16 * 16 * 32 * 4;
  static constexpr int kSums = 12 * kRow + 16 * 4;  // 8 tiles' rows, 2 columns, 2 direct; 16 warps' skip
  static constexpr int bytes(int stages) { return kB + stages * kStage + kExchange + 2 * kSums; }
  static_assert(kSsdChunk * N * 2 <= kExchange);
};

/// Grid: (slots, groups, splits of a group's heads). A block makes a chunk's gradients of x for its heads.
/// Two warps share 16 tokens j: each takes every other tile of later tokens i and half of the states; then
/// they add up, and each finishes half of P. The products stay in registers as in the forward pass. Empty
/// where ssd_grad_x_wide_kernel is not.
template <class T, int N>
__global__ __launch_bounds__(512, 1) void ssd_grad_x_kernel(const SsdBackwardArguments<T> a) {
  if constexpr (kHasWarpgroups) return;
  using Tile = SsdGradXTile<T, N>;
  extern __shared__ __align__(1024) unsigned char shared[];
  const int slot = blockIdx.x, group = blockIdx.y, split = blockIdx.z;
  const SsdChunk chunk = a.tables.chunks[slot];
  if (chunk.size == 0) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, quad = lane % 4;
  const int row_tile = warp / 2, part = warp % 2, row0 = row_tile * 16 + lane / 4;
  const int tiles = (chunk.size + 15) / 16, rows = tiles * 16;
  const bool is_used = row_tile < tiles;
  const SsdHeads heads = heads_of_block(a.heads, a.groups, a.splits);
  const bool has_grad_state = chunk.last < 0 || a.has_grad_last_state;
  const uint32_t tile_B = shared_address(shared), stages = tile_B + Tile::kB,
                 exchange = stages + kSsdStages * Tile::kStage;
  float4* const exchanged = reinterpret_cast<float4*>(shared + (exchange - tile_B));
  float* const all_sums = reinterpret_cast<float*>(shared + (exchange - tile_B) + Tile::kExchange);

  uint32_t products[4][4] = {};  // [tile i = row_tile + part + 2·index] B_j·C_i, 0 where j does not reach i
  const SsdReach reaches(a.tables, chunk, slot, row0);
  load_keys<T, N, 512>(tile_B, a.B, chunk);
  load_keys<T, N, 512>(exchange, a.C, chunk);
  await_copies();
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    const int i = row_tile + part + 2 * m;
    if (i >= tiles) break;
    float sums[2][4] = {};
    add_inner_products<T, N>(sums, tile_B, row_tile * 16, exchange, i * 16, lane);
    pack_products<T>(products[m], sums, reaches, i * 16, quad);
  }
  __syncthreads();

  const T *x = row_at(a.x, chunk.begin), *grad_out = row_at(a.grad_out, chunk.begin);
  T* grad_x = a.grad_x.data ? row_at(a.grad_x, chunk.begin) : nullptr;
  const auto issue = [&](int head, int parity) {
    const uint32_t stage = stages + parity % kSsdStages * Tile::kStage, tile_x = stage + Tile::kState,
                   vectors = tile_x + 2 * Tile::kX;
    const int64_t row = static_cast<int64_t>(slot) * a.heads + head;
    if (has_grad_state) load_tile<T, 64, N, 512>(stage, a.grad_states + row * (64 * N), N, 64);
    load_tile<T, kSsdChunk, 64, 512>(tile_x, x + head * 64, a.x.token_stride, chunk.size);
    load_tile<T, kSsdChunk, 64, 512>(tile_x + Tile::kX, grad_out + head * 64, a.grad_out.token_stride,
                                     chunk.size);
    const float* const tables[3] = {a.tables.cumulative, a.tables.delta, a.tables.to_tile};
#pragma unroll
    for (int k = 0; k < 3; ++k)
      load_floats<512>(vectors + k * Tile::kRow, tables[k] + row * kSsdChunk, kSsdChunk, k * 32);
  };
  // The sums of a head are kept twice, so that they can be added up while the next head's are made.
  const auto write_sums = [&](int head, int parity) {
    const float* sums = all_sums + parity * (Tile::kSums / 4);
    const int64_t row = static_cast<int64_t>(slot) * a.heads + head;
    const int t = threadIdx.x % kSsdChunk;
    if (threadIdx.x < kSsdChunk) {
      float total = 0;
      for (int tile = 0; tile <= t / 16; ++tile) total += sums[tile * kSsdChunk + t];
      if (t < rows) a.parts.rows[row * kSsdChunk + t] = total;
    } else if (threadIdx.x < 3 * kSsdChunk) {
      const bool of_direct = threadIdx.x >= 2 * kSsdChunk;
      const float* from = sums + (of_direct ? 10 : 8) * kSsdChunk + t;
      if (t < rows)
        (of_direct ? a.parts.direct : a.parts.columns)[row * kSsdChunk + t] = from[0] + from[kSsdChunk];
    } else if (threadIdx.x < 3 * kSsdChunk + 32) {
      const float total = sum_warp(t < 2 * tiles ? sums[12 * kSsdChunk + t] : 0.f);
      if (t < 8) a.parts.skip[row * 8 + t] = t == 0 ? total : 0.f;
    }
  };

  float grad_products[4][8] =
      {};  // [as products][4 · 8 columns + 2 · 8 rows + column]; anything where masked
  const auto run_head = [&](int head, int parity) {
    const unsigned char* stage = shared + Tile::kB + parity % kSsdStages * Tile::kStage;
    const uint32_t tile_state = shared_address(stage), tile_x = tile_state + Tile::kState,
                   tile_grad = tile_x + Tile::kX;
    const float* cumulative = reinterpret_cast<const float*>(stage + Tile::kState + 2 * Tile::kX);
    const float *delta = cumulative + kSsdChunk, *to_tile = delta + kSsdChunk;
    float* row_sums = all_sums + parity * (Tile::kSums / 4) + row_tile * kSsdChunk;

    float sums[8][4] = {};
    if (has_grad_state)
      add_row_products<T, N, N / 2>(sums, tile_B, row_tile * 16, tile_state, part * (N / 2), lane);

    // The decay from j to a later tile's i: to the end of j's tile, and on from there. What both the later
    // tiles and the leaving state have in common, the former, is multiplied once.
    const float tile_end = cumulative[row_tile * 16 + 15],
                onward_end = fast_exp2(cumulative[kSsdChunk - 1] - tile_end);
    const float exponent[2] = {cumulative[row0], cumulative[row0 + 8]},
                step[2] = {delta[row0], delta[row0 + 8]}, step_to_end[2] = {to_tile[row0], to_tile[row0 + 8]};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float leave = row0 + 8 * r >= chunk.tail ? onward_end : 0.f;
#pragma unroll
      for (int n = 0; n < 8; ++n) sums[n][2 * r] *= leave, sums[n][2 * r + 1] *= leave;
    }

    float columns[2] = {0, 0};
    const auto add_tile = [&](auto is_diagonal, int m) {
      const int i = row_tile + part + 2 * m;
      float pairs[2][4] = {};  // x_j·∂out_i
      add_inner_products<T, 64>(pairs, tile_x, row_tile * 16, tile_grad, i * 16, lane);
      uint32_t left[4];
      float of_rows[2][2] = {};  // [8 columns][column]
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int column = i * 16 + c * 8 + quad * 2;
        const float2 later = reinterpret_cast<const float2&>(cumulative[column]);
        const float onward[2] = {fast_exp2(later.x - tile_end), fast_exp2(later.y - tile_end)};
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          keep_packed(products[m][2 * c + r]);
          const float2 both = unpack_pair<T>(products[m][2 * c + r]);
          float mixed[2];
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            const float product = (k ? both.y : both.x) * kProductScale<T>, pair = pairs[c][2 * r + k];
            float& grad_product = grad_products[m][4 * c + 2 * r + k];
            if constexpr (decltype(is_diagonal)::value) {
              // Before j the product is 0, and the decay must not be infinite.
              const float decay = fast_exp2(fminf((k ? later.y : later.x) - exponent[r], 0.f));
              const float grad = pair * (decay * step[r]);
              grad_product += grad;
              // The exponent of a token's own decay is always 0.
              const float of_exponent = column + k == row0 + 8 * r ? 0.f : grad * product;
              columns[r] += of_exponent;
              of_rows[c][k] += of_exponent;
              mixed[k] = product * decay;
            } else {
              mixed[k] = product * onward[k];
              grad_product += pair * (onward[k] * step_to_end[r]);
              const float of_exponent = pair * mixed[k];
              columns[r] += of_exponent;
              of_rows[c][k] += of_exponent * step_to_end[r];
            }
          }
          left[2 * c + r] = pack_pair<T>(mixed[0], mixed[1]);
        }
      }
      add_products<T, 64>(sums, left, tile_grad, i * 16, lane);
      store_row_sums(row_sums + i * 16, of_rows, lane);
    };
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      if (m == 0 && part == 0) continue;
      if (row_tile + part + 2 * m >= tiles) break;
      add_tile(std::false_type{}, m);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float to_end = fast_exp2(tile_end - exponent[r]);
      columns[r] *= step_to_end[r];
#pragma unroll
      for (int n = 0; n < 8; ++n) sums[n][2 * r] *= to_end, sums[n][2 * r + 1] *= to_end;
    }
    if (part == 0) add_tile(std::true_type{}, 0);

    // The other warp's half of P goes to it.
    const float skip = a.D ? a.D[head] : 0.f;
    float direct[2] = {0, 0}, of_skip = 0;
    uint32_t packed[2][4];
    const auto give = [&](auto high_half) {
      constexpr int kOther = decltype(high_half)::value ? 0 : 4;
#pragma unroll
      for (int n = 0; n < 4; ++n)
        exchanged[(warp * 4 + n) * 32 + lane] =
            make_float4(sums[kOther + n][0], sums[kOther + n][1], sums[kOther + n][2], sums[kOther + n][3]);
    };
    const auto finish = [&](auto high_half) {
      constexpr int kMine = decltype(high_half)::value ? 4 : 0;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const float4 taken = exchanged[((warp ^ 1) * 4 + n) * 32 + lane];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int row = row0 + 8 * r;
          const float low = sums[kMine + n][2 * r] + (r ? taken.z : taken.x),
                      high = sums[kMine + n][2 * r + 1] + (r ? taken.w : taken.y);
          const float2 own = load_pair<T, 64>(tile_x, row, kMine + n, quad),
                       grad = load_pair<T, 64>(tile_grad, row, kMine + n, quad);
          packed[r][n] = finish_pair<T>(low, high, own, grad, step[r], skip, direct[r], of_skip);
        }
      }
    };
    part ? give(std::true_type{}) : give(std::false_type{});
    __syncthreads();
    part ? finish(std::true_type{}) : finish(std::false_type{});
    float* const column_sums = all_sums + parity * (Tile::kSums / 4) + (8 + part) * kSsdChunk;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = row0 + 8 * r;
      const uint4 v = transpose_quad(packed[r][0], packed[r][1], packed[r][2], packed[r][3], lane);
      if (grad_x && row < chunk.size)
        reinterpret_cast<uint4&>(grad_x[row * a.grad_x.token_stride + head * 64 + part * 32 + quad * 8]) = v;
      direct[r] = sum_quad(direct[r]);
      columns[r] = sum_quad(columns[r]);
      if (quad == 0) {
        column_sums[row] = columns[r];
        column_sums[2 * kSsdChunk + row] = direct[r];
      }
    }
    of_skip = sum_warp(of_skip);
    if (lane == 0) all_sums[parity * (Tile::kSums / 4) + 12 * kSsdChunk + warp] = of_skip;
  };

  issue(heads.begin, 0);
  for (int head = heads.begin; head < heads.end; ++head) {
    const int parity = (head - heads.begin) % 2;
    await_copies();
    if (head > heads.begin) write_sums(head - 1, parity ^ 1);
    if (kSsdStages == 2 && head + 1 < heads.end) issue(head + 1, parity ^ 1);
    if (is_used)
      run_head(head, parity);
    else
      __syncthreads();  // that of run_head
    if (kSsdStages == 1) {
      __syncthreads();
      if (head + 1 < heads.end) issue(head + 1, parity ^ 1);
    }
  }
  __syncthreads();
  write_sums(heads.end - 1, (heads.end - 1 - heads.begin) % 2);

  float* to = a.grad_products + ((split * a.slots + slot) * a.groups + group) * kSsdChunk * kSsdChunk;
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    const int i = row_tile + part + 2 * m;
    if (i >= tiles) break;
    store_grad_products(to, grad_products[m], reaches, i * 16, quad);
  }
}

}  // namespace exactmamba::ops
