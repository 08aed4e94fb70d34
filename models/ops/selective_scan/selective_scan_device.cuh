// What the kernels of the Mamba-1 scan share: arithmetic, access to memory, who does what.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cuda_runtime.h>
#include <type_traits>

#include "models/ops/cuda/sequence_search.cuh"
#include "models/ops/cuda/softplus.cuh"
#include "models/ops/selective_scan/selective_scan_cuda_params.h"

namespace exactmamba::ops::scan {

constexpr int kTile = kScanTile;
constexpr int kGroup = 4;  // tokens
constexpr int kGroups = kTile / kGroup;
constexpr unsigned kFullWarp = 0xffffffffu;

template <int kLanesOfColumn, int kStatesOfLane, int kChannelsOfLane>
struct ScanShape {
  static constexpr int kLanes = kLanesOfColumn, kStates = kStatesOfLane, kChannels = kChannelsOfLane;
  static constexpr int kColumns = 32 / kLanes;  // of a warp
  static constexpr int kWarpChannels = kColumns * kChannels;
  static constexpr int kPadded = kLanes * kStates;  // states, the last ones perhaps unused
};

// ---- memory ----

/// The tokens of a row, at the lane's first channel.
template <class T>
class TokenRow {
 public:
  template <class R>
  __device__ __forceinline__ TokenRow(const R& rows, int64_t row, int64_t channel)
      : stride_(static_cast<int>(rows.token_stride)),
        begin_(reinterpret_cast<const char*>(rows.data + row * rows.batch_stride + channel)) {}
  /// `token` need not exist.
  __device__ __forceinline__ T* at(int token) const {
    int64_t offset;  // one instruction with the addition; the compiler would multiply 64 by 64 bits
    asm("mul.wide.s32 %0, %1, %2;" : "=l"(offset) : "r"(token * static_cast<int>(sizeof(T))), "r"(stride_));
    return const_cast<T*>(reinterpret_cast<const T*>(begin_ + offset));
  }

 private:
  int stride_;
  const char* begin_;
};

/// Neighbouring channels of one token as loaded: 16-bit pairs stay in one register until they are used, since
/// taking them apart would wait for the load.
template <class T, int kChannels, bool kVector>
class RawPack {
 public:
  /// Zeros unless `exists`. `count` of the channels exist, all of them with kVector.
  __device__ __forceinline__ void load(const T* from, bool exists, int count) {
    if constexpr (kPairs) {
      word_[0] = exists ? __ldg(reinterpret_cast<const unsigned*>(from)) : 0u;
    } else if constexpr (kVector && kChannels == 2) {
      const float2 v = exists ? __ldg(reinterpret_cast<const float2*>(from)) : make_float2(0.f, 0.f);
      word_[0] = v.x, word_[1] = v.y;
    } else {
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        if constexpr (sizeof(T) == 2)
          word_[c] = exists && c < count ? __ldg(reinterpret_cast<const unsigned short*>(from) + c) : 0u;
        else
          word_[c] = exists && c < count ? __ldg(from + c) : 0.f;
      }
    }
  }
  /// The same where it stands: the compiler would move the load behind the work that hides it.
  __device__ __forceinline__ void load_here(const T* from, bool exists, int count) {
    if constexpr (kPairs)
      asm volatile("{ .reg .pred p; setp.ne.s32 p, %2, 0; mov.u32 %0, 0; @p ld.global.nc.b32 %0, [%1]; }"
                   : "=r"(word_[0])
                   : "l"(from), "r"(static_cast<int>(exists)));
    else
      load(from, exists, count);
  }
  __device__ __forceinline__ void load_here(const T* from) {
    static_assert(kPairs);
    asm volatile("ld.global.nc.b32 %0, [%1];" : "=r"(word_[0]) : "l"(from));
  }
  /// From shared memory.
  __device__ __forceinline__ void read(const float* from) {
    if constexpr (kPairs) {
      word_[0] = *reinterpret_cast<const unsigned*>(from);
    } else if constexpr (kVector && kChannels == 2) {
      const float2 v = *reinterpret_cast<const float2*>(from);
      word_[0] = v.x, word_[1] = v.y;
    }
  }
  __device__ __forceinline__ float operator[](int c) const {
    if constexpr (sizeof(T) == 4) {
      return word_[c];
    } else if constexpr (std::is_same_v<T, __half>) {
      return __half2float(__ushort_as_half(
          static_cast<unsigned short>(kPairs && c == 1 ? word_[0] >> 16 : word_[kPairs ? 0 : c])));
    } else {
      return __uint_as_float(kPairs && c == 1 ? word_[0] & 0xffff0000u : word_[kPairs ? 0 : c] << 16);
    }
  }

 private:
  static constexpr bool kPairs = kVector && sizeof(T) == 2 && kChannels == 2;
  std::conditional_t<sizeof(T) == 4, float, unsigned> word_[kPairs ? 1 : kChannels];
};

template <bool kVector, int kChannels, class T>
__device__ __forceinline__ void store_pack(T* to, const float (&values)[kChannels], bool exists, int count) {
  const DevicePack<T, kChannels> pack = pack_floats<T>(values);
  if constexpr (kVector) {
    if (exists) *reinterpret_cast<DevicePack<T, kChannels>*>(to) = pack;
  } else {
#pragma unroll
    for (int c = 0; c < kChannels; ++c)
      if (exists && c < count) to[c] = pack.values[c];
  }
}

/// Copies kBytes (4, 8 or 16) to shared memory behind the thread's back; zeros unless `exists`.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* to, const void* from, bool exists) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(to))),
               "l"(from), "n"(kBytes), "r"(exists ? kBytes : 0)
               : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// All but the last kLeft committed groups have come.
template <int kLeft>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

/// 16 bytes at once, whatever the compiler would rather do.
__device__ __forceinline__ void store_four(float* to, const float (&v)[4]) {
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(v[0]), "f"(v[1]), "f"(v[2]),
               "f"(v[3])
               : "memory");
}
template <class T>
__device__ __forceinline__ void store_four(T* to, const float (&v)[4]) {
  store_floats(to, v);
}

/// The lane's states of its channels in a (…, D, N) tensor.
template <class Shape>
struct StatePlace {
  using States = float[Shape::kChannels][Shape::kStates];
  int64_t first;  // of the lane's first channel and state within (D, N)
  int states;     // N
  int channels;   // of the lane, existing
  int remaining;  // states from the lane's first to N
  bool vector;    // four states may be accessed at once

  template <class T>
  __device__ __forceinline__ void load(const T* from, States& to) const {
    visit([&](int c, int n, int64_t at) { to[c][n] = to_float(from[at]); },
          [&](int c, int n, int64_t at) {
            float four[4];
            load_floats(from + at, four);
            to[c][n] = four[0], to[c][n + 1] = four[1], to[c][n + 2] = four[2], to[c][n + 3] = four[3];
          },
          [&](int c, int n) { to[c][n] = 0.f; });
  }
  template <class T>
  __device__ __forceinline__ void store(T* to, const States& from) const {
    visit([&](int c, int n, int64_t at) { to[at] = from_float<T>(from[c][n]); },
          [&](int c, int n, int64_t at) {
            store_four(to + at, {from[c][n], from[c][n + 1], from[c][n + 2], from[c][n + 3]});
          },
          [](int, int) {});
  }

 private:
  template <class One, class Four, class None>
  __device__ __forceinline__ void visit(One one, Four four, None none) const {
    // Pinned here, so that no predicates are kept for the rare use.
    const int channels = pinned(this->channels), remaining = pinned(this->remaining);
    const bool vector = pinned(this->vector);
#pragma unroll
    for (int c = 0; c < Shape::kChannels; ++c) {
#pragma unroll
      for (int n = 0; n < Shape::kStates; n += 4) {
        const int64_t at = first + static_cast<int64_t>(c) * states + n;
        if (vector && c < channels && n < remaining) {
          four(c, n, at);
        } else {
#pragma unroll
          for (int i = n; i < n + 4; ++i)
            if (c < channels && i < remaining)
              one(c, i, at + i - n);
            else
              none(c, i);
        }
      }
    }
  }
};

// ---- who does what ----

/// What a launch fixes beside the parameters.
struct ScanGrid {
  int channel_blocks, blocks_per_group;  // of one row
  int segments, segment_tiles;
  bool vector_bc;      // rows of B and C may be read 16 bytes at a time
  bool vector_states;  // (D, N) tensors may be
  int first_row = 0;   // backward may go over the batch in parts
};

template <class Shape>
struct Place {
  int lane, q, column, warp;  // q: within the column
  int row, segment, group, block, channels;
  int64_t channel;  // the lane's first

  /// `index`: which of the blocks of a segment; `of_block`: which of its `warps` that walk.
  template <class P>
  __device__ __forceinline__ Place(const P& p, const ScanGrid& grid, int index, int of_segment, int of_block,
                                   int warps = blockDim.x / 32)
      : warp(of_block), segment(of_segment) {
    lane = threadIdx.x & 31;
    q = pinned(lane % Shape::kLanes), column = lane / Shape::kLanes;
    block = index % grid.channel_blocks;
    row = grid.first_row + index / grid.channel_blocks;
    group = block / grid.blocks_per_group;
    const int64_t per_group = p.channels / p.groups;
    const int64_t within =
        static_cast<int64_t>(block % grid.blocks_per_group) * warps * Shape::kWarpChannels +
        warp * Shape::kWarpChannels + column * Shape::kChannels;
    channel = group * per_group + within;
    channels = static_cast<int>(max(int64_t{0}, min(int64_t{Shape::kChannels}, per_group - within)));
    if (channels == 0) channel = 0;  // any address that exists
  }

  /// Which of all rows' segments.
  __device__ __forceinline__ int64_t part(const ScanGrid& grid) const {
    return static_cast<int64_t>(row) * grid.segments + segment;
  }
  template <class P>
  __device__ __forceinline__ StatePlace<Shape> states(const P& p, const ScanGrid& grid) const {
    const int N = static_cast<int>(p.states);
    return {channel * N + q * Shape::kStates, N, channels, N - q * Shape::kStates, grid.vector_states};
  }
};

/// Neighbouring states of one token as fp32: in copy m, place i holds the state i ^ m.
template <int kCopies, int kPadded, class T, int kWidth>
__device__ __forceinline__ void write_copies(float* to, const DevicePack<T, kWidth>& pack) {
  float v[kWidth];
  unpack(pack, v);
#pragma unroll
  for (int j = 0; j < kWidth; j += 4)
#pragma unroll
    for (int m = 0; m < kCopies; ++m)
      *reinterpret_cast<float4*>(to + m * kPadded + j) =
          make_float4(v[j + m], v[j + (1 ^ m)], v[j + (2 ^ m)], v[j + (3 ^ m)]);
}

/// B or C of one tile of tokens, padded with zeros: shared memory [token][copy][kPadded] at `to`, tokens
/// `pitch` apart. Thread `thread` of `threads` that take part.
template <class Shape, int kCopies, class T>
__device__ __forceinline__ void fill_tile(float* to, int pitch, const Rows<const T>& rows, int64_t row,
                                          int64_t first, int states, int token, int length, bool vector,
                                          int thread, int threads) {
  constexpr int kWidth = 16 / sizeof(T);
  const T* from = rows.data + row * rows.batch_stride + first;
  if (vector && Shape::kPadded == states) {
    constexpr int kVectors = Shape::kPadded / kWidth;
    for (int i = thread; i < kTile * kVectors; i += threads) {
      const int t = i / kVectors, n = i % kVectors * kWidth;
      DevicePack<T, kWidth> pack{};
      if (token + t < length)
        pack = load_pack<kWidth>(from + static_cast<int64_t>(token + t) * rows.token_stride + n);
      write_copies<kCopies, Shape::kPadded>(to + t * pitch + n, pack);
    }
  } else {
    for (int i = thread; i < kTile * Shape::kPadded; i += threads) {
      const int t = i / Shape::kPadded, n = i % Shape::kPadded;
      const bool exists = token + t < length && n < states;
      const float value =
          exists ? to_float(from[static_cast<int64_t>(token + t) * rows.token_stride + n]) : 0.f;
#pragma unroll
      for (int m = 0; m < kCopies; ++m) to[t * pitch + m * Shape::kPadded + (n ^ m)] = value;
    }
  }
}

/// The same in two steps, for the next tile: the copy to `stage`, and, by the same threads, its conversion.
template <class Shape, class T>
struct TileStage {
  static constexpr int kWidth = 16 / sizeof(T),
                       kVectors = Shape::kPadded >= kWidth ? Shape::kPadded / kWidth : 1;
  static constexpr int kFloats =
      Shape::kLanes == 4 ? 2 * kTile * Shape::kPadded * static_cast<int>(sizeof(T)) / 4 : 0;

  __device__ __forceinline__ static bool usable(int states, bool vector) {
    return kFloats > 0 && vector && states == Shape::kPadded;
  }
  __device__ __forceinline__ static void copy(float* stage, const Rows<const T>& B, const Rows<const T>& C,
                                              int64_t row, int64_t first, int token, int length, int thread,
                                              int threads) {
    for (int i = thread; i < 2 * kTile * kVectors; i += threads) {
      const Rows<const T>& rows = i < kTile * kVectors ? B : C;
      const int t = i / kVectors % kTile, n = i % kVectors * kWidth;
      const bool exists = token + t < length;
      const T* from = rows.data + row * rows.batch_stride + first + n;
      copy_async<16>(stage + i * 4,
                     exists ? from + static_cast<int64_t>(token + t) * rows.token_stride : from, exists);
    }
  }
  /// `to_B` and `to_C` as in fill_tile.
  template <int kCopies>
  __device__ __forceinline__ static void convert(const float* stage, float* to_B, float* to_C, int pitch,
                                                 int thread, int threads) {
    for (int i = thread; i < 2 * kTile * kVectors; i += threads) {
      const int t = i / kVectors % kTile, n = i % kVectors * kWidth;
      float* const to = (i < kTile * kVectors ? to_B : to_C) + t * pitch + n;
      write_copies<kCopies, Shape::kPadded>(to, load_pack<kWidth>(reinterpret_cast<const T*>(stage + i * 4)));
    }
  }
};

/// What a lane reads of its token of a group: four groups under way. They go through the lane's own places in
/// shared memory where the copy engine can do that: loads into registers would be waited for together, the
/// newest with the oldest.
template <class T, class Shape, bool kVector, int kArrays>
class GroupLoads {
 public:
  using Raw = RawPack<T, Shape::kChannels, kVector>;
  static constexpr bool kAsync = kVector && Shape::kChannels == 2;
  static constexpr int kPackFloats = 2 * sizeof(T) / 4;
  static constexpr int kFloats = kAsync ? 4 * kArrays * 32 * kPackFloats : 0;  // of a warp

  __device__ __forceinline__ GroupLoads(float* of_warp, int lane) : own_(of_warp + lane * kPackFloats) {}

  __device__ __forceinline__ void start(int slot, int array, const T* from, bool exists, int count) {
    if constexpr (kAsync)
      copy_async<2 * sizeof(T)>(place(slot, array), from, exists);
    else
      kept_[slot][array].load(from, exists, count);
  }
  /// Behind the starts of a group.
  __device__ __forceinline__ void commit() const {
    if constexpr (kAsync) commit_copies();
  }
  /// All but the last kLeft groups have come.
  template <int kLeft>
  __device__ __forceinline__ void wait() const {
    if constexpr (kAsync) wait_copies<kLeft>();
  }
  __device__ __forceinline__ Raw get(int slot, int array) const {
    if constexpr (kAsync) {
      Raw raw;
      raw.read(place(slot, array));
      return raw;
    } else {
      return kept_[slot][array];
    }
  }

 private:
  __device__ __forceinline__ float* place(int slot, int array) const {
    return own_ + (slot * kArrays + array) * 32 * kPackFloats;
  }
  float* own_;
  Raw kept_[kAsync ? 1 : 4][kArrays];
};

/// The starts of sequences inside a row (the row's own start is not one of them), tile by tile.
struct SequenceStarts {
  const int32_t* cu;  // null: there are none
  int64_t row_begin;
  int count, length, next;
  int first;      // index of the sequence that the lowest bit of `bits` starts
  uint64_t bits;  // bit i: a sequence starts at token tile·kTile + i

  template <class P>
  __device__ __forceinline__ SequenceStarts(const P& p, int row, int token) : cu(p.cu_seqlens), bits(0) {
    row_begin = static_cast<int64_t>(row) * p.length;
    count = static_cast<int>(p.sequence_count), length = static_cast<int>(p.length);
    next = cu ? first_start_from(cu, count, row_begin + max(token, 1)) : row + 1;
    first = next;
  }
  /// For tiles in rising order.
  __device__ __forceinline__ void advance(int token) {
    if (!cu) return;
    bits = 0, first = next;
    collect(token, kTile);
  }
  /// For tiles in falling order; `next` came from a token at or behind the tile's end. Looks one token
  /// beyond the tile, where the adjoint state comes from.
  __device__ __forceinline__ void retreat(int token) {
    if (!cu) return;
    bits = 0;
    while (next > 0 && cu[next - 1] - row_begin >= max(token, 1)) --next;
    first = next;
    collect(token, kTile + 1);
    next = first;
  }
  /// Bit g: group g holds a start; with kReverse also if one lies right behind it.
  template <bool kReverse>
  __device__ __forceinline__ unsigned broken_groups() const {
    unsigned groups = 0;
    if (bits) {
      for (int g = 0; g < kGroups; ++g)
        if ((bits >> (g * kGroup)) & (kReverse ? 31u : 15u)) groups |= 1u << g;
    }
    return groups;
  }
  __device__ __forceinline__ bool at(int offset) const { return (bits >> offset) & 1; }
  /// The sequence that starts at a set bit.
  __device__ __forceinline__ int sequence(int offset) const {
    return first + __popcll(bits & ((uint64_t{1} << offset) - 1));
  }

 private:
  __device__ __forceinline__ void collect(int token, int size) {
    const int end = min(token + size, length);
    for (; next < count; ++next) {
      const int64_t start = cu[next] - row_begin;
      if (start >= end) break;
      bits |= uint64_t{1} << (start - token);
    }
  }
};

/// Sums over the lanes of a column of one value per token of a group: lane q < 4 gets token q's.
template <class Shape>
__device__ __forceinline__ float sum_to_tokens(float v0, float v1, float v2, float v3, int q) {
  const bool high = q & 2, odd = q & 1;
  const float a = (high ? v2 : v0) + __shfl_xor_sync(kFullWarp, high ? v0 : v2, 2);
  const float b = (high ? v3 : v1) + __shfl_xor_sync(kFullWarp, high ? v1 : v3, 2);
  float sum = (odd ? b : a) + __shfl_xor_sync(kFullWarp, odd ? a : b, 1);
#pragma unroll
  for (int mask = 4; mask < Shape::kLanes; mask *= 2) sum += __shfl_xor_sync(kFullWarp, sum, mask);
  return sum;
}

template <class P>
__device__ __forceinline__ float A_of(const P& p, float given) {
  return p.A_is_log ? -expf(given) : given;
}

/// A · log2(e) of the lane.
template <class Shape, class P>
__device__ __forceinline__ void load_exponents(const StatePlace<Shape>& place, const P& p,
                                               float (&exponent)[Shape::kChannels][Shape::kStates]) {
  place.load(p.A, exponent);
#pragma unroll
  for (int c = 0; c < Shape::kChannels; ++c)
#pragma unroll
    for (int n = 0; n < Shape::kStates; ++n) exponent[c][n] = A_of(p, exponent[c][n]) * kLog2E;
}

template <int kChannels>
__device__ __forceinline__ void load_channels(const float* from, int64_t channel, int count,
                                              float (&to)[kChannels]) {
#pragma unroll
  for (int c = 0; c < kChannels; ++c) to[c] = from && c < count ? from[channel + c] : 0.f;
}

}  // namespace exactmamba::ops::scan
