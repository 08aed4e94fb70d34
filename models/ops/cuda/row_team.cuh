// One row, one team: the warps that normalise a row and the elements each of their lanes keeps in registers.
#pragma once

#include <cstdint>

#include "models/ops/cuda/device_pack.cuh"
#include "models/ops/cuda/launch.h"

namespace exactmamba::ops {

inline constexpr int64_t kLongestRow = 8192;

/// A lane keeps kElements elements in packs of kVector; neighbouring lanes keep neighbouring packs. Rows of
/// one warp share blocks of four teams; larger teams are blocks of their own.
template <int kTeamWarps, int kTeamElements, int kTeamVector>
struct RowTeam {
  static constexpr int kWarps = kTeamWarps, kElements = kTeamElements, kVector = kTeamVector,
                       kPacks = kElements / kVector, kTeams = kWarps == 1 ? 4 : 1,
                       kThreads = 32 * kWarps * kTeams;

  static __device__ int index() { return kWarps == 1 ? threadIdx.x / 32 : 0; }
  /// This team among all of the grid. Kernels begin with the last row: what ran before wrote it last, so that
  /// the second-level cache still has it, and leave the first ones there for what follows.
  static __device__ int64_t place() { return int64_t(blockIdx.x) * kTeams + index(); }
  static __device__ int64_t count() { return int64_t(gridDim.x) * kTeams; }
  static __device__ int column(int pack) {
    return (pack * 32 * kWarps + (kWarps == 1 ? threadIdx.x % 32 : threadIdx.x)) * kVector;
  }

  /// Calls body(pack, column, offset of the pack in the lane's elements) for each pack within the row.
  template <class Body>
  static __device__ __forceinline__ void for_each_pack(int size, const Body& body) {
#pragma unroll
    for (int k = 0; k < kPacks; ++k)
      if (column(k) < size) body(k, column(k));
  }

  /// Sums over the team. Rows of shared memory alternate, so that one barrier a row is enough.
  class Sum {
   public:
    __device__ float operator()(float value) {
      value = warp_sum(value);
      if constexpr (kWarps > 1) {
        __shared__ float warps[2][kWarps];
        if (threadIdx.x % 32 == 0) warps[turn_][threadIdx.x / 32] = value;
        __syncthreads();
        value = 0;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) value += warps[turn_][w];
        turn_ ^= 1;
      }
      return value;
    }

   private:
    int turn_ = 0;
  };
};

/// Sums kept per lane over many rows: adds up the teams of a block in a fixed order. `partial` is the block's
/// row of `size` sums; shared memory of kTeams · size floats where a block has several teams.
template <class Team>
__device__ void store_column_partials(const float (&sums)[Team::kElements], int size, float* partial) {
  if constexpr (Team::kTeams == 1) {
    Team::for_each_pack(size, [&](int k, int column) {
#pragma unroll
      for (int v = 0; v < Team::kVector; ++v) partial[column + v] = sums[k * Team::kVector + v];
    });
  } else {
    extern __shared__ float team_sums[];
    Team::for_each_pack(size, [&](int k, int column) {
#pragma unroll
      for (int v = 0; v < Team::kVector; ++v)
        team_sums[Team::index() * size + column + v] = sums[k * Team::kVector + v];
    });
    __syncthreads();
    for (int column = threadIdx.x; column < size; column += Team::kThreads) {
      float total = 0;
#pragma unroll
      for (int team = 0; team < Team::kTeams; ++team) total += team_sums[team * size + column];
      partial[column] = total;
    }
  }
}

/// What both of the following have in common: all but packed rows of 1025 to 2048 elements, whose teams come
/// from `launch_middle()`. So no team is compiled that nobody asks for.
template <int kVector, class Launch, class LaunchMiddle>
cudaError_t dispatch_any_row_team(int64_t size, bool packs, const Launch& launch,
                                  const LaunchMiddle& launch_middle) {
  if (size > kLongestRow) return cudaErrorInvalidValue;
  if (!packs) {
    if (size <= 256) return launch.template operator()<RowTeam<1, 8, 1>>();
    return launch.template operator()<RowTeam<8, 32, 1>>();
  }
  if (size <= 256) return launch.template operator()<RowTeam<1, 8, kVector>>();
  if (size <= 512) return launch.template operator()<RowTeam<1, 16, kVector>>();
  if (size <= 768) return launch.template operator()<RowTeam<1, 24, kVector>>();
  if (size <= 1024) return launch.template operator()<RowTeam<1, 32, kVector>>();
  if (size <= 2048) return launch_middle();
  if (size <= 4096) return launch.template operator()<RowTeam<8, 16, kVector>>();
  return launch.template operator()<RowTeam<8, 32, kVector>>();
}

/// Calls launch.operator()<Team>() with the smallest team for rows of `size` elements; `packs`: whether
/// accesses of kVector elements are possible.
template <int kVector, class Launch>
cudaError_t dispatch_row_team(int64_t size, bool packs, const Launch& launch) {
  return dispatch_any_row_team<kVector>(size, packs, launch, [&] {
    return size <= 1536 ? launch.template operator()<RowTeam<2, 24, kVector>>()
                        : launch.template operator()<RowTeam<2, 32, kVector>>();
  });
}

/// The same for kernels that keep much more than the row itself: more warps with fewer elements each.
template <int kVector, class Launch>
cudaError_t dispatch_wide_row_team(int64_t size, bool packs, const Launch& launch) {
  return dispatch_any_row_team<kVector>(size, packs, launch, [&] {
    return size <= 1536 ? launch.template operator()<RowTeam<3, 16, kVector>>()
                        : launch.template operator()<RowTeam<4, 16, kVector>>();
  });
}

/// Blocks of a kernel whose teams walk over many rows: those that are resident together, and no more than
/// leave a few rows to each team.
template <class Team, class Kernel>
int64_t walking_blocks(Kernel kernel, size_t shared, int64_t rows, int64_t groups) {
  int resident = 1;
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, Team::kThreads, shared);
  const int64_t most = ceil_divide<int64_t>(int64_t(multiprocessors()) * resident, groups),
                needed = ceil_divide<int64_t>(rows, int64_t(Team::kTeams) * 4);
  return needed < most ? needed : most;
}

/// Bytes of all blocks' rows of store_column_partials(). dispatch(launch) calls
/// launch.operator()<Team>(kernel, blocks, shared memory).
template <class Dispatch>
size_t column_partials_bytes(int64_t columns, const Dispatch& dispatch) {
  size_t bytes = 0;
  dispatch([&]<class Team>(auto, int64_t blocks, size_t) {
    bytes = sizeof(float) * blocks * columns;
    return cudaSuccess;
  });
  return bytes;
}

/// Bytes of shared memory for store_column_partials().
template <class Team>
size_t column_partials_shared(int64_t size) {
  return Team::kTeams > 1 ? sizeof(float) * Team::kTeams * size : 0;
}

}  // namespace exactmamba::ops
