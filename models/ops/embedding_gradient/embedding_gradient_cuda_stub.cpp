// Stands in for the CUDA kernels in a build without them.
#include "models/ops/checks.h"
#include "models/ops/embedding_gradient/embedding_gradient_cuda.h"

namespace exactmamba::ops {

void add_embedding_gradient_cuda(const at::Tensor&, const at::Tensor&, at::Tensor&) {
  refuse_cuda("embedding_gradient");
}

}  // namespace exactmamba::ops
