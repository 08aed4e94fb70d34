// Kernels that are set up, and load what no kernel before them writes, while their predecessor in the stream
// still runs (programmatic dependent launch, sm_90 and newer; elsewhere they follow it as usual).
#pragma once

#include <cuda_runtime.h>
#include <utility>

#include "models/ops/cuda/launch.h"

namespace exactmamba::ops {

/// For the predecessor: the next kernel may be set up as soon as every block has been here.
__device__ __forceinline__ void allow_dependent_launch() {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

/// Waits until all kernels before this one have ended; what they wrote may be read from here on.
__device__ __forceinline__ void wait_for_previous_launch() {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}

/// A kernel that calls wait_for_previous_launch().
template <class... Parameters, class... Arguments>
cudaError_t launch_dependent(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, size_t shared,
                             cudaStream_t stream, Arguments&&... arguments) {
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = blocks;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = device_attribute(cudaDevAttrComputeCapabilityMajor) >= 9 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace exactmamba::ops
