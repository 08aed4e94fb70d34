// A projection y = x Wᵀ + b with its gradients; (…, in) → (…, out). Weight gradients are added in place,
// without a temporary.
#pragma once

#include <ATen/core/Tensor.h>

namespace exactmamba::models {

/// weight (out, in), bias (out) [nullable]. x's last dimension is contiguous, tokens may be strided. `to` (…,
/// out) [nullable]: where y goes.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {},
                  const at::Tensor& to = {});

/// grad_x = grad_y W
at::Tensor linear_input_gradient(const at::Tensor& grad_y, const at::Tensor& weight);

/// grad_weight += grad_yᵀ x; grad_bias += Σ grad_y, where defined.
void add_linear_gradients(const at::Tensor& grad_y, const at::Tensor& x, at::Tensor grad_weight,
                          at::Tensor grad_bias = {});

/// (…, n) → (T, n), a view.
at::Tensor as_rows(const at::Tensor& x);

}  // namespace exactmamba::models
