#include "models/ops/gemm.h"

#include <algorithm>

extern "C" {
void sgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k,
            const float* alpha, const float* a, const int* lda, const float* b, const int* ldb,
            const float* beta, float* c, const int* ldc);
void dgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k,
            const double* alpha, const double* a, const int* lda, const double* b, const int* ldb,
            const double* beta, double* c, const int* ldc);
}

namespace exactmamba::ops {
namespace {

inline constexpr auto kGemm = [](auto... arguments) {
  if constexpr (std::is_invocable_v<decltype(sgemm_), decltype(arguments)...>)
    sgemm_(arguments...);
  else
    dgemm_(arguments...);
};

}  // namespace

/// BLAS counts in columns: a row-major product a·b is its bᵀ·aᵀ.
template <class T>
void gemm(int64_t rows, int64_t columns, int64_t inner, const MatrixView<T>& a, const MatrixView<T>& b,
          T beta, T* c, int64_t c_stride) {
  const char of_a = a.transposed ? 'T' : 'N', of_b = b.transposed ? 'T' : 'N';
  const int m = static_cast<int>(columns), n = static_cast<int>(rows), k = static_cast<int>(inner);
  // A single row may carry any stride; BLAS insists on a plausible one.
  const int lda = std::max<int>(a.stride, a.transposed ? n : k),
            ldb = std::max<int>(b.stride, b.transposed ? k : m);
  const int ldc = std::max<int>(c_stride, m);
  const T alpha = 1;
  kGemm(&of_b, &of_a, &m, &n, &k, &alpha, b.data, &ldb, a.data, &lda, &beta, c, &ldc);
}

template void gemm(int64_t, int64_t, int64_t, const MatrixView<float>&, const MatrixView<float>&, float,
                   float*, int64_t);
template void gemm(int64_t, int64_t, int64_t, const MatrixView<double>&, const MatrixView<double>&, double,
                   double*, int64_t);

}  // namespace exactmamba::ops
