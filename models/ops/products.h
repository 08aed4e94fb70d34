// Products of two matrices into a tensor that is there.
#pragma once

#include <ATen/core/Tensor.h>

namespace exactmamba::ops {

/// to (m, n) = a (m, k) · b (k, n), all of one dtype.
void multiply(at::Tensor& to, const at::Tensor& a, const at::Tensor& b);

/// sum += a · b, without a temporary. a (m, k), b (k, n) of one dtype; `sum` (m, n) of the same or a wider
/// one, in which the products are summed: nothing is rounded on the way into a gradient.
void add_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b);

}  // namespace exactmamba::ops
