// Stands in for the CUDA kernel in a build without it.
#include "models/ops/checks.h"
#include "models/ops/dropout/dropout_cuda.h"

namespace exactmamba::ops {

void dropout_cuda(const at::Tensor&, const DropoutDraws&, const at::Tensor&) { refuse_cuda("dropout"); }

}  // namespace exactmamba::ops
