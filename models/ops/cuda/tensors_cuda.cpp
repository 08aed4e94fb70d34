#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "models/ops/cuda/tensors.h"

namespace exactmamba::ops {

cudaStream_t stream_of(const at::Tensor& tensor) {
  const c10::impl::VirtualGuardImpl guard(at::kCUDA);
  return static_cast<cudaStream_t>(guard.getStream(tensor.device()).native_handle());
}

at::Tensor workspace_of(const at::Tensor& tensor, size_t bytes) {
  return at::empty({static_cast<int64_t>(bytes)}, tensor.options().dtype(at::kByte));
}

at::Tensor empty_float(const at::Tensor& tensor, at::IntArrayRef shape) {
  return at::empty(shape, tensor.options().dtype(at::kFloat));
}

void check_launch(const char* op, cudaError_t error) {
  core::require(error == cudaSuccess, "{}: the CUDA kernel was not started: {}", op,
                cudaGetErrorString(error));
}

}  // namespace exactmamba::ops
