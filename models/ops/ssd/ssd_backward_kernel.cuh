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

#include "models/ops/ssd/ssd_grad_x_wide.cuh"

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
__global__ __launch_bounds__(256, 6) void ssd_grad_dt_kernel(const SsdCudaParams<T> p,
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
  T *states, *grad_states;
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
    states = p.chunk_states ? p.chunk_states : arena.template take<T>(rows * sizes.state_size);
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

template <class T, int N>
cudaError_t ssd_fast_backward(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes,
                              const SsdBackwardSpace<T>& space) {
  if (!p.chunk_states) {
    const cudaError_t error =
        walks_once(p, sizes)
            ? launch_ssd_walk<T, N, SsdWalkMakes::kStates>(p, sizes, space.fast, space.states)
            : launch_ssd_states<T, N, false>(p, sizes, space.fast, space.states);
    if (error) return error;
  }
  if (const cudaError_t error = launch_ssd_states<T, N, true>(p, sizes, space.fast, space.grad_states))
    return error;
  const SsdBackwardArguments<T> a{p.x,
                                  p.B,
                                  p.C,
                                  p.grad_out,
                                  p.grad_x,
                                  p.grad_B,
                                  p.grad_C,
                                  p.D,
                                  space.states,
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
  const auto run = [&](auto kernel, int threads, int bytes) {
    if (const cudaError_t error = allow_shared(kernel, bytes)) return error;
    kernel<<<dim3(sizes.slots, p.groups, space.splits), threads, bytes, p.stream>>>(a);
    return cudaGetLastError();
  };
  bool wide = false;
  if (const cudaError_t error = find_wide(ssd_grad_x_wide_kernel<T, N>, wide)) return error;
  const cudaError_t of_x = wide ? run(ssd_grad_x_wide_kernel<T, N>, 384, SsdGradXWideTile<T, N>::kBytes)
                                : run(ssd_grad_x_kernel<T, N>, 512, SsdGradXTile<T, N>::bytes(stages));
  if (of_x) return of_x;
  if (const cudaError_t error = run(ssd_grad_key_kernel<T, N>, 512, SsdGradKeyTile<T, N>::bytes(stages)))
    return error;
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
  if (!p.chunk_states) {
    const auto states = state_arguments<false>(p, sizes, space.generic, space.states);
    if (const cudaError_t error = ssd_generic_states<T, false>(states, sizes, p.stream)) return error;
  }
  const SsdGenericBackward<T> backward{{p, space.generic, space.states, space.products},
                                       space.grad_states,
                                       space.pairs,
                                       space.grad_products,
                                       space.read,
                                       space.written,
                                       space.grad_scaled_x,
                                       space.parts};
  const auto states = state_arguments<true>(p, sizes, space.generic, space.grad_states);
  if (const cudaError_t error = ssd_generic_backward(backward, states, sizes)) return error;
  return ssd_finish_backward(p, sizes, space.generic, space);
}

}  // namespace exactmamba::ops
