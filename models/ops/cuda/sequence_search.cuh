// Where packed sequences start.
#pragma once

#include <cstdint>
#include <cuda_runtime.h>

namespace exactmamba::ops {

/// The first index s with cu[s] ≥ position; a warp looks together.
__device__ __forceinline__ int first_start_from(const int32_t* cu, int count, int64_t position) {
  const int lane = threadIdx.x & 31;
  int begin = 0, end = count;  // the answer lies in [begin, end]
  while (end > begin) {
    const int step = (end - begin + 31) / 32, at = begin + lane * step;
    const unsigned below = __ballot_sync(~0u, at < end && cu[at] < position);
    const int passed = __popc(below);
    if (passed == 0) return begin;
    end = min(end, begin + passed * step);
    begin += (passed - 1) * step + 1;
  }
  return begin;
}

}  // namespace exactmamba::ops
