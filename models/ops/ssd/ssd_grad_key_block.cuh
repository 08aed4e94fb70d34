// What the warpgroups of ssd_grad_key_wide_kernel share: a block's tokens and heads, and where its shared
// memory has what.
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
  float far[64];               // of pairs with the other half: first half, as columns; second half, as rows
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

#endif

}  // namespace exactmamba::ops
