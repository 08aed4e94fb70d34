// A choice among logits.
#pragma once

#include <cstdint>
#include <limits>

namespace exactmamba::ops {
namespace {

/// A token and its logit; better means larger, then lower. What is not finite beats everything, as −1.
struct Candidate {
  float value;
  int32_t token;

  __device__ static Candidate none() { return {-kInfinity, INT32_MAX}; }
  __device__ static Candidate of(float logit, int32_t token) {
    return isfinite(logit) ? Candidate{logit, token} : Candidate{kInfinity, -1};
  }
  __device__ void take_better(const Candidate& other) {
    if (other.value > value || (other.value == value && other.token < token)) *this = other;
  }
  template <int kLanes>
  __device__ void take_best_of_lanes() {
#pragma unroll
    for (int mask = 1; mask < kLanes; mask *= 2)
      take_better({__shfl_xor_sync(~0u, value, mask), __shfl_xor_sync(~0u, token, mask)});
  }

  static constexpr float kInfinity = std::numeric_limits<float>::infinity();
};

}  // namespace
}  // namespace exactmamba::ops
