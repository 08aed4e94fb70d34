// The operator on a GPU. The tensors have been checked.
#pragma once

#include <ATen/core/Tensor.h>

namespace exactmamba::ops {

void add_embedding_gradient_cuda(const at::Tensor& ids, const at::Tensor& grad_rows, at::Tensor& grad_weight);

}  // namespace exactmamba::ops
