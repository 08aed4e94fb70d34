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
/// All threads of the cluster arrive, then wait; what they did before they arrived is seen behind the wait.
__device__ __forceinline__ void arrive_at_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
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
__device__ __forceinline__ float load_in_cluster(uint32_t address) {
  float value;
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
  return value;
}
#endif

}  // namespace exactmamba::ops
