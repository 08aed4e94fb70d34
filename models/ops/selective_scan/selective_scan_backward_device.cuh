// What the two backward kernels of the Mamba-1 scan share: places in shared memory, sums, the queue of
// segments.
#pragma once

#include "models/ops/cuda/phase_barrier.cuh"
#include "models/ops/selective_scan/selective_scan_kernel.cuh"

namespace exactmamba::ops::scan {

/// Shared memory of the backward kernel, in floats.
template <class Shape>
struct BackwardMemory {
  // Sums over the eight columns of a warp halve the states of a lane twice. For that to need no selection,
  // column i keeps its states in the order n ^ (i % 4), and B and C lie in memory in all four orders.
  static constexpr bool kPermuted = Shape::kColumns == 8;
  static constexpr int kCopies = kPermuted ? 4 : 1;
  static constexpr int kPitch = 2 * kCopies * Shape::kPadded;                          // B and C of a token
  static constexpr int kTileFloats = kTile * kPitch, kCoefficients = 2 * kTileFloats;  // two tiles
  static constexpr int kStates = Shape::kChannels * Shape::kStates * 32;               // in front of a group
  using Exchange = ExchangeLayout<Shape, 2 * Shape::kChannels>;                        // Δ and Δ·u
  struct GradY {
    static constexpr int kToken = Shape::kColumns * Shape::kChannels, kGroupSize = kGroup * kToken;
  };
  static constexpr int kSums = kGroup * 2 * Shape::kPadded;  // ∂B and ∂C of a group
  // A group's sums take the place of the states in front of it, which are no longer needed, and the block
  // adds them up once a tile. With many states they do not fit there and are added up after every group.
  static constexpr bool kSumsByTile = kSums <= kStates;
  static constexpr int kChainGroups = kSumsByTile ? kGroups : 1, kChain = kChainGroups * kSums;
  static constexpr int kOfWarp =
      kGroups * (kStates + Exchange::kGroupSize + GradY::kGroupSize) + (kSumsByTile ? 0 : kSums);
  template <class T>
  static constexpr size_t bytes(int warps) {
    return (kCoefficients + warps * kOfWarp + TileStage<Shape, T>::kFloats + kChain) * sizeof(float);
  }
};

/// What the backward kernel leaves to the launches behind it.
struct BackwardPartials {
  float* BC;            // (blocks of channels, 2, rows of this part, L, N)
  float *A, *D, *bias;  // (rows · segments, D, N), (…, D), (…, D)
};

/// Between the order of the states in (D, N) and that of the lane; its own inverse.
template <class Shape>
__device__ __forceinline__ void permute_states(float (&v)[Shape::kChannels][Shape::kStates], int column) {
  if constexpr (BackwardMemory<Shape>::kPermuted) {
#pragma unroll
    for (int c = 0; c < Shape::kChannels; ++c) {
      const float a = column & 1 ? v[c][1] : v[c][0], b = column & 1 ? v[c][0] : v[c][1];
      const float d = column & 1 ? v[c][3] : v[c][2], e = column & 1 ? v[c][2] : v[c][3];
      v[c][0] = column & 2 ? d : a, v[c][1] = column & 2 ? e : b;
      v[c][2] = column & 2 ? a : d, v[c][3] = column & 2 ? b : e;
    }
  }
}

/// Segments of rows in one launch, each beginning with the adjoint state that the segment behind it left: the
/// way to whole waves where there are more blocks than the device holds at once. Blocks take the segments
/// from the rows' ends to their beginnings, in the order of the tickets that they draw: whom a block waits
/// for runs or has run, whatever order the blocks start in.
class SegmentQueue {
 public:
  /// `counters`, zeros before the launch: the next ticket, and of every block of a row and channels the
  /// number of its segments that are done; null where every block knows its place. All threads of a block
  /// take part.
  __device__ __forceinline__ SegmentQueue(int* counters, int segments)
      : counters_(counters), index_(blockIdx.x), segment_(blockIdx.y) {
    if (!counters) return;
    __shared__ int ticket;
    if (threadIdx.x == 0) ticket = atomicAdd(counters, 1);
    __syncthreads();
    index_ = ticket % gridDim.x, done_before_ = ticket / gridDim.x;
    segment_ = segments - 1 - done_before_;
  }
  __device__ __forceinline__ int index() const { return index_; }
  __device__ __forceinline__ int segment() const { return segment_; }
  __device__ __forceinline__ bool first() const { return done_before_ == 0; }
  /// Until the segment behind has passed on its state.
  __device__ __forceinline__ void wait() const {
    if (threadIdx.x == 0) {
      int done;
      do {
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(done) : "l"(counter()) : "memory");
      } while (done < done_before_);
    }
    __syncthreads();
  }
  /// What the block's threads have written is there for the segment in front.
  __device__ __forceinline__ void pass_on() const {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0)
      asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(counter()), "r"(done_before_ + 1) : "memory");
  }

 private:
  __device__ __forceinline__ int* counter() const { return counters_ + 1 + index_; }
  int* counters_;
  int index_, segment_, done_before_ = 0;
};

}  // namespace exactmamba::ops::scan
