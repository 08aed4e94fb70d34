// Row-major matrix products on raw pointers through the BLAS inside LibTorch, for products too small for
// at::mm's overhead. Called inside at::parallel_for they run on the calling thread.
#pragma once

#include <cstdint>

namespace exactmamba::ops {

/// A row-major matrix whose rows are `stride` elements apart; `transposed` is how the product reads it.
template <class T>
struct MatrixView {
  const T* data;
  int64_t stride;
  bool transposed = false;

  MatrixView t() const { return {data, stride, !transposed}; }
};

/// c (rows, columns) = a (rows, inner) · b (inner, columns) + beta · c; c's rows are `c_stride` elements
/// apart.
template <class T>
void gemm(int64_t rows, int64_t columns, int64_t inner, const MatrixView<T>& a, const MatrixView<T>& b,
          T beta, T* c, int64_t c_stride);

}  // namespace exactmamba::ops
