// The forward pass of ssd on the GPU: step sizes (ssd_prepare_kernel), then one walk (ssd_walk_kernel), or
// the state entering every chunk (ssd_state_kernel) and the output of every chunk from its tokens and its
// entering state.
#pragma once

#include "models/ops/ssd/ssd_chunks.cuh"
#include "models/ops/ssd/ssd_generic.cuh"
#include "models/ops/ssd/ssd_walk.cuh"

namespace exactmamba::ops {

/// Products C·B wait as 16-bit numbers between heads; those of fp16 are scaled down to keep its range.
template <class T>
inline constexpr float kProductScale = std::is_same_v<T, __half> ? 64.f : 1.f;

template <class T>
struct SsdOutputArguments {
  Rows<const T> x, B, C;
  Rows<T> out;
  const float* D;   // (H) [nullable]
  const T* states;  // (slots, H, P, N)
  bool has_initial_state;
  SsdTables<float> tables;
  int heads, groups, splits;
};

template <class T, int N>
struct SsdOutputTile {
  static constexpr int kC = kSsdChunk * N * 2, kX = kSsdChunk * 64 * 2, kState = 64 * N * 2,
                       kRow = kSsdChunk * 4;
  static constexpr int kStage = kX + kState + 4 * kRow;
  static constexpr int kBytes = kC + 2 * kStage;
  static_assert(kSsdChunk * N * 2 <= 2 * kStage);
};

/// Grid: (slots, groups, splits of a group's heads). A block makes a chunk's output for its heads; 8 warps of
/// 16 tokens, each keeping its row of products C·Bᵀ in registers. With L the decays:
///   out = e ∘ (C stateᵀ) + (CBᵀ ∘ L ∘ Δ) x + D x
/// Where warpgroups multiply, C lies mirrored.
template <class T, int N>
__global__ __launch_bounds__(256, 2) void ssd_output_kernel(const SsdOutputArguments<T> a) {
  using Tile = SsdOutputTile<T, N>;
  extern __shared__ __align__(1024) unsigned char shared[];
  const int slot = blockIdx.x;
  const SsdChunk chunk = a.tables.chunks[slot];
  if (chunk.size == 0) return;
  const int warp = warp_index(), lane = threadIdx.x % 32, quad = lane % 4;
  // Later tokens have more work: each scheduler (warp % 4) gets an early and a late tile.
  const int half = warp / 4, row_tile = half ? 11 - warp : warp, row0 = row_tile * 16 + lane / 4;
  const bool is_used = (kHasWarpgroups ? half * 64 : row_tile * 16) < chunk.size;
  const SsdHeads heads = heads_of_block(a.heads, a.groups, a.splits);
  const bool has_state = chunk.first < 0 || a.has_initial_state;
  const uint32_t tile_C = shared_address(shared), stages = tile_C + Tile::kC;

  uint32_t products[8][4] = {};  // [tile of tokens j] C_i·B_j, 0 where j does not reach i
  int start[2] = {0, 0};
  if (chunk.tail > 0)
    for (int r = 0; r < 2; ++r) start[r] = a.tables.start[slot * kSsdChunk + row0 + 8 * r];
  // `sums`: C_i·B_j of 16 tokens j
  const auto keep_products = [&](int j, const float(*sums)[4]) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int r = k % 2, column = j * 16 + k / 2 * 8 + quad * 2;
      const unsigned reach = row0 + 8 * r - start[r];
      float low = sums[k / 2][2 * r] / kProductScale<T>, high = sums[k / 2][2 * r + 1] / kProductScale<T>;
      if (static_cast<unsigned>(column - start[r]) > reach) low = 0;
      if (static_cast<unsigned>(column + 1 - start[r]) > reach) high = 0;
      products[j][k] = pack_pair<T>(low, high);
    }
  };
  if constexpr (kHasWarpgroups) {
    if (half == 0)
      load_key_tiles<T, N, true>(tile_C, a.C, chunk);
    else
      load_key_tiles<T, N, false>(stages, a.B, chunk);
  } else {
    load_keys<T, N, 256>(tile_C, a.C, chunk);
    load_keys<T, N, 256>(stages, a.B, chunk);
  }
  await_copies();
  if constexpr (kHasWarpgroups) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (h > half || !is_used) break;
      float sums[8][4];
      begin_products();
      multiply_wide_rows<T, N, kSsdChunk, kSsdChunk>(sums, wide_tile(tile_C + half * 8192),
                                                     wide_tile(stages + h * 8192), false);
      end_products();
      take_sums(sums);
#pragma unroll
      for (int m = 0; m < 4; ++m) keep_products(4 * h + m, sums + 2 * m);
    }
  } else {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (j > row_tile || !is_used) break;
      float sums[2][4] = {};
      add_inner_products<T, N>(sums, tile_C, row_tile * 16, stages, j * 16, lane);
      keep_products(j, sums);
    }
  }
  __syncthreads();

  const T* x = row_at(a.x, chunk.begin);
  T* out = row_at(a.out, chunk.begin);
  const auto issue = [&](int head, int parity) {
    const uint32_t stage = stages + parity * Tile::kStage, vectors = stage + Tile::kX + Tile::kState;
    const int64_t row = static_cast<int64_t>(slot) * a.heads + head;
    if (has_state) load_state<T, N, 256>(stage + Tile::kX, a.states + row * (64 * N));
    load_tile<T, kSsdChunk, 64, 256>(stage, x + head * 64, a.x.token_stride, chunk.size);
    const float* const tables[4] = {a.tables.cumulative, a.tables.delta, a.tables.enter, a.tables.to_tile};
#pragma unroll
    for (int k = 0; k < 4; ++k)
      load_floats<256>(vectors + k * Tile::kRow, tables[k] + row * kSsdChunk, kSsdChunk, k * 32);
  };

  issue(heads.begin, 0);
  for (int head = heads.begin; head < heads.end; ++head) {
    const int parity = (head - heads.begin) % 2;
    await_copies();
    if (head + 1 < heads.end) issue(head + 1, parity ^ 1);
    if (!is_used) continue;
    const unsigned char* stage = shared + Tile::kC + parity * Tile::kStage;
    const uint32_t tile_x = shared_address(stage), tile_state = tile_x + Tile::kX;
    const float* cumulative = reinterpret_cast<const float*>(stage + Tile::kX + Tile::kState);
    const float *delta = cumulative + kSsdChunk, *enter = delta + kSsdChunk, *to_tile = enter + kSsdChunk;

    float sums[8][4] = {};
    if (has_state) {
      if constexpr (kHasWarpgroups) {
        begin_products();
        multiply_wide_rows<T, N, kSsdChunk, 64>(sums, wide_tile(tile_C + half * 8192), wide_tile(tile_state),
                                                false);
        end_products();
        take_sums(sums);
      } else {
        add_row_products<T, N, N>(sums, tile_C, row_tile * 16, tile_state, 0, lane);
      }
      const float enter0 = enter[row0], enter1 = enter[row0 + 8];
#pragma unroll
      for (int n = 0; n < 8; ++n)
        sums[n][0] *= enter0, sums[n][1] *= enter0, sums[n][2] *= enter1, sums[n][3] *= enter1;
    }

    const float exponent[2] = {cumulative[row0], cumulative[row0 + 8]};
    // (CBᵀ ∘ L ∘ Δ) of 16 tokens j
    const auto weigh = [&](uint32_t(&left)[4], int j) {
      if (j < row_tile) {
        // Decay from j to i: to the end of j's tile, and on from there.
        const float tile_end = cumulative[j * 16 + 15];
        const float onward[2] = {fast_exp2(exponent[0] - tile_end) * kProductScale<T>,
                                 fast_exp2(exponent[1] - tile_end) * kProductScale<T>};
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int column = j * 16 + c * 8 + quad * 2;
          const float2 weight = reinterpret_cast<const float2&>(to_tile[column]);
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            keep_packed(products[j][2 * c + r]);
            const float2 product = unpack_pair<T>(products[j][2 * c + r]);
            left[2 * c + r] =
                pack_pair<T>(product.x * (onward[r] * weight.x), product.y * (onward[r] * weight.y));
          }
        }
      } else {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int column = j * 16 + c * 8 + quad * 2;
          const float2 before = reinterpret_cast<const float2&>(cumulative[column]),
                       step = reinterpret_cast<const float2&>(delta[column]);
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            keep_packed(products[j][2 * c + r]);
            const float2 product = unpack_pair<T>(products[j][2 * c + r]);
            // Above the diagonal the product is 0, and the decay must not be infinite.
            const float low = fast_exp2(fminf(exponent[r] - before.x, 0.f)) * kProductScale<T> * step.x,
                        high = fast_exp2(fminf(exponent[r] - before.y, 0.f)) * kProductScale<T> * step.y;
            left[2 * c + r] = pack_pair<T>(product.x * low, product.y * high);
          }
        }
      }
    };
    if constexpr (kHasWarpgroups) {
      take_sums(sums);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (h > half) break;
        uint32_t left[4][4] = {};
#pragma unroll
        for (int m = 0; m < 4; ++m) {
          if (4 * h + m <= row_tile) weigh(left[m], 4 * h + m);
#pragma unroll
          for (int k = 0; k < 4; ++k) keep_packed(left[m][k]);
        }
        begin_products();
#pragma unroll
        for (int m = 0; m < 4; ++m)
          multiply_wide<T>(sums, left[m], wide_tile(tile_x) + wide_offset((4 * h + m) * 2048), true);
        commit_products();
      }
      wait_products<0>();
      take_sums(sums);
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        if (j > row_tile) break;
        uint32_t left[4];
        weigh(left, j);
        add_products<T, 64>(sums, left, tile_x, j * 16, lane);
      }
    }

    const float skip = a.D ? a.D[head] : 0.f;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = row0 + 8 * r;
      const SsdOutputRow packed = finish_output<T>(sums, r, tile_x, row, skip, lane);
      if (row < chunk.size) {
        T* to = out + row * a.out.token_stride + head * 64 + quad * 8;
        reinterpret_cast<uint4&>(to[0]) = packed.low;
        reinterpret_cast<uint4&>(to[32]) = packed.high;
      }
    }
  }
}

/// Splits of a group's heads that give about `wanted` blocks in all, from `blocks` without splitting.
inline int ssd_splits(int64_t blocks, int64_t heads_per_group, int64_t wanted) {
  return static_cast<int>(std::clamp<int64_t>((wanted + blocks - 1) / std::max<int64_t>(blocks, 1), 1,
                                              std::max<int64_t>(heads_per_group, 1)));
}

template <class T, int N>
cudaError_t ssd_fast_forward(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes,
                             const SsdTables<float>& tables, T* states, float* squares) {
  if (const cudaError_t error = launch_ssd_prepare(p, sizes, tables)) return error;
  if constexpr (kTakesGate<T, N>)
    if (p.z.data) return launch_ssd_gated_walk<T, N>(p, sizes, tables, squares);
  if (walks_once(p, sizes))
    return launch_ssd_walk<T, N, SsdWalkMakes::kOutput>(p, sizes, tables, p.chunk_states);
  if (const cudaError_t error = launch_ssd_states<T, N, false>(p, sizes, tables, states)) return error;
  const int splits = ssd_splits(sizes.slots * p.groups, p.heads / p.groups, 512);
  const SsdOutputArguments<T> output{p.x,
                                     p.B,
                                     p.C,
                                     p.out,
                                     p.D,
                                     states,
                                     p.initial_state != nullptr,
                                     tables,
                                     static_cast<int>(p.heads),
                                     static_cast<int>(p.groups),
                                     splits};
  constexpr int kBytes = SsdOutputTile<T, N>::kBytes;
  if (const cudaError_t error = allow_shared(ssd_output_kernel<T, N>, kBytes)) return error;
  ssd_output_kernel<T, N><<<dim3(sizes.slots, p.groups, splits), 256, kBytes, p.stream>>>(output);
  return cudaGetLastError();
}

template <class T>
bool uses_fast_forward(const SsdCudaParams<T>& p) {
  if constexpr (sizeof(T) == 2)
    return has_fast_shape(p) && is_aligned(p.out) && shared_limit() >= SsdOutputTile<T, 128>::kBytes;
  return false;
}

template <class T>
struct SsdForwardSpace {
  SsdTables<float> fast;
  SsdTables<double> generic;
  T* states;
  float* products;  // (slots, G, Q, Q)
  float* squares;   // (H, B·L), for the gate
  size_t bytes;

  SsdForwardSpace(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes) {
    SsdArena arena(p.workspace);
    const bool fast_shape = uses_fast_forward(p), walks = fast_shape && walks_once(p, sizes);
    states = p.chunk_states || walks ? p.chunk_states
                                     : arena.template take<T>(sizes.slots * p.heads * sizes.state_size);
    if (fast_shape) {
      fast = sizes.template take_tables<float>(arena, p, walks);
      squares = p.z.data ? arena.template take<float>(p.heads * p.batch * p.length) : nullptr;
    } else {
      generic = sizes.template take_tables<double>(arena, p, false);
      products = arena.template take<float>(sizes.slots * p.groups * kSsdChunk * kSsdChunk);
    }
    bytes = arena.used();
  }
};

template <class T>
bool ssd_takes_gate(const SsdCudaParams<T>& p) {
  return kTakesGate<T, 128> && p.states == 128 && uses_fast_forward(p) && is_aligned(p.z) &&
         walks_once(p, SsdSizes<T>(p));
}

template <class T>
int64_t ssd_chunk_state_count(const SsdCudaParams<T>& p) {
  const SsdSizes<T> sizes(p);
  return sizes.slots * p.heads * sizes.state_size;
}

template <class T>
size_t ssd_forward_workspace(const SsdCudaParams<T>& params) {
  return ssd_workspace<SsdForwardSpace>(params);
}

template <class T>
cudaError_t launch_ssd_forward(const SsdCudaParams<T>& p) {
  if (p.batch * p.length * p.heads == 0) return cudaSuccess;
  if (p.z.data && !ssd_takes_gate(p)) return cudaErrorInvalidValue;
  const SsdSizes<T> sizes(p);
  const SsdForwardSpace<T> space(p, sizes);
  if constexpr (sizeof(T) == 2)
    if (uses_fast_forward(p))
      return p.states == 128 ? ssd_fast_forward<T, 128>(p, sizes, space.fast, space.states, space.squares)
                             : ssd_fast_forward<T, 64>(p, sizes, space.fast, space.states, nullptr);
  return ssd_generic_forward(p, sizes, space.generic, space.states, space.products);
}

/// One warp per `kRows` rows of the state (b, h, p) of one head, 4 · 32 states at a time.
template <class T, class State, int kRows>
__global__ __launch_bounds__(128) void ssd_step_kernel(const SsdStepParams<T, State> p) {
  struct alignas(4 * sizeof(State)) Four {
    State v[4];
  };
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * 4 + threadIdx.x / 32) * kRows;
  const int lane = threadIdx.x % 32, N = p.states;
  if (row >= p.batch * p.heads * p.head_size) return;
  const int64_t b = row / (p.heads * p.head_size), channel = row % (p.heads * p.head_size);
  const int head = channel / p.head_size, group = head / (p.heads / p.groups);
  const T *B = p.B + b * p.B_stride + group * N, *C = p.C + b * p.C_stride + group * N;
  State* state = p.state + row * N;
  const bool is_wide = N % 4 == 0 && reinterpret_cast<uintptr_t>(p.state) % sizeof(Four) == 0;
  Four first[kRows];
  if (is_wide && lane * 4 < N)
#pragma unroll
    for (int r = 0; r < kRows; ++r) first[r] = reinterpret_cast<const Four&>(state[r * N + lane * 4]);
  const float biased = as_float(p.dt[b * p.dt_stride + head]) + (p.dt_bias ? p.dt_bias[head] : 0.f);
  const float delta = ssd_step_size(biased, p.dt_min, p.dt_max), decay = expf(delta * p.A[head]);
  float x[kRows], sums[kRows] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) x[r] = as_float(p.x[b * p.x_stride + channel + r]);
  if (is_wide) {
    for (int n = lane * 4; n < N; n += 128) {
      float keys[4], reads[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) keys[k] = delta * as_float(B[n + k]), reads[k] = as_float(C[n + k]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        Four four = n < 128 ? first[r] : reinterpret_cast<const Four&>(state[r * N + n]);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const float s = decay * as_float(four.v[k]) + x[r] * keys[k];
          sums[r] += s * reads[k];
          four.v[k] = from_float<State>(s);
        }
        reinterpret_cast<Four&>(state[r * N + n]) = four;
      }
    }
  } else {
    for (int r = 0; r < kRows; ++r)
      for (int n = lane; n < N; n += 32) {
        const float s = decay * as_float(state[r * N + n]) + x[r] * delta * as_float(B[n]);
        sums[r] += s * as_float(C[n]);
        state[r * N + n] = from_float<State>(s);
      }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float sum = sum_warp(sums[r]) + (p.D ? p.D[head] * x[r] : 0.f);
    if (lane == 0) p.out[b * p.out_stride + channel + r] = from_float<T>(sum);
  }
}

template <class T, class State>
cudaError_t launch_ssd_step(const SsdStepParams<T, State>& p) {
  const int64_t rows = p.batch * p.heads * p.head_size;
  if (rows == 0) return cudaSuccess;
  constexpr int kRows = 4;
  if (p.head_size % kRows == 0)
    ssd_step_kernel<T, State, kRows><<<(rows / kRows + 3) / 4, 128, 0, p.stream>>>(p);
  else
    ssd_step_kernel<T, State, 1><<<(rows + 3) / 4, 128, 0, p.stream>>>(p);
  return cudaGetLastError();
}

}  // namespace exactmamba::ops
