// Stands in for the CUDA kernel in a build without it.
#include "models/ops/checks.h"
#include "train/adamw_cuda.h"

namespace exactmamba::train {

void adamw_cuda(const AdamWBuffers&, const AdamWOptions&, int64_t, double, const at::Tensor&,
                const at::Tensor&) {
  ops::refuse_cuda("adamw");
}

}  // namespace exactmamba::train
