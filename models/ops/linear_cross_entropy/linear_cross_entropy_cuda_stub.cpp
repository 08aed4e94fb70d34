// Stands in for the CUDA kernels in a build without them.
#include "models/ops/checks.h"
#include "models/ops/linear_cross_entropy/linear_cross_entropy_params.h"

namespace exactmamba::ops {

template <class T>
void cross_entropy_rows_cuda(const CrossEntropyRowsParams<T>&) {
  refuse_cuda("linear_cross_entropy");
}

template void cross_entropy_rows_cuda(const CrossEntropyRowsParams<float>&);
template void cross_entropy_rows_cuda(const CrossEntropyRowsParams<double>&);

}  // namespace exactmamba::ops
