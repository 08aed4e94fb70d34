// What the host side of every CUDA kernel does: from tensors to pointers, LibTorch's stream, workspaces from
// its allocator, errors.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <utility>

#include <ATen/core/Tensor.h>

#include "models/ops/checks.h"
#include "models/ops/sequences.h"

namespace exactmamba::ops {

/// Calls body.operator()<T>() with T = float, __nv_bfloat16 or __half. The dtype has been checked.
template <class Body>
void dispatch_cuda(at::ScalarType dtype, Body&& body) {
  if (dtype == at::kFloat)
    std::forward<Body>(body).template operator()<float>();
  else if (dtype == at::kBFloat16)
    std::forward<Body>(body).template operator()<__nv_bfloat16>();
  else
    std::forward<Body>(body).template operator()<__half>();
}

/// LibTorch's current stream on the tensor's device.
cudaStream_t stream_of(const at::Tensor& tensor);

/// Bytes that live until the returned tensor goes; LibTorch's allocator hands them on in stream order.
at::Tensor workspace_of(const at::Tensor& tensor, size_t bytes);

/// Like `tensor`, in float.
at::Tensor empty_float(const at::Tensor& tensor, at::IntArrayRef shape);

/// @throws InputError naming the operator when a launch was refused
void check_launch(const char* op, cudaError_t error);

}  // namespace exactmamba::ops
