// A product of many rows and few terms on a GPU, by another of cuBLAS' algorithms than its first.
#pragma once

#include <ATen/core/Tensor.h>

namespace exactmamba::ops {

/// to = a · b as in products.h. @return false, and nothing is done, where cuBLAS' own choice is as good
bool multiply_many_rows_cuda(const at::Tensor& to, const at::Tensor& a, const at::Tensor& b);

}  // namespace exactmamba::ops
