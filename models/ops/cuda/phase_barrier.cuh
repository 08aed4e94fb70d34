// A barrier for warps that are at different places of their work, where __syncthreads would keep them in
// step.
#pragma once

#include <cstdint>
#include <cuda_runtime.h>

namespace exactmamba::ops {

/// A barrier in shared memory that counts what is done: phase n ends when as many warps as were announced
/// have arrived behind the end of phase n - 1. Who waits for a phase does so before the next one can end.
class PhaseBarrier {
 public:
  /// By one thread, before the block's first __syncthreads.
  __device__ __forceinline__ void init(int warps) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(address()), "r"(32 * warps) : "memory");
  }
  /// The warp arrives, every lane for what it did itself; what a lane does next comes behind what all did.
  __device__ __forceinline__ void arrive() {
    __syncwarp();
    asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(address()) : "memory");
  }
  /// Keeps the warp until phase n has ended; n = -1 has.
  __device__ __forceinline__ void wait(int n) {
    while (!__all_sync(0xffffffffu, ended(n))) {
    }
  }

 private:
  __device__ __forceinline__ int ended(int n) {
    int result;
    asm volatile(
        "{ .reg .pred p;\n"
#if __CUDA_ARCH__ >= 900
        "mbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
#else
        "mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
#endif
        "selp.s32 %0, 1, 0, p; }"
        : "=r"(result)
        : "r"(address()), "r"(n & 1)
        : "memory");
    return result;
  }
  __device__ __forceinline__ unsigned address() {
    return static_cast<unsigned>(__cvta_generic_to_shared(&state_));
  }
  uint64_t state_;
};

}  // namespace exactmamba::ops
