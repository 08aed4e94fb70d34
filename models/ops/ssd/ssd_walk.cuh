// ssd in one walk over the tokens, by warpgroups of sm_90a: the states stay in registers, and only x, the
// keys, the gate and the output pass through memory. It needs as many rows and heads as fill the GPU. Without
// the output it is the states that the backward pass makes again, bit by bit. The gradient of x is the same
// walk from the end back: x is then ∂out, B and C change places, the states are their gradients.
#pragma once

#include "models/ops/cuda/fast_math.cuh"
#include "models/ops/cuda/norm_weight.cuh"
#include "models/ops/cuda/phase_barrier.cuh"
#include "models/ops/cuda/tensor_tiles.cuh"
#include "models/ops/ssd/ssd_chunks.cuh"

namespace exactmamba::ops {

/// What a walk makes: only the states; the output; the output behind its gate; backwards, with the gradients
/// of the states, that of x.
enum class SsdWalkMakes { kStates, kOutput, kGated, kGradX };

template <class T>
struct SsdWalkArguments {
  TensorTiles x, B, C, z;    // z: of kGated, like what follows `out`. kGradX: x is ∂out, B is C, C is B
  Rows<T> out;               // kGradX: ∂x [nullable]
  const float* gate_weight;  // (H·P)
  float* squares;            // (H, rows · L): of a head's channels behind the gate
  const float* D;            // (H) [nullable]
  T* states;  // (slots, H, P, N), the state entering every chunk [nullable where there is an output]; kGradX:
              // the gradient of that leaving it
  SsdTables<float> tables;
  SsdLayout layout;
  int heads, groups;
};

/// What a head's tables (SsdTables) have for the tokens of a step.
struct SsdWalkRows {
  float cumulative[64], delta[64];
  union {
    float to_tile[64];
    int stop[64];  // of kGradX
  };
  int start[64];
};

/// Shared memory of a block, tiles of 64 tokens: for each head its state, weights and x; twice, of which one
/// is being filled, the keys, and for each head rows of the tables. The state, once it has been read in a
/// step, gives way to z and to the output without its gate.
template <class T, int N>
struct SsdWalkTile {
  static constexpr int kHeads = 4, kThreads = 128 * kHeads, kState = 64 * N * 2, kSquare = 64 * 64 * 2,
                       kHead = kState + 2 * kSquare, kKeys = 64 * N * 2;
  static constexpr int kRow = 64 * 4, kBytes = kHeads * kHead + 2 * (2 * kKeys + kHeads * 4 * kRow);
};

/// A barrier of the warpgroup's 128 threads. Its number is a constant, since racecheck follows no other.
__device__ __forceinline__ void sync_warpgroup(int index) {
  if (index == 0) asm volatile("bar.sync 1, 128;" ::: "memory");
  if (index == 1) asm volatile("bar.sync 2, 128;" ::: "memory");
  if (index == 2) asm volatile("bar.sync 3, 128;" ::: "memory");
  if (index == 3) asm volatile("bar.sync 4, 128;" ::: "memory");
}

/// What a lane has of a state, or of what is added to it: columns of a 64 × N matrix whose rows row0 and row0
/// + 8 are the lane's, row0 = 16 warp + lane / 4. `place`: of row 16 warp + lane % 16, for store_matrices.
template <class T, int N>
__device__ __forceinline__ void put_state(const float (&state)[N / 8][4], uint32_t place) {
#pragma unroll
  for (int n = 0; n < N / 8; n += 2)
    store_matrices((place ^ n % 8 << 4) + n / 8 * 8192, pack_pair<T>(state[n][0], state[n][1]),
                   pack_pair<T>(state[n][2], state[n][3]), pack_pair<T>(state[n + 1][0], state[n + 1][1]),
                   pack_pair<T>(state[n + 1][2], state[n + 1][3]));
}

/// 16 columns from 16 m on of a warp's 16 rows of CBᵀ ∘ L ∘ Δ into their tile. `pairs`: C·B;
/// `factor_of(column, r)`: factors of two columns of row0 + 8 r.
template <class T, class FactorOf>
__device__ __forceinline__ void put_weights_of_tile(const float (&pairs)[8][4], int m, uint32_t place,
                                                    int lane, const FactorOf& factor_of) {
  uint32_t weights[4];
#pragma unroll
  for (int c = 0; c < 2; ++c)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float2 factor = factor_of(m * 16 + c * 8 + lane % 4 * 2, r);
      const float(&own)[4] = pairs[2 * m + c];
      weights[2 * c + r] = pack_pair<T>(own[2 * r] * factor.x, own[2 * r + 1] * factor.y);
    }
  store_matrices(place ^ m << 5, weights[0], weights[1], weights[2], weights[3]);
}

/// CBᵀ ∘ L ∘ Δ into its tile. `pairs`: C_i·B_j; `first`: the token from which on the sequences of row0 and
/// row0 + 8 reach.
template <class T, bool kPacked>
__device__ __forceinline__ void put_weights(const float (&pairs)[8][4], const SsdWalkRows& rows,
                                            const int (&first)[2], uint32_t place, int warp, int lane) {
  const int row0 = warp * 16 + lane / 4;
  const float exponent[2] = {rows.cumulative[row0], rows.cumulative[row0 + 8]};
  const auto put = [&](int m, const auto& factor_of) {
    put_weights_of_tile<T>(pairs, m, place, lane, [&](int column, int r) {
      const float2 factor = factor_of(column, r);
      return float2{kPacked && column < first[r] ? 0.f : factor.x,
                    kPacked && column + 1 < first[r] ? 0.f : factor.y};
    });
  };
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    if (m < warp) {
      // To the end of j's tile, and on from there.
      const float tile_end = rows.cumulative[m * 16 + 15];
      const float onward[2] = {fast_exp2(exponent[0] - tile_end), fast_exp2(exponent[1] - tile_end)};
      put(m, [&](int column, int r) {
        const float2 weight = reinterpret_cast<const float2&>(rows.to_tile[column]);
        return float2{onward[r] * weight.x, onward[r] * weight.y};
      });
    } else if (m == warp) {
      put(m, [&](int column, int r) {
        const float2 before = reinterpret_cast<const float2&>(rows.cumulative[column]),
                     weight = reinterpret_cast<const float2&>(rows.delta[column]);
        // Above the diagonal the decay must not be infinite.
        const float low = fast_exp2(fminf(exponent[r] - before.x, 0.f)),
                    high = fast_exp2(fminf(exponent[r] - before.y, 0.f));
        return float2{column <= row0 + 8 * r ? low * weight.x : 0.f,
                      column < row0 + 8 * r ? high * weight.y : 0.f};
      });
    } else {
      store_matrices(place ^ m << 5, 0, 0, 0, 0);
    }
  }
}

/// (CBᵀ ∘ L)ᵀ into its tile. `pairs`: B_j·C_i; `stop`: the token before which the sequences of row0 and
/// row0 + 8 end.
template <class T, bool kPacked>
__device__ __forceinline__ void put_weights_backwards(const float (&pairs)[8][4], const SsdWalkRows& rows,
                                                      const int (&stop)[2], uint32_t place, int warp,
                                                      int lane) {
  const int row0 = warp * 16 + lane / 4;
  const float tile_end = rows.cumulative[warp * 16 + 15];
  const float exponent[2] = {rows.cumulative[row0], rows.cumulative[row0 + 8]},
              to_end[2] = {fast_exp2(tile_end - exponent[0]), fast_exp2(tile_end - exponent[1])};
  const auto put = [&](int m, const auto& factor_of) {
    put_weights_of_tile<T>(pairs, m, place, lane, [&](int column, int r) {
      const float2 factor = factor_of(reinterpret_cast<const float2&>(rows.cumulative[column]), column, r);
      return float2{kPacked && column >= stop[r] ? 0.f : factor.x,
                    kPacked && column + 1 >= stop[r] ? 0.f : factor.y};
    });
  };
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    if (m > warp) {
      // To the end of j's tile, and on from there.
      put(m, [&](float2 later, int, int r) {
        return float2{fast_exp2(later.x - tile_end) * to_end[r], fast_exp2(later.y - tile_end) * to_end[r]};
      });
    } else if (m == warp) {
      put(m, [&](float2 later, int column, int r) {
        // Below the diagonal the decay must not be infinite.
        const float low = fast_exp2(fminf(later.x - exponent[r], 0.f)),
                    high = fast_exp2(fminf(later.y - exponent[r], 0.f));
        return float2{column >= row0 + 8 * r ? low : 0.f, column + 1 >= row0 + 8 * r ? high : 0.f};
      });
    } else {
      store_matrices(place ^ m << 5, 0, 0, 0, 0);
    }
  }
}

/// What the state takes up of x, transposed: `weight_of(m)(token)` are the factors of two tokens of tile m.
template <class T, class WeightOf>
__device__ __forceinline__ void load_written(uint32_t (&written)[4][4], uint32_t tile_x,
                                             const WeightOf& weight_of, int warp, int lane) {
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    const auto weight_of_token = weight_of(m);
    load_left_transposed<64>(written[m], tile_x, warp * 16, m * 16, lane);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const float2 weight = weight_of_token(m * 16 + c * 8 + lane % 4 * 2);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float2 value = unpack_pair<T>(written[m][2 * c + r]);
        written[m][2 * c + r] = pack_pair<T>(value.x * weight.x, value.y * weight.y);
      }
    }
  }
}

/// (f ∘ Δ ∘ x)ᵀ, where `end` is the exponent up to the step's end and tokens before `tail` write nothing.
template <class T, bool kPacked>
__device__ __forceinline__ void load_written_forward(uint32_t (&written)[4][4], uint32_t tile_x,
                                                     const SsdWalkRows& rows, float end, int tail, int warp,
                                                     int lane) {
  const auto weight_of = [&](int m) {
    const float onward = fast_exp2(end - rows.cumulative[m * 16 + 15]);
    return [&rows, onward, tail](int token) {
      float2 weight = reinterpret_cast<const float2&>(rows.to_tile[token]);
      weight.x = kPacked && token < tail ? 0.f : weight.x * onward;
      weight.y = kPacked && token + 1 < tail ? 0.f : weight.y * onward;
      return weight;
    };
  };
  load_written<T>(written, tile_x, weight_of, warp, lane);
}
/// (e ∘ ∂out)ᵀ, where `begin` is the exponent up to the step's start, and sequences that start at `reached`
/// or later do not read the state.
template <class T, bool kPacked>
__device__ __forceinline__ void load_written_backwards(uint32_t (&written)[4][4], uint32_t tile_x,
                                                       const SsdWalkRows& rows, float begin, int reached,
                                                       int warp, int lane) {
  const auto weight_of = [&](int) {
    return [&rows, begin, reached](int token) {
      const float2 exponent = reinterpret_cast<const float2&>(rows.cumulative[token]);
      return float2{kPacked && rows.start[token] >= reached ? 0.f : fast_exp2(exponent.x - begin),
                    kPacked && rows.start[token + 1] >= reached ? 0.f : fast_exp2(exponent.y - begin)};
    };
  };
  load_written<T>(written, tile_x, weight_of, warp, lane);
}

/// Decay between the state and a token of the step; 0 where the token's sequence does not reach the state.
/// `reach`: where in the step it starts; kBackwards: stops.
template <bool kPacked, bool kBackwards>
__device__ __forceinline__ float decay_of_state(float exponent, float begin, float end, int reach,
                                                bool is_second_half) {
  // One that starts with the chunk's second half does not read the first half's state, either, nor one that
  // ends with the first half what comes back from the second.
  if (kPacked && (kBackwards ? reach <= (is_second_half ? 63 : 64) : reach >= (is_second_half ? 0 : 1)))
    return 0.f;
  return fast_exp2(kBackwards ? end - exponent : exponent - begin);
}

/// y ⊙ SiLU(z) of 8 channels, times `weight`; `squares` grows by those of y ⊙ SiLU(z).
template <class T>
__device__ __forceinline__ uint4 gate_channels(const uint4& y, const uint4& z, const float* weight,
                                               float& squares) {
  const uint32_t y_pairs[4] = {y.x, y.y, y.z, y.w}, z_pairs[4] = {z.x, z.y, z.z, z.w};
  uint32_t out[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 value = unpack_pair<T>(y_pairs[i]), gate = unpack_pair<T>(z_pairs[i]),
                 factor = reinterpret_cast<const float2&>(weight[2 * i]);
    const float low = value.x * usable_gate<T>(gate.x, fast_sigmoid(gate.x)),
                high = value.y * usable_gate<T>(gate.y, fast_sigmoid(gate.y));
    squares = fmaf(low, low, fmaf(high, high, squares));
    out[i] = pack_pair<T>(low * factor.x, high * factor.y);
  }
  return {out[0], out[1], out[2], out[3]};
}

/// Grid: (H / 4, rows). A warpgroup walks with one head, 64 tokens a step; with s the state, L the decays, e
/// and f those from the step's start and to its end:
///   out = e ∘ (C sᵀ) + (CBᵀ ∘ L ∘ Δ) x + D x,   s ← decay · s + (f ∘ Δ ∘ x)ᵀ B
/// kGated: out ← gate_weight ∘ out ∘ SiLU(z). kGradX, from the last step to the first:
///   ∂x = Δ ∘ (f ∘ (B ∂sᵀ) + (CBᵀ ∘ L)ᵀ ∂out) + D ∂out,   ∂s ← decay · ∂s + (e ∘ ∂out)ᵀ C
/// `kPacked`: sequences may start inside a row.
template <class T, int N, bool kPacked, SsdWalkMakes kMakes>
__global__ __launch_bounds__(wide_threads(SsdWalkTile<T, N>::kThreads),
                             1) void ssd_walk_kernel(const __grid_constant__ SsdWalkArguments<T> a) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Tile = SsdWalkTile<T, N>;
  constexpr bool kOutput = kMakes != SsdWalkMakes::kStates, kGated = kMakes == SsdWalkMakes::kGated,
                 kBackwards = kMakes == SsdWalkMakes::kGradX;
  extern __shared__ __align__(1024) unsigned char shared[];
  __shared__ __align__(16) float gate_weight[kGated ? Tile::kHeads * 64 : 1];
  __shared__ CopyBarrier filled[2], filled_x[2][Tile::kHeads], filled_z[Tile::kHeads];
  __shared__ PhaseBarrier emptied[2];
  const int part = warp_index() / 4, warp = warp_index() % 4, lane = threadIdx.x % 32, quad = lane % 4;
  const int first_head = blockIdx.x * Tile::kHeads, head = first_head + part, row = blockIdx.y;
  const int row0 = warp * 16 + lane / 4, steps = (a.layout.length + 63) / 64;
  const uint32_t tile_state = shared_address(shared) + part * Tile::kHead,
                 tile_weights = tile_state + Tile::kState, last_tile = tile_weights + Tile::kSquare;
  unsigned char* const keys = shared + Tile::kHeads * Tile::kHead;
  SsdWalkRows* const all_rows = reinterpret_cast<SsdWalkRows*>(keys + 4 * Tile::kKeys);
  const int first_slot = row * a.layout.chunks_per_row;
  const float skip = a.D ? a.D[head] : 0.f;

  // Steps are counted in the walk's direction.
  const auto place_in_row = [&](int step) { return kBackwards ? steps - 1 - step : step; };
  // By one warp: a lane a tile or a row.
  const auto fetch = [&](int step) {
    constexpr int kWide = N / 64, kRows = kPacked ? 4 : kBackwards ? 2 : 3;
    const int in_row = place_in_row(step);
    CopyBarrier& barrier = filled[step % 2];
    if (lane == 0) barrier.announce((kOutput ? 2 : 1) * Tile::kKeys + Tile::kHeads * kRows * Tile::kRow);
    __syncwarp();
    if (lane < (kOutput ? 2 : 1) * kWide) {
      const int group = first_head / (a.heads / a.groups);
      copy_tile(shared_address(keys) + step % 2 * (2 * Tile::kKeys) + lane * Tile::kSquare,
                lane < kWide ? a.B : a.C, group * N + lane % kWide * 64, in_row * 64, row, barrier);
    }
    if (lane < Tile::kHeads * kRows) {
      const int of_head = lane % Tile::kHeads, k = lane / Tile::kHeads;
      const int slot = first_slot + in_row / 2;
      const int64_t at = (static_cast<int64_t>(slot) * a.heads + first_head + of_head) * kSsdChunk;
      const auto positions = [&](const int* table) {
        return reinterpret_cast<const float*>(table + slot * kSsdChunk);
      };
      const float* from = k == 0       ? a.tables.cumulative + at
                          : k == 1     ? a.tables.delta + at
                          : k == 3     ? positions(a.tables.start)
                          : kBackwards ? positions(a.tables.stop)
                                       : a.tables.to_tile + at;
      SsdWalkRows& rows = all_rows[step % 2 * Tile::kHeads + of_head];
      barrier.add_copy(rows.cumulative + k * 64, from + in_row % 2 * 64, Tile::kRow);
    }
  };

  // Without the weights their place is a second one for x, a step ahead.
  constexpr int kAhead = kOutput ? 0 : 1;
  const auto place_of_x = [&](int step) { return last_tile - step % (kAhead + 1) * Tile::kSquare; };
  const auto fetch_x = [&](int step) {
    if (warp != 0 || lane != 0 || step >= steps) return;
    CopyBarrier& barrier = filled_x[step % (kAhead + 1)][part];
    barrier.announce(Tile::kSquare);
    copy_tile(place_of_x(step), a.x, head * 64, place_in_row(step) * 64, row, barrier);
    if (step + 1 < steps) prefetch_tile(a.x, head * 64, place_in_row(step + 1) * 64, row);
    if (kGated) prefetch_tile(a.z, head * 64, step * 64, row);
  };

  if (threadIdx.x < 2) {
    filled[threadIdx.x].init();
    emptied[threadIdx.x].init(4 * Tile::kHeads);
  }
  if (threadIdx.x < 2 * Tile::kHeads) filled_x[0][threadIdx.x].init();
  if (kGated && threadIdx.x < Tile::kHeads) filled_z[threadIdx.x].init();
  if (kGated && threadIdx.x < Tile::kHeads * 64)
    gate_weight[threadIdx.x] = usable_weight<T>(a.gate_weight[first_head * 64 + threadIdx.x]);
  __syncthreads();
  if (part == 0 && warp < 2 && warp < steps) fetch(warp);
  if (kAhead > 0) fetch_x(0);

  // Of a lane's row, for store_matrices.
  const uint32_t place = (warp * 16 + lane % 16) * 128 + ((lane / 16 ^ lane % 8) << 4);
  float state[N / 8][4] = {}, end = 0;
  for (int step = 0; step < steps; ++step) {
    const int in_row = place_in_row(step), slot = first_slot + in_row / 2, in_chunk = in_row % 2 * 64;
    const bool begins_chunk = kBackwards ? in_chunk || step == 0 : !in_chunk;
    const uint32_t tile_B = shared_address(keys) + step % 2 * (2 * Tile::kKeys),
                   tile_C = tile_B + Tile::kKeys, tile_x = place_of_x(step);
    const SsdWalkRows& rows = all_rows[step % 2 * Tile::kHeads + part];
    if (kPacked && begins_chunk &&
        (kBackwards ? a.tables.chunks[slot].last : a.tables.chunks[slot].first) >= 0)
#pragma unroll
      for (int n = 0; n < N / 8; ++n)
#pragma unroll
        for (int k = 0; k < 4; ++k) state[n][k] = 0;

    sync_warpgroup(part);  // what belongs to the head may be written again
    fetch_x(step + kAhead);
    const bool is_kept = a.states && begins_chunk;
    if (kOutput || is_kept) put_state<T, N>(state, tile_state + place);
    const int64_t row_of_tables = static_cast<int64_t>(slot) * a.heads + head;
    // Exponents of the decay from the chunk's start up to the step's start and end.
    const float begin = !in_chunk    ? 0.f
                        : kBackwards ? a.tables.cumulative[row_of_tables * kSsdChunk + 63]
                                     : end;
    filled[step % 2].wait(step / 2 % 2);
    end = rows.cumulative[63];
    const float exponent[2] = {rows.cumulative[row0], rows.cumulative[row0 + 8]};
    // Where in the step each row's sequence starts; kGradX: stops.
    int reach[2] = {};
    if (kPacked) {
      const int* const of_rows = kBackwards ? rows.stop : rows.start;
      reach[0] = of_rows[row0] - in_chunk, reach[1] = of_rows[row0 + 8] - in_chunk;
    }

    if constexpr (kOutput) {
      float pairs[8][4];  // C_i·B_j; kGradX: B_j·C_i
      begin_products();
      multiply_wide_rows<T, N, 64, 64>(pairs, wide_tile(tile_C), wide_tile(tile_B), false);
      end_products();
      take_sums(pairs);
      if constexpr (kBackwards)
        put_weights_backwards<T, kPacked>(pairs, rows, reach, tile_weights + place, warp, lane);
      else
        put_weights<T, kPacked>(pairs, rows, reach, tile_weights + place, warp, lane);
      publish_to_copies();
    }
    if (kOutput || is_kept) sync_warpgroup(part);
    if (is_kept) {
      T* to = a.states + row_of_tables * (64 * N);
      for (int piece = threadIdx.x % 128; piece < 8 * N; piece += 128) {
        const int p = piece / (N / 8), n = piece % (N / 8);
        const uint32_t from = tile_address<64>(part * Tile::kHead + n / 8 * 8192, p, n % 8);
        reinterpret_cast<uint4&>(to[piece * 8]) = reinterpret_cast<const uint4&>(shared[from]);
      }
    }

    // The keys of the step before give way as soon as all have left them.
    if (part == step % Tile::kHeads && warp == 0 && step > 0 && step + 1 < steps) {
      emptied[(step + 1) % 2].wait((step - 1) / 2);
      fetch(step + 1);
    }

    const uint32_t tile_ungated = tile_state + Tile::kSquare;
    const auto store = [&](const uint4& channels, int r, int piece) {
      const int token = in_row * 64 + row0 + 8 * r;
      if (token >= a.layout.length || (kBackwards && !a.out.data)) return;
      T* to = a.out.data + row * a.out.batch_stride + token * a.out.token_stride + head * 64;
      reinterpret_cast<uint4&>(to[piece * 8]) = channels;
    };
    if constexpr (kOutput) {
      float sums[8][4];
      begin_products();
      multiply_wide_rows<T, N, 64, 64>(sums, wide_tile(tile_C), wide_tile(tile_state), false);
      end_products();
      take_sums(sums);
      if constexpr (kGated) {  // the state gives way to z
        sync_warpgroup(part);
        if (warp == 0 && lane == 0) {
          filled_z[part].announce(Tile::kSquare);
          copy_tile(tile_state, a.z, head * 64, step * 64, row, filled_z[part]);
        }
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float decay =
            decay_of_state<kPacked, kBackwards>(exponent[r], begin, end, reach[r], in_chunk > 0);
#pragma unroll
        for (int n = 0; n < 8; ++n) sums[n][2 * r] *= decay, sums[n][2 * r + 1] *= decay;
      }
      filled_x[step % (kAhead + 1)][part].wait(step / (kAhead + 1) % 2);
      take_sums(sums);
      begin_products();
#pragma unroll
      for (int m = 0; m < 4; ++m)
        multiply_wide<T, true>(sums, wide_tile(tile_weights) + wide_offset(m * 32),
                               wide_tile(tile_x) + wide_offset(m * 2048), true);
      end_products();
      take_sums(sums);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        if constexpr (kBackwards) {
          const float delta = rows.delta[row0 + 8 * r];
#pragma unroll
          for (int n = 0; n < 8; ++n) sums[n][2 * r] *= delta, sums[n][2 * r + 1] *= delta;
        }
        const SsdOutputRow out = finish_output<T>(sums, r, tile_x, row0 + 8 * r, skip, lane);
        if constexpr (kGated) {
          store_piece(tile_address<64>(tile_ungated, row0 + 8 * r, quad), out.low);
          store_piece(tile_address<64>(tile_ungated, row0 + 8 * r, quad + 4), out.high);
        } else {
          store(out.low, r, quad);
          store(out.high, r, quad + 4);
        }
      }
    } else {
      filled_x[step % (kAhead + 1)][part].wait(step / (kAhead + 1) % 2);
    }

    int tail = 0;  // the token of the step from which on the last one's sequence reaches
    if (kPacked) tail = rows.start[63] - in_chunk;
    const float across = kPacked && tail > (in_chunk ? -1 : 0) ? 0.f : fast_exp2(end - begin);
#pragma unroll
    for (int n = 0; n < N / 8; ++n)
#pragma unroll
      for (int k = 0; k < 4; ++k) state[n][k] *= across;
    uint32_t written[4][4];  // (f ∘ Δ ∘ x)ᵀ; kGradX: (e ∘ ∂out)ᵀ
    if constexpr (kBackwards)
      load_written_backwards<T, kPacked>(written, tile_x, rows, begin, in_chunk ? 64 : 1, warp, lane);
    else
      load_written_forward<T, kPacked>(written, tile_x, rows, end, tail, warp, lane);
    multiply_wide_columns<T, N>(state, written, wide_tile(tile_B));
    emptied[step % 2].arrive();

    if constexpr (kGated) {
      filled_z[part].wait(step % 2);
      const float* weight = gate_weight + part * 64 + quad * 8;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float squares = 0;
        const auto gated = [&](int piece) {
          const uint32_t at = tile_address<64>(0, row0 + 8 * r, piece);
          return gate_channels<T>(load_piece(tile_ungated + at), load_piece(tile_state + at),
                                  weight + (piece - quad) * 8, squares);
        };
        // Neighbouring rows in different halves, for the banks of shared memory.
        const int first_piece = quad + row0 % 2 * 4;
        store(gated(first_piece), r, first_piece);
        store(gated(first_piece ^ 4), r, first_piece ^ 4);
        squares = sum_quad(squares);
        const int token = in_row * 64 + row0 + 8 * r;
        if (token < a.layout.length && quad == 0)
          a.squares[(static_cast<int64_t>(head) * gridDim.y + row) * a.layout.length + token] = squares;
      }
    }
  }
#endif
}

/// Whether one walk makes states and output, or backwards the gradients of states and x: no states at
/// borders, and blocks for most of the GPU.
template <class T>
bool walks_once(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes) {
  if constexpr (sizeof(T) == 2) {
    constexpr int kHeads = SsdWalkTile<T, 128>::kHeads, kMostRows = 65535;  // of a grid
    bool wide = false;
    if (p.initial_state || p.last_state || p.grad_initial_state || p.grad_last_state ||
        sizes.layout.aligned || p.batch > kMostRows || p.heads / p.groups % kHeads != 0 ||
        find_wide(ssd_walk_kernel<T, 128, false, SsdWalkMakes::kStates>, wide) != cudaSuccess || !wide)
      return false;
    const int64_t blocks = sizes.walks * p.heads / kHeads, places = multiprocessors();
    return 10 * blocks >= 6 * ceil_divide(blocks, places) * places;
  }
  return false;
}

template <class T, int N, SsdWalkMakes kMakes>
cudaError_t launch_ssd_walk(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes,
                            const SsdTables<float>& tables, T* states, float* squares = nullptr) {
  using Tile = SsdWalkTile<T, N>;
  constexpr bool kBackwards = kMakes == SsdWalkMakes::kGradX;
  SsdWalkArguments<T> a{{},
                        {},
                        {},
                        {},
                        kBackwards ? p.grad_x : p.out,
                        p.gate_weight,
                        squares,
                        p.D,
                        states,
                        tables,
                        sizes.layout,
                        static_cast<int>(p.heads),
                        static_cast<int>(p.groups)};
  const auto describe = [&](TensorTiles& tiles, const Rows<const T>& rows, int64_t columns) {
    return describe_tiles<64>(tiles, rows, p.batch, columns);
  };
  if (const cudaError_t error = describe(a.x, kBackwards ? p.grad_out : p.x, p.heads * 64)) return error;
  if (const cudaError_t error = describe(a.B, kBackwards ? p.C : p.B, p.groups * N)) return error;
  if (const cudaError_t error = describe(a.C, kBackwards ? p.B : p.C, p.groups * N)) return error;
  if (kMakes == SsdWalkMakes::kGated)
    if (const cudaError_t error = describe(a.z, p.z, p.heads * 64)) return error;
  const auto kernel =
      tables.start ? ssd_walk_kernel<T, N, true, kMakes> : ssd_walk_kernel<T, N, false, kMakes>;
  if (const cudaError_t error = allow_shared(kernel, Tile::kBytes)) return error;
  kernel<<<dim3(p.heads / Tile::kHeads, p.batch), Tile::kThreads, Tile::kBytes, p.stream>>>(a);
  return cudaGetLastError();
}

/// With float16 the gate's output might be none of its numbers before its scale is applied.
template <class T, int N>
inline constexpr bool kTakesGate = std::is_same_v<T, __nv_bfloat16>&& N == 128;

/// `squares`: (H, tokens) of a head's channels; rstd (tokens, groups).
template <int kThreads>
__global__ __launch_bounds__(kThreads) void ssd_gate_rstd_kernel(const float* squares, float* rstd,
                                                                 int64_t tokens, int heads_per_group,
                                                                 int head_size, float eps) {
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (token >= tokens) return;
  const float* from = squares + blockIdx.y * heads_per_group * tokens + token;
  float sum = 0;
  for (int head = 0; head < heads_per_group; ++head) sum += from[head * tokens];
  rstd[token * gridDim.y + blockIdx.y] = rsqrtf(sum / static_cast<float>(heads_per_group * head_size) + eps);
}

/// The walk with its gate, where ssd_takes_gate(). `squares` as above.
template <class T, int N>
cudaError_t launch_ssd_gated_walk(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes,
                                  const SsdTables<float>& tables, float* squares) {
  if (const cudaError_t error =
          launch_ssd_walk<T, N, SsdWalkMakes::kGated>(p, sizes, tables, p.chunk_states, squares))
    return error;
  const int64_t tokens = p.batch * p.length;
  constexpr int kThreads = 256;
  const dim3 grid(static_cast<unsigned>((tokens + kThreads - 1) / kThreads), static_cast<unsigned>(p.groups));
  ssd_gate_rstd_kernel<kThreads><<<grid, kThreads, 0, p.stream>>>(
      squares, p.rstd, tokens, static_cast<int>(p.heads / p.groups), static_cast<int>(p.head_size), p.eps);
  return cudaGetLastError();
}

}  // namespace exactmamba::ops
