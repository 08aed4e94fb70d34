// The gradient of x of ssd's backward pass (see ssd_backward_kernel.cuh), by warpgroups of sm_90a.
#pragma once

#include "models/ops/ssd/ssd_grad_x.cuh"

namespace exactmamba::ops {

template <class T, int N>
struct SsdGradXWideTile {
  static constexpr int kB = kSsdChunk * N * 2, kState = 64 * N * 2, kX = kSsdChunk * 64 * 2,
                       kRow = kSsdChunk * 4;
  static constexpr int kStage = kState + 2 * kX;  // ∂s, x, ∂out
  static constexpr int kExchange = 64 * 64 * 4;
  static constexpr int kVectors = 2 * kRow;        // cumulative, delta
  static constexpr int kSums = 11 * kRow + 8 * 4;  // 8 tiles' rows, 2 columns, direct; 8 warps' skip
  static constexpr int kBytes = kB + 2 * kStage + kExchange + 2 * (kVectors + kSums);
  static_assert(kSsdChunk * N * 2 <= kStage);
};

/// Grid: (slots, groups, splits of a group's heads). A block makes a chunk's gradients of x for its heads.
/// Three warpgroups: tokens j and i of the chunk's first half; j of the first, i of the second; both of the
/// second. A warp has 16 tokens j. Those of the second half lie mirrored in x and B, so that each scheduler
/// (warp % 4) gets as many pairs i ≥ j.
template <class T, int N>
__global__ __launch_bounds__(wide_threads(384),
                             1) void ssd_grad_x_wide_kernel(const SsdBackwardArguments<T> a) {
  if constexpr (!kHasWarpgroups) return;
  using Tile = SsdGradXWideTile<T, N>;
  extern __shared__ __align__(1024) unsigned char shared[];
  const int slot = blockIdx.x, group = blockIdx.y, split = blockIdx.z;
  const SsdChunk chunk = a.tables.chunks[slot];
  if (chunk.size == 0) return;
  const int part = warp_index() / 4, warp = warp_index() % 4, lane = threadIdx.x % 32, quad = lane % 4;
  const int half_j = part == 2, half_i = part > 0;
  const int row_tile = half_j ? 7 - warp : warp, row0 = row_tile * 16 + lane / 4,
            place0 = half_j * 64 + warp * 16 + lane / 4;  // of row0 in x and B
  const int tiles = (chunk.size + 15) / 16;
  const bool has_second_half = chunk.size > 64;
  const SsdHeads heads = heads_of_block(a.heads, a.groups, a.splits);
  const bool reads_state = part != 1 && (chunk.last < 0 || a.has_grad_last_state);
  const uint32_t tile_B = shared_address(shared), stages = tile_B + Tile::kB;
  unsigned char* const behind_stages = shared + Tile::kB + 2 * Tile::kStage;
  float4* const exchanged = reinterpret_cast<float4*>(behind_stages) + threadIdx.x % 128;
  float* const all_vectors = reinterpret_cast<float*>(behind_stages + Tile::kExchange);
  float* const all_sums = all_vectors + 2 * Tile::kVectors / 4;

  const T *x = row_at(a.x, chunk.begin), *grad_out = row_at(a.grad_out, chunk.begin);
  T* grad_x = a.grad_x.data ? row_at(a.grad_x, chunk.begin) : nullptr;
  const auto issue = [&](int head, int parity) {
    const uint32_t stage = stages + parity * Tile::kStage, tile_x = stage + Tile::kState,
                   vectors = shared_address(all_vectors) + parity * Tile::kVectors;
    const int64_t row = static_cast<int64_t>(slot) * a.heads + head;
    if (part == 0) {
      load_tile<T, kSsdChunk, 64, 128, true>(tile_x, x + head * 64, a.x.token_stride, chunk.size);
      load_floats<128>(vectors, a.tables.cumulative + row * kSsdChunk, kSsdChunk);
    } else if (part == 1) {
      load_tile<T, kSsdChunk, 64, 128>(tile_x + Tile::kX, grad_out + head * 64, a.grad_out.token_stride,
                                       chunk.size);
      load_floats<128>(vectors + Tile::kRow, a.tables.delta + row * kSsdChunk, kSsdChunk);
    } else if (reads_state) {
      load_state<T, N, 128>(stage, a.grad_states + row * (64 * N));
    }
  };

  const SsdReach reaches(a.tables, chunk, slot, row0);
  const uint32_t tile_C = stages + Tile::kStage;
  if (part == 0) load_key_tiles<T, N, true>(tile_B, a.B, chunk);
  if (part == 1) load_key_tiles<T, N, false>(tile_C, a.C, chunk);
  issue(heads.begin, 0);
  await_copies();
  uint32_t products[4][4] = {};   // [tile i of the half] B_j·C_i, 0 where j does not reach i
  float pairs[8][4], sums[8][4];  // x_j·∂out_i, at first B_j·C_i; ∂(Δ x)_j
  begin_products();
  multiply_wide_rows<T, N, kSsdChunk, kSsdChunk>(pairs, wide_tile(tile_B + half_j * 8192),
                                                 wide_tile(tile_C + half_i * 8192), false);
  end_products();
  take_sums(pairs);
#pragma unroll
  for (int m = 0; m < 4; ++m)
    pack_products<T>(products[m], pairs + 2 * m, reaches, half_i * 64 + m * 16, quad);

  // The sums of a head are kept twice, so that they can be added up while the next head's are made.
  const auto write_sums = [&](int head, int parity) {
    const float* sums = all_sums + parity * (Tile::kSums / 4);
    const int64_t row = static_cast<int64_t>(slot) * a.heads + head;
    const int t = threadIdx.x % kSsdChunk;
    if (part == 1) {
      const float total = sum_warp(t < (has_second_half ? 8 : 4) ? sums[11 * kSsdChunk + t] : 0.f);
      if (t < 8) a.parts.skip[row * 8 + t] = t == 0 ? total : 0.f;
    } else if (t < tiles * 16 && part == 0) {
      const float of_second_half = t < 64 && has_second_half ? sums[9 * kSsdChunk + t] : 0.f;
      a.parts.columns[row * kSsdChunk + t] = sums[8 * kSsdChunk + t] + of_second_half;
      a.parts.direct[row * kSsdChunk + t] = sums[10 * kSsdChunk + t];
    } else if (t < tiles * 16) {
      float total = 0;
#pragma unroll
      for (int tile = 0; tile < 8; ++tile)
        if (tile <= t / 16) total += sums[tile * kSsdChunk + t];
      a.parts.rows[row * kSsdChunk + t] = total;
    }
  };

  // [as products][4 · 8 columns + 2 · 8 rows + column]; anything where masked
  float grad_products[4][8] = {};
  const auto start_head = [&](int parity) {
    const uint32_t tile_state = stages + parity * Tile::kStage, tile_x = tile_state + Tile::kState,
                   own_grad = tile_x + Tile::kX + half_i * 8192;
    take_sums(pairs);
    take_sums(sums);
    begin_products();
    multiply_wide_rows<T, 64, kSsdChunk, kSsdChunk>(pairs, wide_tile(tile_x + half_j * 8192),
                                                    wide_tile(own_grad), false);
    commit_products();
    multiply_wide_rows<T, N, kSsdChunk, 64>(sums, wide_tile(tile_B + half_j * 8192), wide_tile(tile_state),
                                            false);
    commit_products();
  };
  const auto run_head = [&](int head, int parity) {
    const uint32_t tile_state = stages + parity * Tile::kStage, tile_x = tile_state + Tile::kState,
                   tile_grad = tile_x + Tile::kX, own_grad = tile_grad + half_i * 8192;
    const float *cumulative = all_vectors + parity * (Tile::kVectors / 4), *delta = cumulative + kSsdChunk;
    float* const head_sums = all_sums + parity * (Tile::kSums / 4);

    wait_products<1>();
    take_sums(pairs);

    const float tile_end = cumulative[row_tile * 16 + 15], last = cumulative[kSsdChunk - 1];
    float exponent[2], step[2], to_end[2], columns[2] = {0, 0};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      exponent[r] = cumulative[row0 + 8 * r];
      step[r] = delta[row0 + 8 * r];
      to_end[r] = fast_exp2(tile_end - exponent[r]);
    }

    uint32_t left[4][4] = {};  // (CBᵀ ∘ L)ᵀ
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      const int i = half_i * 4 + m;
      if (i >= row_tile) {
        float of_rows[2][2] = {};  // [8 columns][column]
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int column = i * 16 + c * 8 + quad * 2;
          const float2 later = reinterpret_cast<const float2&>(cumulative[column]);
          float decays[2][2];  // [8 rows][column]
          if (i > row_tile) {
            // To the end of j's tile, and on from there.
            const float onward[2] = {fast_exp2(later.x - tile_end), fast_exp2(later.y - tile_end)};
#pragma unroll
            for (int r = 0; r < 2; ++r)
              decays[r][0] = onward[0] * to_end[r], decays[r][1] = onward[1] * to_end[r];
          } else {
            // Before j the product is 0, and the decay must not be infinite.
#pragma unroll
            for (int r = 0; r < 2; ++r)
              decays[r][0] = fast_exp2(fminf(later.x - exponent[r], 0.f)),
              decays[r][1] = fast_exp2(fminf(later.y - exponent[r], 0.f));
          }
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            keep_packed(products[m][2 * c + r]);
            const float2 both = unpack_pair<T>(products[m][2 * c + r]);
            float mixed[2];
#pragma unroll
            for (int k = 0; k < 2; ++k) {
              const float pair = pairs[2 * m + c][2 * r + k];
              mixed[k] = (k ? both.y : both.x) * kProductScale<T> * decays[r][k];
              grad_products[m][4 * c + 2 * r + k] += pair * (decays[r][k] * step[r]);
              float of_exponent = pair * mixed[k];
              // The exponent of a token's own decay is always 0.
              if (c == r && i == row_tile && quad * 2 + k == lane / 4) of_exponent = 0;
              columns[r] += of_exponent;
              of_rows[c][k] += of_exponent * step[r];
            }
            left[m][2 * c + r] = pack_pair<T>(mixed[0], mixed[1]);
          }
        }
        store_row_sums(head_sums + row_tile * kSsdChunk + i * 16, of_rows, lane);
      }
#pragma unroll
      for (int k = 0; k < 4; ++k) keep_packed(left[m][k]);
    }
    wait_products<0>();
    take_sums(sums);
    if (reads_state)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float leave = row0 + 8 * r >= chunk.tail ? fast_exp2(last - exponent[r]) : 0.f;
#pragma unroll
        for (int n = 0; n < 8; ++n) sums[n][2 * r] *= leave, sums[n][2 * r + 1] *= leave;
      }
    take_sums(sums);
    begin_products();
#pragma unroll
    for (int m = 0; m < 4; ++m)
      multiply_wide<T>(sums, left[m], wide_tile(own_grad) + wide_offset(m * 2048), reads_state || m > 0);
    commit_products();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float total = sum_quad(columns[r] * step[r]);
      if (quad == 0) head_sums[(part == 1 ? 9 : 8) * kSsdChunk + row0 + 8 * r] = total;
    }
    wait_products<0>();
    take_sums(sums);

    // What the first half's tokens get from the second half goes to the first warpgroup.
    if (part == 1)
#pragma unroll
      for (int n = 0; n < 8; ++n)
        exchanged[n * 128] = make_float4(sums[n][0], sums[n][1], sums[n][2], sums[n][3]);
    __syncthreads();
    if (part == 1) return;
    if (part == 0)
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const float4 v = exchanged[n * 128];
        sums[n][0] += v.x, sums[n][1] += v.y, sums[n][2] += v.z, sums[n][3] += v.w;
      }
    const float skip = a.D ? a.D[head] : 0.f;
    float of_skip = 0;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = row0 + 8 * r;
      float direct = 0;
      uint4 packed[2];
#pragma unroll
      for (int n = 0; n < 8; n += 4) {
        uint32_t pairs_of_row[4];
#pragma unroll
        for (int q = 0; q < 4; ++q)
          pairs_of_row[q] =
              finish_pair<T>(sums[n + q][2 * r], sums[n + q][2 * r + 1],
                             load_pair<T, 64>(tile_x, place0 + 8 * r, n + q, quad),
                             load_pair<T, 64>(tile_grad, row, n + q, quad), step[r], skip, direct, of_skip);
        packed[n / 4] =
            transpose_quad(pairs_of_row[0], pairs_of_row[1], pairs_of_row[2], pairs_of_row[3], lane);
      }
      if (grad_x && row < chunk.size) {
        T* to = grad_x + row * a.grad_x.token_stride + head * 64 + quad * 8;
        reinterpret_cast<uint4&>(to[0]) = packed[0];
        reinterpret_cast<uint4&>(to[32]) = packed[1];
      }
      direct = sum_quad(direct);
      if (quad == 0) head_sums[10 * kSsdChunk + row] = direct;
    }
    of_skip = sum_warp(of_skip);
    if (lane == 0) head_sums[11 * kSsdChunk + half_j * 4 + warp] = of_skip;
  };

  for (int head = heads.begin; head < heads.end; ++head) {
    const int parity = (head - heads.begin) % 2;
    await_copies();
    start_head(parity);
    if (head + 1 < heads.end) issue(head + 1, parity ^ 1);
    if (head > heads.begin) write_sums(head - 1, parity ^ 1);
    run_head(head, parity);
  }
  __syncthreads();
  write_sums(heads.end - 1, (heads.end - 1 - heads.begin) % 2);

  float* to = a.grad_products + ((split * a.slots + slot) * a.groups + group) * kSsdChunk * kSsdChunk;
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    const int i = half_i * 4 + m;
    if (i >= row_tile && i < tiles) store_grad_products(to, grad_products[m], reaches, i * 16, quad);
  }
}

}  // namespace exactmamba::ops
