// The gradient of an embedding table: grad_weight[tokens[i]] += grad_out[i], in a fixed order for any
// repetition of tokens. fp32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>

namespace exactmamba::ops {

struct EmbeddingGradientCudaParams {
  int64_t count = 0, vocabulary = 0, size = 0;  // T and V below 2³¹, d
  const int64_t* tokens = nullptr;              // (T); those outside [0, V) add nothing
  const float* grad_out = nullptr;              // (T, d)
  float* grad_weight = nullptr;                 // (V, d), added to
  void* workspace = nullptr;                    // embedding_gradient_workspace() bytes

  cudaStream_t stream = nullptr;
};

size_t embedding_gradient_workspace(const EmbeddingGradientCudaParams& params);
cudaError_t launch_embedding_gradient(const EmbeddingGradientCudaParams& params);

}  // namespace exactmamba::ops
