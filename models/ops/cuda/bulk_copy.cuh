// Copies by the copy engine, and the counters that tell of their arrival (sm_90 and newer).
#pragma once

#include <cstdint>
#include <cuda_runtime.h>

#include "models/ops/cuda/warpgroup.cuh"

namespace exactmamba::ops {

#if __CUDA_ARCH__ >= 900

/// Completes a phase when all bytes that its one arrival announced are there; phases are counted in one bit.
/// Lies in shared memory.
class CopyBarrier {
 public:
  /// By one thread, before the others use it.
  __device__ __forceinline__ void init() {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(this)) : "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  /// The same, where other blocks of the cluster copy, behind the cluster's next barrier: `bytes` in all.
  __device__ __forceinline__ void init_for_cluster(uint32_t bytes) {
    init();
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    announce(bytes);
  }
  /// Starts the one copy of a phase: a multiple of 16 bytes, aligned to 16 on both sides.
  __device__ __forceinline__ void copy(void* to, const void* from, uint32_t bytes) {
    announce(bytes);
    add_copy(to, from, bytes);
  }
  /// Starts one of a phase's copies, whose bytes are announced together.
  __device__ __forceinline__ void add_copy(void* to, const void* from, uint32_t bytes) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
            shared_address(to)),
        "l"(from), "r"(bytes), "r"(shared_address(this))
        : "memory");
  }
  __device__ __forceinline__ void announce(uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(this)),
                 "r"(bytes)
                 : "memory");
  }
  __device__ __forceinline__ void wait(uint32_t phase) {
    uint32_t is_complete = 0;
    while (!is_complete)
      asm volatile(
          "{\n\t.reg .pred p;\n\t"
          "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\t"
          "selp.b32 %0, 1, 0, p;\n\t}"
          : "=r"(is_complete)
          : "r"(shared_address(this)), "r"(phase)
          : "memory");
  }

 private:
  uint64_t word_;
};

/// What this thread wrote into shared memory may be read by copies that start behind the next barrier.
__device__ __forceinline__ void publish_to_copies() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
/// Copies back, a group of its own.
__device__ __forceinline__ void copy_back(void* to, const void* from, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to),
               "r"(shared_address(from)), "r"(bytes)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Until shared memory has been read for all but the last kGroups copies back.
template <int kGroups>
__device__ __forceinline__ void wait_for_reads() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kGroups) : "memory");
}
/// Until all copies back have arrived.
__device__ __forceinline__ void wait_for_copies_back() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

#endif

}  // namespace exactmamba::ops
