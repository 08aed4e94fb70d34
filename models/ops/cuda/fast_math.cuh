// Functions of one or two instructions, in place of the exact ones of CUDA's library.
#pragma once

#include <cuda_runtime.h>

namespace exactmamba::ops {

inline constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

/// 2^x, 2 ulp; 0 for x below −126.
__device__ __forceinline__ float fast_exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

/// 1/x, 1 ulp; 0 at infinity.
__device__ __forceinline__ float fast_reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ __forceinline__ float fast_sigmoid(float x) {
  return fast_reciprocal(1.0f + fast_exp2(-kLog2E * x));
}

/// Keeps the compiler from computing a value again where it is used.
__device__ __forceinline__ int pinned(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

}  // namespace exactmamba::ops
