// The backward pass of ssd on the GPU. The gradient of the state leaving every chunk comes from the same walk
// as the states of the forward pass, backwards (ssd_state_kernel). Then, per chunk and head, with L the
// decays inside the chunk, e and f those from its start and to its end, s the entering state, ∂s the leaving
// state's gradient:
//   ∂(Δ x) = (CBᵀ ∘ L)ᵀ ∂out + f ∘ (B ∂sᵀ)             ssd_grad_x_kernel, which also sums
//   ∂(CBᵀ) = Σ_heads (∂out xᵀ) ∘ L ∘ Δ                  over the heads of a group
//   ∂C = Σ_heads e ∘ (∂out s) + ∂(CBᵀ) B                 ssd_grad_key_kernel
//   ∂B = Σ_heads f ∘ Δ ∘ (x ∂s) + ∂(CBᵀ)ᵀ C
// Gradients of the decays' exponents are gathered per token on the way (SsdGradientParts) and turned into
// those of dt, A and dt_bias at the end (ssd_grad_dt_kernel). Sums over heads, chunks and sequences have a
// fixed order.
#pragma once

#include "models/ops/ssd/ssd_kernel.cuh"

namespace exactmamba::ops {

template <class T>
struct SsdBackwardArguments {
  Rows<const T> x, B, C, grad_out;
  Rows<T> grad_x, grad_B, grad_C;  // [nullable]
  const float* D;                  // (H) [nullable]
  const T *states, *grad_states;   // (slots, H, P, N): entering; gradient of the leaving one
  bool has_initial_state, has_grad_last_state;
  SsdTables<float> tables;
  SsdGradientParts parts;
  float* grad_products;          // (splits, slots, G, Q, Q): transposed, ∂(CBᵀ)_ij at [j][i], i ≥ j
  float *partial_B, *partial_C;  // (splits, B·L, G·N), only with several splits
  int heads, groups, splits;
  int64_t slots, tokens;
};

/// Stages of a block's pipeline over heads. One where an architecture has too little shared memory for two.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
inline constexpr int kSsdStages = 1;
#else
inline constexpr int kSsdStages = 2;
#endif

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
/// they add up, and each finishes half of P. The products stay in registers as in the forward pass.
template <class T, int N>
__global__ __launch_bounds__(512, 1) void ssd_grad_x_kernel(const SsdBackwardArguments<T> a) {
  using Tile = SsdGradXTile<T, N>;
  extern __shared__ __align__(128) unsigned char shared[];
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
  int stop[2] = {kSsdChunk, kSsdChunk};
  if (chunk.tail > 0)
    for (int r = 0; r < 2; ++r) stop[r] = a.tables.stop[slot * kSsdChunk + row0 + 8 * r];
  const auto reaches = [&](int r, int i) {
    const int j = row0 + 8 * r;
    return static_cast<unsigned>(i - j) < static_cast<unsigned>(stop[r] - j);
  };
  load_keys<T, N, 512>(tile_B, a.B, chunk);
  load_keys<T, N, 512>(exchange, a.C, chunk);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    const int i = row_tile + part + 2 * m;
    if (i >= tiles) break;
    float sums[2][4] = {};
    add_inner_products<T, N>(sums, tile_B, row_tile * 16, exchange, i * 16, lane);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int r = k % 2, column = i * 16 + k / 2 * 8 + quad * 2;
      products[m][k] = pack_pair<T>(reaches(r, column) ? sums[k / 2][2 * r] / kProductScale<T> : 0.f,
                                    reaches(r, column + 1) ? sums[k / 2][2 * r + 1] / kProductScale<T> : 0.f);
    }
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
      if (t == 0) a.parts.skip[row] = total;
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
    if (has_grad_state) {
#pragma unroll
      for (int k = 0; k < N / 32; ++k) {
        const int k0 = part * (N / 2) + k * 16;
        uint32_t left[4];
        load_left<N>(left, tile_B, row_tile * 16, k0, lane);
#pragma unroll
        for (int n = 0; n < 8; n += 2) {
          uint32_t right[4];
          load_right<N>(right, tile_state, n * 8, k0, lane);
          multiply_add<T>(sums[n], left, right[0], right[1]);
          multiply_add<T>(sums[n + 1], left, right[2], right[3]);
        }
      }
    }

    // The decay from j to a later tile's i: to the end of j's tile, and on from there. What both the later
    // tiles and the leaving state have in common, the former, is multiplied once.
    const float tile_end = cumulative[row_tile * 16 + 15],
                onward_end = exp2_fast(cumulative[kSsdChunk - 1] - tile_end);
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
        const float onward[2] = {exp2_fast(later.x - tile_end), exp2_fast(later.y - tile_end)};
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
              const float decay = exp2_fast(fminf((k ? later.y : later.x) - exponent[r], 0.f));
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
#pragma unroll
      for (int n = 0; n < 8; n += 2) {
        uint32_t right[4];
        load_right_transposed<64>(right, tile_grad, n * 8, i * 16, lane);
        multiply_add<T>(sums[n], left, right[0], right[1]);
        multiply_add<T>(sums[n + 1], left, right[2], right[3]);
      }
      // Sums over the 16 tokens j: each exchange halves the columns that a lane keeps.
      const bool upper = lane & 16, odd = lane & 8;
      float kept[2];
#pragma unroll
      for (int k = 0; k < 2; ++k)
        kept[k] = (upper ? of_rows[1][k] : of_rows[0][k]) +
                  __shfl_xor_sync(~0u, upper ? of_rows[0][k] : of_rows[1][k], 16);
      float total = (odd ? kept[1] : kept[0]) + __shfl_xor_sync(~0u, odd ? kept[0] : kept[1], 8);
      total += __shfl_xor_sync(~0u, total, 4);
      if ((lane & 4) == 0) row_sums[i * 16 + upper * 8 + quad * 2 + odd] = total;
    };
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      if (m == 0 && part == 0) continue;
      if (row_tile + part + 2 * m >= tiles) break;
      add_tile(std::false_type{}, m);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float to_end = exp2_fast(tile_end - exponent[r]);
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
          direct[r] += low * own.x + high * own.y;
          of_skip += grad.x * own.x + grad.y * own.y;
          packed[r][n] = pack_pair<T>(step[r] * low + skip * grad.x, step[r] * high + skip * grad.y);
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
  commit_copies();
  for (int head = heads.begin; head < heads.end; ++head) {
    const int parity = (head - heads.begin) % 2;
    wait_copies<0>();
    __syncthreads();
    if (head > heads.begin) write_sums(head - 1, parity ^ 1);
    if (kSsdStages == 2 && head + 1 < heads.end) issue(head + 1, parity ^ 1);
    commit_copies();
    if (is_used)
      run_head(head, parity);
    else
      __syncthreads();  // that of run_head
    if (kSsdStages == 1) {
      __syncthreads();
      if (head + 1 < heads.end) issue(head + 1, parity ^ 1);
      commit_copies();
    }
  }
  __syncthreads();
  write_sums(heads.end - 1, (heads.end - 1 - heads.begin) % 2);

  float* to = a.grad_products + ((split * a.slots + slot) * a.groups + group) * kSsdChunk * kSsdChunk;
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    const int i = row_tile + part + 2 * m;
    if (i >= tiles) break;
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int column = i * 16 + c * 8 + quad * 2;
        reinterpret_cast<float2&>(to[(row0 + 8 * r) * kSsdChunk + column]) = {
            reaches(r, column) ? grad_products[m][4 * c + 2 * r] : 0.f,
            reaches(r, column + 1) ? grad_products[m][4 * c + 2 * r + 1] : 0.f};
      }
  }
}

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
  extern __shared__ __align__(128) unsigned char shared[];
  const int slot = blockIdx.x, group = blockIdx.y, split = blockIdx.z;
  const SsdChunk chunk = a.tables.chunks[slot];
  if (chunk.size == 0) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, quad = lane % 4;
  const bool of_B = warp >= 8;
  const int row_tile = warp % 8, row0 = row_tile * 16 + lane / 4, tiles = (chunk.size + 15) / 16;
  const SsdHeads heads = heads_of_block(a.heads, a.groups, a.splits);
  const bool has_state = chunk.first < 0 || a.has_initial_state,
             has_grad_state = chunk.last < 0 || a.has_grad_last_state;
  const bool is_used = row_tile < tiles, reads_state = is_used && (of_B ? has_grad_state : has_state);
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
      load_tile<T, 64, N, 512>(states, a.states + row * (64 * N), N, 64);
      load_floats<512>(vectors, a.tables.enter + row * kSsdChunk, kSsdChunk);
    }
    if (has_grad_state) {
      load_tile<T, kSsdChunk, 64, 512>(stage + Tile::kValues, x + head * 64, a.x.token_stride, chunk.size);
      load_tile<T, 64, N, 512>(states + Tile::kState, a.grad_states + row * (64 * N), N, 64);
      load_floats<512>(vectors + kSsdChunk * 4, a.tables.write + row * kSsdChunk, kSsdChunk, 32);
    }
  };

  load_keys<T, N, 512>(tile_C, a.C, chunk);
  load_keys<T, N, 512>(tile_B, a.B, chunk);
  issue(heads.begin, 0);
  commit_copies();
  float sums[N / 8][4] = {};
  for (int head = heads.begin; head < heads.end; ++head) {
    const int parity = (head - heads.begin) % 2;
    wait_copies<0>();
    __syncthreads();
    if (kSsdStages == 2 && head + 1 < heads.end) issue(head + 1, parity ^ 1);
    commit_copies();
    const unsigned char* states =
        shared + 2 * Tile::kKeys + parity % kSsdStages * Tile::kStage + 2 * Tile::kValues;
    if (reads_state) {
      const uint32_t tile_values = shared_address(states) - (of_B ? 1 : 2) * Tile::kValues,
                     tile_state = shared_address(states) + (of_B ? Tile::kState : 0);
      const float* weight =
          reinterpret_cast<const float*>(states + 2 * Tile::kState) + (of_B ? kSsdChunk : 0);
      uint32_t left[4][4];
#pragma unroll
      for (int k = 0; k < 4; ++k) load_left<64>(left[k], tile_values, row_tile * 16, k * 16, lane);
      const float weights_of_rows[2] = {weight[row0], weight[row0 + 8]};
      float of_exponent[2] = {0, 0};
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
#pragma unroll
        for (int c = 0; c < 2; ++c)
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const float2 key = load_pair<T, N>(own_keys, row0 + 8 * r, n + c, quad);
            of_exponent[r] += own[c][2 * r] * key.x + own[c][2 * r + 1] * key.y;
            sums[n + c][2 * r] += weights_of_rows[r] * own[c][2 * r];
            sums[n + c][2 * r + 1] += weights_of_rows[r] * own[c][2 * r + 1];
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
      for (int at = threadIdx.x * 16; at < Tile::kState; at += 512 * 16) {
        const uint4 u = reinterpret_cast<const uint4&>(states[at]),
                    v = reinterpret_cast<const uint4&>(states[Tile::kState + at]);
        const uint32_t us[4] = {u.x, u.y, u.z, u.w}, vs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const float2 s = unpack_pair<T>(us[k]), g = unpack_pair<T>(vs[k]);
          cross += s.x * g.x + s.y * g.y;
        }
      }
      cross = sum_warp(cross);
      if (lane == 0) a.parts.cross[table_row(head) * 16 + warp] = cross;
    }
    if (kSsdStages == 1) {
      __syncthreads();
      if (head + 1 < heads.end) issue(head + 1, parity ^ 1);
      commit_copies();
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
#pragma unroll
      for (int n = 0; n < N / 8; n += 2) {
        uint32_t right[4];
        load_right_transposed<N>(right, other_keys, n * 8, k * 16, lane);
        multiply_add<T>(sums[n], left, right[0], right[1]);
        multiply_add<T>(sums[n + 1], left, right[2], right[3]);
      }
    }
  }

  if (a.splits > 1) {
    float* to = (of_B ? a.partial_B : a.partial_C) +
                ((split * a.tokens + chunk.begin) * a.groups + group) * N + quad * 2;
    for (int r = 0; r < 2; ++r)
      if (row0 + 8 * r < chunk.size)
#pragma unroll
        for (int n = 0; n < N / 8; ++n)
          reinterpret_cast<float2&>(to[(row0 + 8 * r) * static_cast<int64_t>(a.groups * N) + n * 8]) = {
              sums[n][2 * r], sums[n][2 * r + 1]};
    return;
  }
  T* const data = of_B ? a.grad_B.data : a.grad_C.data;
  if (!data) return;
  const int64_t stride = of_B ? a.grad_B.token_stride : a.grad_C.token_stride;
  T* to = (of_B ? row_at(a.grad_B, chunk.begin) : row_at(a.grad_C, chunk.begin)) + group * N + quad * 8;
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int n = 0; n < N / 8; n += 4) {
      uint32_t pairs[4];
#pragma unroll
      for (int q = 0; q < 4; ++q) pairs[q] = pack_pair<T>(sums[n + q][2 * r], sums[n + q][2 * r + 1]);
      const uint4 packed = transpose_quad(pairs[0], pairs[1], pairs[2], pairs[3], lane);
      if (row0 + 8 * r < chunk.size) reinterpret_cast<uint4&>(to[(row0 + 8 * r) * stride + n * 8]) = packed;
    }
}

/// Adds the splits' parts of the gradient of B or C. One thread per element of G·N, one block row per token.
template <class T>
__global__ __launch_bounds__(128) void ssd_add_splits_kernel(const float* partial, Rows<T> to, int64_t tokens,
                                                             int width, int splits) {
  const int64_t token = blockIdx.x;
  T* row = row_at(to, token);
  for (int n = threadIdx.x; n < width; n += 128) {
    float sum = 0;
    for (int s = 0; s < splits; ++s) sum += partial[(s * tokens + token) * width + n];
    row[n] = from_float<T>(sum);
  }
}

/// Grid: (slots, ⌈H / 8⌉). One warp per head, 4 tokens a lane: gradients of dt, and the chunk's part (3, H,
/// slots) of those of A, D and dt_bias.
template <class T, class Cumulative>
__global__ __launch_bounds__(256) void ssd_grad_dt_kernel(const SsdCudaParams<T> p,
                                                          const SsdTables<Cumulative> t,
                                                          const SsdGradientParts parts, float* sums,
                                                          int slots) {
  __shared__ double suffixes[8][kSsdChunk + 1];
  __shared__ float steps[8][kSsdChunk + 4];  // dt + dt_bias, then the gradient
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int slot = blockIdx.x, first_head = blockIdx.y * 8, head = first_head + warp;
  const int64_t row = static_cast<int64_t>(slot) * p.heads + head;
  const SsdChunk chunk = t.chunks[slot];
  float grad_A = 0, grad_D = 0, grad_bias = 0;
  if (chunk.size > 0) load_biased_steps(p, chunk, first_head, steps);
  __syncthreads();
  if (chunk.size > 0 && head < p.heads) {
    const bool has_state = chunk.first < 0 || p.initial_state,
               has_grad_state = chunk.last < 0 || p.grad_last_state;
    const int64_t at = row * kSsdChunk + lane * 4;
    const auto of_lane = [&](const float* table) {
      return lane * 4 < chunk.size ? reinterpret_cast<const float4&>(table[at]) : float4{};
    };
    const auto element = [](const float4& v, int k) {
      return k == 0 ? v.x : k == 1 ? v.y : k == 2 ? v.z : v.w;
    };
    const float4 rows = of_lane(parts.rows), columns = of_lane(parts.columns), direct = of_lane(parts.direct),
                 delta = of_lane(t.delta), read = has_state ? of_lane(parts.read) : float4{},
                 written = has_grad_state ? of_lane(parts.written) : float4{};
    double exponents[4], to_end = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      exponents[k] = 0;
      if (lane * 4 + k >= chunk.size) continue;
      exponents[k] = static_cast<double>(element(rows, k)) - element(columns, k) + element(read, k) -
                     element(written, k);
      to_end += element(written, k);
    }
    if (has_state && has_grad_state && lane < 16)
      to_end += static_cast<double>(t.across[row]) * parts.cross[row * 16 + lane];
    if (lane == 0) grad_D = parts.skip[row];
    for (int step = 16; step; step /= 2) to_end += __shfl_xor_sync(~0u, to_end, step);
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (lane * 4 + k == chunk.size - 1) exponents[k] += to_end;
    double after = exponents[0] + exponents[1] + exponents[2] + exponents[3];
    const double own = after;
    for (int step = 1; step < 32; step *= 2) {
      const double other = __shfl_down_sync(~0u, after, step);
      if (lane + step < 32) after += other;
    }
    after -= own;
#pragma unroll
    for (int k = 3; k >= 0; --k) {
      after += exponents[k];
      exponents[k] = after;  // from here on the sum over this and all later tokens
      suffixes[warp][lane * 4 + k] = after;
    }
    if (lane == 0) suffixes[warp][kSsdChunk] = 0;
    __syncwarp();
    const float rate = p.A[head];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int i = lane * 4 + k;
      if (i >= chunk.size) continue;
      // Later sequences' sums are taken off exactly: they are the same numbers.
      const int stop = chunk.tail > 0 ? t.stop[slot * kSsdChunk + i] : kSsdChunk;
      const float later = static_cast<float>(exponents[k] - suffixes[warp][stop]);
      const float biased = steps[warp][i], step = ssd_softplus(biased);
      const bool clamped = step < p.dt_min || step > p.dt_max;
      const float slope = clamped ? 0.f : 1.f / (1.f + expf(-biased));
      const float grad = (element(direct, k) + rate * later) * slope;
      steps[warp][i] = grad;
      grad_A += later * element(delta, k);
      grad_bias += grad;
    }
  }
  grad_A = sum_warp(grad_A);
  grad_D = sum_warp(grad_D);
  grad_bias = sum_warp(grad_bias);
  if (lane == 0 && head < p.heads) {
    const int64_t stride = static_cast<int64_t>(p.heads) * slots,
                  to = static_cast<int64_t>(head) * slots + slot;
    sums[to] = grad_A;
    sums[stride + to] = grad_D;
    sums[2 * stride + to] = grad_bias;
  }
  __syncthreads();
  const int of_block = threadIdx.x % 8;
  if (!p.grad_dt.data || first_head + of_block >= p.heads) return;
  T* grad_dt = row_at(p.grad_dt, chunk.begin) + first_head + of_block;
  for (int i = threadIdx.x / 8; i < chunk.size; i += 32)
    grad_dt[i * p.grad_dt.token_stride] = from_float<T>(steps[of_block][i]);
}

/// Adds the chunks' parts to a parameter's gradient. Grid: (H, 3).
static __global__ __launch_bounds__(128) void ssd_add_parameters_kernel(const float* sums, float* grad_A,
                                                                        float* grad_D, float* grad_bias,
                                                                        int slots) {
  __shared__ double of_warps[4];
  float* to = blockIdx.y == 0 ? grad_A : blockIdx.y == 1 ? grad_D : grad_bias;
  if (!to) return;
  const float* from = sums + (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * slots;
  double sum = 0;
  for (int s = threadIdx.x; s < slots; s += 128) sum += from[s];
  for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0)
    to[blockIdx.x] += static_cast<float>(of_warps[0] + of_warps[1] + of_warps[2] + of_warps[3]);
}

/// Stages that the device's shared memory allows; 0: none. At least as many as kSsdStages of its
/// architecture.
template <class T>
int ssd_backward_stages() {
  const int limit = shared_limit();
  for (int stages = 2; stages > 0; --stages)
    if (limit >= SsdGradXTile<T, 128>::bytes(stages) && limit >= SsdGradKeyTile<T, 128>::bytes(stages))
      return stages;
  return 0;
}

template <class T>
bool uses_fast_backward(const SsdCudaParams<T>& p) {
  if constexpr (sizeof(T) == 2)
    return has_fast_shape(p) && is_aligned(p.grad_out) && is_aligned(p.grad_x) && is_aligned(p.grad_B) &&
           is_aligned(p.grad_C) && ssd_backward_stages<T>() > 0;
  return false;
}

template <class T>
struct SsdBackwardSpace {
  SsdTables<float> fast{};
  SsdTables<double> generic{};
  SsdGradientParts parts;
  T* grad_states;
  float* sums;  // (3, H, slots)
  float *grad_products, *partial_B = nullptr, *partial_C = nullptr, *products, *pairs, *read, *written,
                        *grad_scaled_x;
  int splits = 1;
  size_t bytes;

  SsdBackwardSpace(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes) {
    SsdArena arena(p.workspace);
    const int64_t rows = sizes.slots * p.heads, tokens = rows * kSsdChunk, squares = kSsdChunk * kSsdChunk,
                  per_group = p.heads / p.groups, of_groups = sizes.slots * p.groups;
    const auto floats = [&](int64_t count) { return arena.template take<float>(count); };
    parts = {floats(tokens), floats(tokens), floats(tokens),   floats(tokens),
             floats(tokens), floats(rows),   floats(rows * 16)};
    sums = floats(3 * rows);
    grad_states = arena.template take<T>(rows * sizes.state_size);
    if (uses_fast_backward(p)) {
      fast = sizes.template take_tables<float>(arena, p);
      splits = ssd_splits(of_groups, per_group, 200);
      grad_products = floats(splits * of_groups * squares);
      if (splits > 1) {
        const int64_t elements = splits * p.batch * p.length * p.groups * p.states;
        partial_B = floats(elements);
        partial_C = floats(elements);
      }
    } else {
      generic = sizes.template take_tables<double>(arena, p);
      products = floats(of_groups * squares);
      grad_products = floats(of_groups * squares);
      pairs = floats(rows * squares);
      read = floats(tokens * p.head_size);
      written = floats(tokens * p.head_size);
      grad_scaled_x = floats(tokens * p.head_size);
    }
    bytes = arena.used();
  }
};

template <class T>
SsdStateArguments<T> backward_state_arguments(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes,
                                              const SsdChunk* chunks, const float* enter, const float* across,
                                              T* grad_states) {
  return {p.grad_out,
          p.C,
          enter,
          across,
          chunks,
          sizes.layout,
          grad_states,
          p.grad_last_state,
          p.grad_initial_state,
          static_cast<int>(p.heads),
          static_cast<int>(p.groups),
          static_cast<int>(p.head_size),
          static_cast<int>(sizes.state_size)};
}

template <class T, int N>
cudaError_t ssd_fast_backward(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes,
                              const SsdBackwardSpace<T>& space) {
  const auto states = backward_state_arguments(p, sizes, space.fast.chunks, space.fast.enter,
                                               space.fast.across, space.grad_states);
  if (const cudaError_t error =
          launch_ssd_states<T, N, true>(states, sizes.slots, sizes.walks, walks_in_one_block(p), p.stream))
    return error;
  const SsdBackwardArguments<T> a{p.x,
                                  p.B,
                                  p.C,
                                  p.grad_out,
                                  p.grad_x,
                                  p.grad_B,
                                  p.grad_C,
                                  p.D,
                                  p.chunk_states,
                                  space.grad_states,
                                  p.initial_state != nullptr,
                                  p.grad_last_state != nullptr,
                                  space.fast,
                                  space.parts,
                                  space.grad_products,
                                  space.partial_B,
                                  space.partial_C,
                                  static_cast<int>(p.heads),
                                  static_cast<int>(p.groups),
                                  space.splits,
                                  sizes.slots,
                                  p.batch * p.length};
  const int stages = ssd_backward_stages<T>();
  const int of_x = SsdGradXTile<T, N>::bytes(stages), of_keys = SsdGradKeyTile<T, N>::bytes(stages);
  if (const cudaError_t error = allow_shared(ssd_grad_x_kernel<T, N>, of_x)) return error;
  ssd_grad_x_kernel<T, N><<<dim3(sizes.slots, p.groups, space.splits), 512, of_x, p.stream>>>(a);
  if (const cudaError_t error = allow_shared(ssd_grad_key_kernel<T, N>, of_keys)) return error;
  ssd_grad_key_kernel<T, N><<<dim3(sizes.slots, p.groups, space.splits), 512, of_keys, p.stream>>>(a);
  if (space.splits > 1) {
    const int width = static_cast<int>(p.groups * p.states);
    if (p.grad_B)
      ssd_add_splits_kernel<<<a.tokens, 128, 0, p.stream>>>(space.partial_B, p.grad_B, a.tokens, width,
                                                            space.splits);
    if (p.grad_C)
      ssd_add_splits_kernel<<<a.tokens, 128, 0, p.stream>>>(space.partial_C, p.grad_C, a.tokens, width,
                                                            space.splits);
  }
  return cudaGetLastError();
}

template <class T, class Cumulative>
cudaError_t ssd_finish_backward(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes,
                                const SsdTables<Cumulative>& tables, const SsdBackwardSpace<T>& space) {
  const int slots = static_cast<int>(sizes.slots);
  ssd_grad_dt_kernel<<<dim3(slots, (p.heads + 7) / 8), 256, 0, p.stream>>>(p, tables, space.parts, space.sums,
                                                                           slots);
  ssd_add_parameters_kernel<<<dim3(p.heads, 3), 128, 0, p.stream>>>(space.sums, p.grad_A, p.grad_D,
                                                                    p.grad_dt_bias, slots);
  return cudaGetLastError();
}

template <class T>
size_t ssd_backward_workspace(const SsdCudaParams<T>& params) {
  return ssd_workspace<SsdBackwardSpace>(params);
}

template <class T>
cudaError_t launch_ssd_backward(const SsdCudaParams<T>& p) {
  if (p.batch * p.length * p.heads == 0) return cudaSuccess;
  const SsdSizes<T> sizes(p);
  const SsdBackwardSpace<T> space(p, sizes);
  if constexpr (sizeof(T) == 2)
    if (uses_fast_backward(p)) {
      if (const cudaError_t error = launch_ssd_prepare(p, sizes, space.fast)) return error;
      if (const cudaError_t error = p.states == 128 ? ssd_fast_backward<T, 128>(p, sizes, space)
                                                    : ssd_fast_backward<T, 64>(p, sizes, space))
        return error;
      return ssd_finish_backward(p, sizes, space.fast, space);
    }
  if (const cudaError_t error = launch_ssd_prepare(p, sizes, space.generic)) return error;
  const SsdGenericBackward<T> backward{{p, space.generic, p.chunk_states, space.products},
                                       space.grad_states,
                                       space.pairs,
                                       space.grad_products,
                                       space.read,
                                       space.written,
                                       space.grad_scaled_x,
                                       space.parts};
  const auto states = backward_state_arguments(p, sizes, space.generic.chunks, space.generic.enter,
                                               space.generic.across, space.grad_states);
  if (const cudaError_t error = ssd_generic_backward(backward, states, sizes)) return error;
  return ssd_finish_backward(p, sizes, space.generic, space);
}

}  // namespace exactmamba::ops
