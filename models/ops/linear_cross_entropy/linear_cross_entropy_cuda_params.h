// The contract between linear_cross_entropy.cpp, which forms a block of logits, and the CUDA kernel of the
// row-wise part of the loss. T: float, __nv_bfloat16 or __half.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

namespace exactmamba::ops {

template <class T>
struct CrossEntropyRowsCudaParams {
  int64_t rows = 0, vocabulary = 0, row_stride = 0;  // V below 2³⁰
  T* logits = nullptr;                               // (rows, V), rows row_stride apart
  const int64_t* targets = nullptr;                  // (rows), in [0, V); others are ignored
  float* losses = nullptr;                           // (rows)
  int64_t* predictions = nullptr;  // (rows): argmax over the first `true_vocab` columns [nullable]
  int64_t true_vocab = 0;
  bool write_gradient = false;  // leave scale · (softmax − smoothed onehot) in `logits`, 0 in ignored rows
  float scale = 0;
  float label_smoothing = 0;            // only with write_gradient
  const float* device_scale = nullptr;  // a factor of `scale` read on the device [nullable]

  cudaStream_t stream = nullptr;
};

template <class T>
cudaError_t launch_cross_entropy_rows(const CrossEntropyRowsCudaParams<T>& params);

}  // namespace exactmamba::ops
