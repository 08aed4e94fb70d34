// Clusters of blocks that read each other's shared memory (sm_90 and newer).
#pragma once

#include <cuda_runtime.h>

#include "models/ops/cuda/bulk_copy.cuh"

namespace exactmamba::ops {

/// Whether the kernel's code was compiled for sm_90 or newer: such a GPU also runs older code, which lacks
/// clusters and the copy engine.
template <class... Parameters>
bool is_built_for_clusters(void (*kernel)(Parameters...)) {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)) == cudaSuccess &&
         attributes.ptxVersion >= 90;
}

#if __CUDA_ARCH__ >= 900
/// All threads of the cluster arrive, then wait. This alone does not show what they wrote.
__device__ __forceinline__ void arrive_at_cluster() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void wait_for_cluster() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
/// The same place in the shared memory of another block of the cluster.
__device__ __forceinline__ uint32_t address_in_cluster(const void* place, unsigned rank) {
  uint32_t address;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(address)
               : "r"(shared_address(place)), "r"(rank));
  return address;
}
/// Starts a copy from this block's shared memory to another's, whose `barrier` announced the bytes: a
/// multiple of 16, aligned to 16 on both sides.
__device__ __forceinline__ void copy_in_cluster(const void* to, const void* from, uint32_t bytes,
                                                const CopyBarrier& barrier, unsigned rank) {
  asm volatile(
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          address_in_cluster(to, rank)),
      "r"(shared_address(from)), "r"(bytes), "r"(address_in_cluster(&barrier, rank))
      : "memory");
}
#endif

}  // namespace exactmamba::ops
