// The factors of a norm as the kernels of every path take them.
#pragma once

#include <cuda_fp16.h>
#include <type_traits>

namespace exactmamba::ops {

/// A weight below 2^-60 (in float16: 2^-14) counts as that, so that backward can divide it out of the rounded
/// output that it reads; NaN stays NaN.
template <class T>
__device__ __forceinline__ float usable_weight(float weight) {
  constexpr float kLeast = std::is_same_v<T, __half> ? 0x1p-14f : 0x1p-60f;
  return fabsf(weight) < kLeast ? copysignf(kLeast, weight) : weight;
}

/// SiLU(z). Like a weight it is never nearer to 0 than can be divided out again.
template <class T>
__device__ __forceinline__ float usable_gate(float z, float sigmoid) {
  return usable_weight<T>(z * sigmoid);
}

}  // namespace exactmamba::ops
