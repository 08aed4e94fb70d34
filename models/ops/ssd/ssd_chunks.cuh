// What both directions of ssd share on the GPU: where chunks lie, step sizes and decays of every chunk, and
// the kernels that carry a state from chunk to chunk. Q = kSsdChunk tokens of a chunk. A slot is a chunk's
// place in all tables (slots, …); slots of one walk (a row, or a sequence) follow each other. Every row is
// cut into chunks of Q tokens from its start on, and packed sequences inside a chunk are kept apart by masks;
// only sequences with states at their borders get chunks of their own.
#pragma once

#include <algorithm>

#include "models/ops/cuda/launch.h"
#include "models/ops/ssd/ssd_cuda_params.h"
#include "models/ops/ssd/ssd_wgmma.cuh"

namespace exactmamba::ops {

/// The row of a flattened position.
template <class T>
__device__ __forceinline__ T* row_at(const Rows<T>& rows, int64_t position) {
  return rows.data + (position / rows.length) * rows.batch_stride +
         (position % rows.length) * rows.token_stride;
}

struct SsdChunk {
  int begin, size;  // flattened position; 0 tokens: unused slot
  int first, last;  // the sequence that starts with the chunk, that ends with it; else -1
  int tail;         // where in the chunk its last token's sequence starts; 0: at or before the chunk's start
  int reserved[3];  // up to 32 bytes
};

/// Tokens [begin, end) whose chunks are slots first_slot….
struct SsdWalk {
  int first_slot;
  int begin, end;
};

struct SsdLayout {
  int length, chunks_per_row, sequence_count;
  const int* cu_seqlens;  // [nullable]
  bool aligned;           // chunks start where sequences start

  __device__ int sequence_of(int token) const {
    int low = 0, high = sequence_count;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (cu_seqlens[middle] <= token ? low : high) = middle;
    }
    return low;
  }
  __device__ int slot_of_sequence(int s) const { return cu_seqlens[s] / kSsdChunk + s; }

  __device__ SsdWalk walk(int index) const {
    if (aligned) return {slot_of_sequence(index), cu_seqlens[index], cu_seqlens[index + 1]};
    return {index * chunks_per_row, index * length, (index + 1) * length};
  }

  __device__ SsdChunk chunk(int slot) const {
    SsdChunk chunk{};
    if (aligned) {
      int s = 0, high = sequence_count;
      while (high - s > 1) {
        const int middle = (s + high) / 2;
        (slot_of_sequence(middle) <= slot ? s : high) = middle;
      }
      const int begin = cu_seqlens[s] + (slot - slot_of_sequence(s)) * kSsdChunk, end = cu_seqlens[s + 1];
      chunk.begin = begin;
      chunk.size = max(0, min(kSsdChunk, end - begin));
      chunk.first = begin == cu_seqlens[s] ? s : -1;
      chunk.last = begin + chunk.size == end ? s : -1;
      return chunk;
    }
    const int row = slot / chunks_per_row, in_row = slot % chunks_per_row;
    chunk.begin = row * length + in_row * kSsdChunk;
    chunk.size = min(kSsdChunk, length - in_row * kSsdChunk);
    if (cu_seqlens) {
      const int s = sequence_of(chunk.begin), e = sequence_of(chunk.begin + chunk.size - 1);
      chunk.first = cu_seqlens[s] == chunk.begin ? s : -1;
      chunk.last = cu_seqlens[e + 1] == chunk.begin + chunk.size ? e : -1;
      chunk.tail = max(0, cu_seqlens[e] - chunk.begin);
    } else {
      chunk.first = in_row == 0 ? row : -1;
      chunk.last = in_row == chunks_per_row - 1 ? row : -1;
    }
    return chunk;
  }
};

/// Exponents are binary logarithms of decays: A log₂(e) ΣΔ.
template <class Cumulative>
struct SsdTables {
  SsdChunk* chunks;        // (slots)
  int *start, *stop;       // (slots, Q) [nullable]: where each token's sequence starts and stops in the chunk
  float* delta;            // (slots, H, Q); 0 behind the chunk's end
  Cumulative* cumulative;  // (slots, H, Q) exponent of the decay from the chunk's start up to each token
  float *enter, *leave;    // (slots, H, Q) decay from the entering state; to the leaving state [nullable]
  float* write;            // (slots, H, Q) Δ · leave [nullable, like enter]
  float* to_tile;          // (slots, H, Q) Δ · decay to the end of the token's tile of 16
  float* across;           // (slots, H) decay over the whole chunk
};

/// A range of heads.
struct SsdHeads {
  int begin, end;
};
/// Of the group blockIdx.y the part blockIdx.z of `splits`.
__device__ __forceinline__ SsdHeads heads_of_block(int heads, int groups, int splits) {
  const int per_group = heads / groups, first = static_cast<int>(blockIdx.y) * per_group,
            split = static_cast<int>(blockIdx.z);
  return {first + per_group * split / splits, first + per_group * (split + 1) / splits};
}

/// Starts copying a chunk's keys of the group blockIdx.y, N a token.
template <class T, int N, int kThreads>
__device__ __forceinline__ void load_keys(uint32_t tile, const Rows<const T>& keys, const SsdChunk& chunk) {
  load_tile<T, kSsdChunk, N, kThreads>(tile, row_at(keys, chunk.begin) + static_cast<int>(blockIdx.y) * N,
                                       keys.token_stride, chunk.size);
}
/// The same as tiles of 64 columns, by 128 threads.
template <class T, int N, bool kMirrored>
__device__ __forceinline__ void load_key_tiles(uint32_t tiles, const Rows<const T>& keys,
                                               const SsdChunk& chunk) {
  load_tiles<T, kSsdChunk, N, 128, kMirrored>(
      tiles, row_at(keys, chunk.begin) + static_cast<int>(blockIdx.y) * N, keys.token_stride, chunk.size);
}

/// Starts copying a state (64, N): as one tile, or as tiles of 64 columns for warpgroups.
template <class T, int N, int kThreads>
__device__ __forceinline__ void load_state(uint32_t tile, const T* state) {
  if constexpr (kHasWarpgroups)
    load_tiles<T, 64, N, kThreads>(tile, state, N, 64);
  else
    load_tile<T, 64, N, kThreads>(tile, state, N, 64);
}

/// Hands out pieces of a workspace; with a null base it only counts.
class SsdArena {
 public:
  explicit SsdArena(void* base) : base_(static_cast<char*>(base)) {}
  template <class V>
  V* take(int64_t count) {
    V* piece = base_ ? reinterpret_cast<V*>(base_ + used_) : nullptr;
    used_ += (count * sizeof(V) + 255) / 256 * 256;
    return piece;
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

template <class T>
struct SsdSizes {
  SsdLayout layout;
  int64_t slots, walks, state_size;

  explicit SsdSizes(const SsdCudaParams<T>& p) {
    const bool aligned = p.cu_seqlens && p.border_states;
    const int64_t per_row = (p.length + kSsdChunk - 1) / kSsdChunk;
    layout = {static_cast<int>(p.length), static_cast<int>(per_row),
              static_cast<int>(p.cu_seqlens ? p.sequence_count : p.batch), p.cu_seqlens, aligned};
    // ⌊cu[s] / Q⌋ + s is a first slot that leaves every earlier sequence room enough.
    slots = aligned ? p.batch * p.length / kSsdChunk + p.sequence_count : p.batch * per_row;
    walks = aligned ? p.sequence_count : p.batch;
    state_size = p.head_size * p.states;
  }

  /// `walks`: for ssd_walk_kernel and what follows it.
  template <class Cumulative>
  SsdTables<Cumulative> take_tables(SsdArena& arena, const SsdCudaParams<T>& p, bool walks) const {
    const int64_t rows = slots * p.heads * kSsdChunk;
    const bool masked = p.cu_seqlens && !layout.aligned;
    SsdTables<Cumulative> t;
    t.chunks = arena.take<SsdChunk>(slots);
    t.start = masked ? arena.take<int>(slots * kSsdChunk) : nullptr;
    t.stop = masked ? arena.take<int>(slots * kSsdChunk) : nullptr;
    t.delta = arena.take<float>(rows);
    t.cumulative = arena.take<Cumulative>(rows);
    t.enter = walks ? nullptr : arena.take<float>(rows);
    t.leave = std::is_same_v<Cumulative, double> ? arena.take<float>(rows) : nullptr;
    t.write = walks ? nullptr : arena.take<float>(rows);
    t.to_tile = arena.take<float>(rows);
    t.across = arena.take<float>(slots * p.heads);
    return t;
  }
};

/// Bytes that a SsdForwardSpace or SsdBackwardSpace takes.
template <template <class> class Space, class T>
size_t ssd_workspace(SsdCudaParams<T> params) {
  params.workspace = nullptr;
  return Space<T>(params, SsdSizes<T>(params)).bytes;
}

/// A walk in one block needs no second pass over the states, but only many walks fill the GPU. Packed
/// sequences are no longer than rows, so that rows decide for them too.
template <class T>
bool walks_in_one_block(const SsdCudaParams<T>& p) {
  return p.batch * p.heads >= 160;
}

/// Bytes of shared memory that one block may have.
inline int shared_limit() { return device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

inline bool is_aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }
template <class T>
bool is_aligned(const Rows<T>& rows) {
  return is_aligned(rows.data) && rows.token_stride % 8 == 0 && rows.batch_stride % 8 == 0;
}
/// The fast kernels: 16-bit elements, P = 64, N = 64 or 128, everything 16-byte aligned.
template <class T>
bool has_fast_shape(const SsdCudaParams<T>& p) {
  return sizeof(T) == 2 && p.head_size == 64 && (p.states == 64 || p.states == 128) && is_aligned(p.x) &&
         is_aligned(p.B) && is_aligned(p.C) && is_aligned(p.chunk_states) && is_aligned(p.initial_state) &&
         is_aligned(p.last_state) && is_aligned(p.grad_last_state) && is_aligned(p.grad_initial_state);
}

/// log(1 + eᵛ)
__device__ __forceinline__ float ssd_softplus(float v) { return v > 20.f ? v : log1pf(expf(v)); }
/// Δ of dt + dt_bias. What is not a number stays so.
__device__ __forceinline__ float ssd_step_size(float biased, float low, float high) {
  const float step = ssd_softplus(biased);
  return step < low ? low : step > high ? high : step;
}

/// dt + dt_bias of 8 heads from `first_head` on. 256 threads; neighbours read neighbouring heads.
template <class T>
__device__ void load_biased_steps(const SsdCudaParams<T>& p, const SsdChunk& chunk, int first_head,
                                  float (&biased)[8][kSsdChunk + 4]) {
  const int of_block = threadIdx.x % 8, head = first_head + of_block;
  if (head >= p.heads) return;
  const T* dt = row_at(p.dt, chunk.begin) + head;
  const float bias = p.dt_bias ? p.dt_bias[head] : 0.f;
#pragma unroll
  for (int i = threadIdx.x / 8; i < kSsdChunk; i += 32)
    biased[of_block][i] = i < chunk.size ? as_float(dt[i * p.dt.token_stride]) + bias : 0.f;
}

/// Grid: (slots, ⌈H / 8⌉). One warp per head, 4 tokens a lane.
template <class T, class Cumulative>
__global__ __launch_bounds__(256, 6) void ssd_prepare_kernel(const SsdCudaParams<T> p, const SsdLayout layout,
                                                             const SsdTables<Cumulative> t) {
  __shared__ int starts[kSsdChunk];
  __shared__ float biased[8][kSsdChunk + 4];
  const int slot = blockIdx.x, lane = threadIdx.x % 32;
  const SsdChunk chunk = layout.chunk(slot);
  if (threadIdx.x == 0 && blockIdx.y == 0) t.chunks[slot] = chunk;
  if (chunk.size == 0) return;
  if (threadIdx.x < kSsdChunk) {
    int start = 0, stop = kSsdChunk;
    if (t.start) {  // every block row writes the same
      const int s = layout.sequence_of(chunk.begin + min(static_cast<int>(threadIdx.x), chunk.size - 1));
      start = max(0, layout.cu_seqlens[s] - chunk.begin);
      stop = min(kSsdChunk, layout.cu_seqlens[s + 1] - chunk.begin);
      t.start[slot * kSsdChunk + threadIdx.x] = start;
      t.stop[slot * kSsdChunk + threadIdx.x] = stop;
    }
    starts[threadIdx.x] = start;
  }
  load_biased_steps(p, chunk, blockIdx.y * 8, biased);
  __syncthreads();
  const int head = blockIdx.y * 8 + threadIdx.x / 32;
  if (head < p.heads) {
    const float4 of_lane = reinterpret_cast<const float4&>(biased[threadIdx.x / 32][lane * 4]);
    float delta[4] = {of_lane.x, of_lane.y, of_lane.z, of_lane.w};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int i = lane * 4 + k;
      delta[k] = i < chunk.size ? ssd_step_size(delta[k], p.dt_min, p.dt_max) : 0.f;
    }
    double before = static_cast<double>(delta[0]) + delta[1] + delta[2] + delta[3];
    const double own = before;
    for (int step = 1; step < 32; step *= 2) {
      const double other = __shfl_up_sync(~0u, before, step);
      if (lane >= step) before += other;
    }
    const double rate = static_cast<double>(p.A[head]) * 1.4426950408889634;
    const double total = __shfl_sync(~0u, before, 31) * rate;
    double sum = before - own;
    float enter[4], leave[4];
    double exponents[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int i = lane * 4 + k;
      sum += delta[k];
      const double exponent = exponents[k] = sum * rate;
      enter[k] = starts[i] == 0 ? exp2f(static_cast<float>(exponent)) : 0.f;
      leave[k] = i >= chunk.tail ? exp2f(static_cast<float>(total - exponent)) : 0.f;
    }
    const int64_t row = static_cast<int64_t>(slot) * p.heads + head, at = row * kSsdChunk + lane * 4;
    struct alignas(4 * sizeof(float)) Four {
      Cumulative v[4];
    };
    reinterpret_cast<Four&>(t.cumulative[at]) = {
        static_cast<Cumulative>(exponents[0]), static_cast<Cumulative>(exponents[1]),
        static_cast<Cumulative>(exponents[2]), static_cast<Cumulative>(exponents[3])};
    reinterpret_cast<float4&>(t.delta[at]) = {delta[0], delta[1], delta[2], delta[3]};
    // The tile's last token is the last one of every fourth lane.
    const double tile_end = __shfl_sync(~0u, sum * rate, lane | 3);
    reinterpret_cast<float4&>(t.to_tile[at]) = {
        delta[0] * exp2f(static_cast<float>(tile_end - exponents[0])),
        delta[1] * exp2f(static_cast<float>(tile_end - exponents[1])),
        delta[2] * exp2f(static_cast<float>(tile_end - exponents[2])),
        delta[3] * exp2f(static_cast<float>(tile_end - exponents[3]))};
    if (t.enter) reinterpret_cast<float4&>(t.enter[at]) = {enter[0], enter[1], enter[2], enter[3]};
    if (t.leave) reinterpret_cast<float4&>(t.leave[at]) = {leave[0], leave[1], leave[2], leave[3]};
    if (t.write)
      reinterpret_cast<float4&>(t.write[at]) = {delta[0] * leave[0], delta[1] * leave[1], delta[2] * leave[2],
                                                delta[3] * leave[3]};
    if (lane == 0) t.across[row] = chunk.tail > 0 ? 0.f : exp2f(static_cast<float>(total));
  }
}

/// The walk of states over chunks: state ← across · state + Σ_t weight_t value_t key_tᵀ, from the first chunk
/// on (values x, keys B), or for the gradient of states from the last one back (values ∂out, keys C).
template <class T>
struct SsdStateArguments {
  Rows<const T> values, keys;
  const float *weights, *across;
  const SsdChunk* chunks;
  SsdLayout layout;
  T* states;               // (slots, H, P, N): the state before each chunk, in walking order
  const float* border_in;  // (S, H, P, N) [nullable]
  float* border_out;       // (S, H, P, N) [nullable]
  int heads, groups, head_size, state_size;
};

/// Of the forward pass, or of the gradients of its states.
template <bool kReverse, class T, class Cumulative>
SsdStateArguments<T> state_arguments(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes,
                                     const SsdTables<Cumulative>& tables, T* states) {
  return {kReverse ? p.grad_out : p.x,
          kReverse ? p.C : p.B,
          kReverse ? tables.enter : tables.write,
          tables.across,
          tables.chunks,
          sizes.layout,
          states,
          kReverse ? p.grad_last_state : p.initial_state,
          kReverse ? p.grad_initial_state : p.last_state,
          static_cast<int>(p.heads),
          static_cast<int>(p.groups),
          static_cast<int>(p.head_size),
          static_cast<int>(sizes.state_size)};
}

/// `kWidth` elements of the state per thread. Turns each chunk's own sum into the state before it.
template <class T, bool kReverse, int kWidth>
__global__ __launch_bounds__(128) void ssd_pass_kernel(const SsdStateArguments<T> a) {
  constexpr int kBatch = 8;
  struct alignas(kWidth * sizeof(T)) Pack {
    T v[kWidth];
  };
  const int head = blockIdx.x % a.heads, element = (blockIdx.y * 128 + threadIdx.x) * kWidth;
  const SsdWalk walk = a.layout.walk(blockIdx.x / a.heads);
  if (element >= a.state_size) return;
  const int count = (walk.end - walk.begin + kSsdChunk - 1) / kSsdChunk;
  const auto slot_of = [&](int c) { return walk.first_slot + (kReverse ? count - 1 - c : c); };
  const auto state_at = [&](int64_t slot) { return (slot * a.heads + head) * a.state_size + element; };
  float carry[kWidth] = {};
  for (int c0 = 0; c0 < count; c0 += kBatch) {
    Pack own[kBatch];
    int enters[kBatch], leaves[kBatch];
    float across[kBatch];
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      if (c0 + k >= count) break;
      const int slot = slot_of(c0 + k);
      own[k] = reinterpret_cast<const Pack&>(a.states[state_at(slot)]);
      enters[k] = kReverse ? a.chunks[slot].last : a.chunks[slot].first;
      leaves[k] = kReverse ? a.chunks[slot].first : a.chunks[slot].last;
      across[k] = a.across[slot * a.heads + head];
    }
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      if (c0 + k >= count) break;
      Pack before;
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        if (enters[k] >= 0) carry[e] = a.border_in ? a.border_in[state_at(enters[k]) + e] : 0.f;
        before.v[e] = from_float<T>(carry[e]);
        carry[e] = across[k] * carry[e] + as_float(own[k].v[e]);
        if (leaves[k] >= 0 && a.border_out) a.border_out[state_at(leaves[k]) + e] = carry[e];
      }
      reinterpret_cast<Pack&>(a.states[state_at(slot_of(c0 + k))]) = before;
    }
  }
}

template <class T, int N, int kBlocks>
struct SsdStateTile {
  static constexpr int kValues = 64 * 64 * 2, kKeys = 64 * N * 2, kStage = kValues + kKeys, kWeights = 64 * 4,
                       kAhead = kBlocks > 3 ? 1 : 2, kStages = kAhead + 1;
  static constexpr int kBytes = (kStage + kWeights) * kStages;
};

/// Grid: (walks, or slots when `kLocal`; heads). 8 warps: 4 of 16 rows of P, 2 halves of N; `kWide`: one
/// warpgroup (sm_90a). `kLocal` writes each chunk's own sum, for ssd_pass_kernel. `kBlocks`: of a
/// multiprocessor.
template <class T, int N, bool kReverse, bool kLocal, int kBlocks, bool kWide>
__global__ __launch_bounds__(kWide ? wide_threads(128) : 256,
                             kBlocks) void ssd_state_kernel(const SsdStateArguments<T> a) {
  using Tile = SsdStateTile<T, N, kBlocks>;
  constexpr int kThreads = kWide ? 128 : 256, kTiles = kWide ? N / 8 : N / 16;  // columns of 8 of a warp
  if constexpr (kWide != kHasWarpgroups) return;
  extern __shared__ __align__(1024) unsigned char shared[];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, quad = lane % 4;
  const int head = blockIdx.y, row0 = warp % 4 * 16 + lane / 4, column0 = warp / 4 * (N / 2);
  SsdWalk walk;
  if constexpr (kLocal) {
    const SsdChunk chunk = a.chunks[blockIdx.x];
    walk = {static_cast<int>(blockIdx.x), chunk.begin, chunk.begin + chunk.size};
    if (chunk.size == 0) return;
  } else {
    walk = a.layout.walk(blockIdx.x);
  }
  const int count = (walk.end - walk.begin + kSsdChunk - 1) / kSsdChunk;
  const T* values = row_at(a.values, walk.begin) + head * 64;
  const T* keys = row_at(a.keys, walk.begin) + head / (a.heads / a.groups) * N;
  const float* const all_weights = reinterpret_cast<const float*>(shared + Tile::kStages * Tile::kStage);
  const auto chunk_of_step = [&](int step) { return kReverse ? count - 1 - step / 2 : step / 2; };
  const auto issue = [&](int step) {
    if (step < 2 * count) {
      const uint32_t stage = shared_address(shared) + step % Tile::kStages * Tile::kStage,
                     weights = shared_address(all_weights) + step % Tile::kStages * Tile::kWeights;
      const int c = chunk_of_step(step), from = c * kSsdChunk + step % 2 * 64;
      const int valid = walk.end - walk.begin - from;
      const T* of_step = keys + from * a.keys.token_stride;
      load_tile<T, 64, 64, kThreads>(stage, values + from * a.values.token_stride, a.values.token_stride,
                                     valid);
      if constexpr (kWide)
        load_tiles<T, 64, N, kThreads>(stage + Tile::kValues, of_step, a.keys.token_stride, valid);
      else
        load_tile<T, 64, N, kThreads>(stage + Tile::kValues, of_step, a.keys.token_stride, valid);
      load_floats<kThreads>(weights,
                            a.weights +
                                (static_cast<int64_t>(walk.first_slot + c) * a.heads + head) * kSsdChunk +
                                step % 2 * 64,
                            64);
    }
    commit_copies();
  };

  float state[kTiles][4] = {};
  const auto state_at = [&](int64_t slot) { return (slot * a.heads + head) * (64 * N); };
  const auto save = [&](int slot) {
    T* to = a.states + state_at(slot) + column0 + quad * 8;
#pragma unroll
    for (int k = 0; k < kTiles; k += 4)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        uint32_t packed[4];
#pragma unroll
        for (int q = 0; q < 4; ++q) packed[q] = pack_pair<T>(state[k + q][2 * r], state[k + q][2 * r + 1]);
        reinterpret_cast<uint4&>(to[(row0 + 8 * r) * N + k * 8]) =
            transpose_quad(packed[0], packed[1], packed[2], packed[3], lane);
      }
  };
  const auto border_element = [&](int sequence, int tile, int r) {
    return state_at(sequence) + (row0 + 8 * r) * N + column0 + tile * 8 + quad * 2;
  };

#pragma unroll
  for (int step = 0; step < Tile::kAhead; ++step) issue(step);
  float next_across = 0;
  int next_enters = -1, next_leaves = -1, leaves = -1;
  const auto look_up = [&](int step) {
    if (kLocal || step >= 2 * count) return;
    const int slot = walk.first_slot + chunk_of_step(step);
    next_across = a.across[slot * a.heads + head];
    next_enters = kReverse ? a.chunks[slot].last : a.chunks[slot].first;
    next_leaves = kReverse ? a.chunks[slot].first : a.chunks[slot].last;
  };
  look_up(0);
  for (int step = 0; step < 2 * count; ++step) {
    const int slot = walk.first_slot + chunk_of_step(step);
    wait_copies<Tile::kAhead - 1>();
    publish_copies();
    __syncthreads();
    if (!kLocal && step % 2 == 0) {
      const float across = next_across;
      const int enters = next_enters;
      leaves = next_leaves;
      look_up(step + 2);
      if (enters >= 0) {
#pragma unroll
        for (int k = 0; k < kTiles; ++k)
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            float2 v{};
            if (a.border_in) v = reinterpret_cast<const float2&>(a.border_in[border_element(enters, k, r)]);
            state[k][2 * r] = v.x, state[k][2 * r + 1] = v.y;
          }
      }
      if (enters < 0 || a.border_in) save(slot);
#pragma unroll
      for (int k = 0; k < kTiles; ++k)
#pragma unroll
        for (int e = 0; e < 4; ++e) state[k][e] *= across;
    }
    issue(step + Tile::kAhead);
    const unsigned char* stage = shared + step % Tile::kStages * Tile::kStage;
    const uint32_t value_tile = shared_address(stage), key_tile = value_tile + Tile::kValues;
    const float* weights = all_weights + step % Tile::kStages * (Tile::kWeights / 4);
    const auto load_weighted = [&](uint32_t(&left)[4], int k0) {
      load_left_transposed<64>(left, value_tile, warp % 4 * 16, k0, lane);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const float2 w = reinterpret_cast<const float2&>(weights[k0 + k / 2 * 8 + quad * 2]),
                     v = unpack_pair<T>(left[k]);
        left[k] = pack_pair<T>(v.x * w.x, v.y * w.y);
      }
    };
    if constexpr (kWide) {
      uint32_t left[4][4];
#pragma unroll
      for (int k = 0; k < 4; ++k) load_weighted(left[k], k * 16);
      multiply_wide_columns<T, N>(state, left, wide_tile(key_tile));
    } else {
#pragma unroll
      for (int k0 = 0; k0 < 64; k0 += 16) {
        uint32_t left[4];
        load_weighted(left, k0);
#pragma unroll
        for (int n = 0; n < kTiles; n += 2) {
          uint32_t right[4];
          load_right_transposed<N>(right, key_tile, column0 + n * 8, k0, lane);
          multiply_add<T>(state[n], left, right[0], right[1]);
          multiply_add<T>(state[n + 1], left, right[2], right[3]);
        }
      }
    }
    if (kLocal && step % 2 == 1) save(slot);
    if (!kLocal && step % 2 == 1 && leaves >= 0 && a.border_out) {
#pragma unroll
      for (int k = 0; k < kTiles; ++k)
#pragma unroll
        for (int r = 0; r < 2; ++r)
          reinterpret_cast<float2&>(a.border_out[border_element(leaves, k, r)]) = {state[k][2 * r],
                                                                                   state[k][2 * r + 1]};
    }
  }
}

template <class Kernel>
cudaError_t allow_shared(Kernel kernel, int bytes) {
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

template <class T, bool kReverse>
cudaError_t launch_ssd_pass(const SsdStateArguments<T>& a, int64_t walks, cudaStream_t stream) {
  constexpr int kWidth = 4;
  if (a.state_size % kWidth == 0 && reinterpret_cast<uintptr_t>(a.states) % 16 == 0) {
    const dim3 grid(walks * a.heads, (a.state_size / kWidth + 127) / 128);
    ssd_pass_kernel<T, kReverse, kWidth><<<grid, 128, 0, stream>>>(a);
  } else {
    const dim3 grid(walks * a.heads, (a.state_size + 127) / 128);
    ssd_pass_kernel<T, kReverse, 1><<<grid, 128, 0, stream>>>(a);
  }
  return cudaGetLastError();
}

template <class T, class Cumulative>
cudaError_t launch_ssd_prepare(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes,
                               const SsdTables<Cumulative>& t) {
  ssd_prepare_kernel<<<dim3(sizes.slots, (p.heads + 7) / 8), 256, 0, p.stream>>>(p, sizes.layout, t);
  return cudaGetLastError();
}

template <class T, int N, bool kReverse>
cudaError_t launch_ssd_states(const SsdCudaParams<T>& p, const SsdSizes<T>& sizes,
                              const SsdTables<float>& tables, T* states) {
  const auto a = state_arguments<kReverse>(p, sizes, tables, states);
  const auto run = [&]<int kBlocks, bool kLocal, bool kWide>() {
    constexpr auto kernel = ssd_state_kernel<T, N, kReverse, kLocal, kBlocks, kWide>;
    constexpr int kBytes = SsdStateTile<T, N, kBlocks>::kBytes;
    if (const cudaError_t error = allow_shared(kernel, kBytes)) return error;
    kernel<<<dim3(kLocal ? sizes.slots : sizes.walks, a.heads), kWide ? 128 : 256, kBytes, p.stream>>>(a);
    return cudaGetLastError();
  };
  bool wide = false;
  if (const cudaError_t error = find_wide(ssd_state_kernel<T, N, kReverse, false, 4, true>, wide))
    return error;
  if (!walks_in_one_block(p)) {
    const cudaError_t error =
        wide ? run.template operator()<4, true, true>() : run.template operator()<3, true, false>();
    return error ? error : launch_ssd_pass<T, kReverse>(a, sizes.walks, p.stream);
  }
  if (wide) return run.template operator()<4, false, true>();
  // Blocks with fewer registers and stages are slower, but less so than a second wave.
  const int64_t blocks = sizes.walks * a.heads, places = multiprocessors();
  return blocks > 3 * places && blocks <= 4 * places ? run.template operator()<4, false, false>()
                                                     : run.template operator()<3, false, false>();
}

}  // namespace exactmamba::ops
