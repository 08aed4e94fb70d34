// Stands in for the CUDA kernels in a build without them.
#include "models/ops/checks.h"
#include "models/ops/rms_norm/rms_norm_cuda.h"

namespace exactmamba::ops {

RmsNormOutputs rms_norm_forward_cuda(const RmsNormInputs&) { refuse_cuda("rms_norm"); }
RmsNormGradient rms_norm_backward_cuda(const RmsNormSaved&, const at::Tensor&, const at::Tensor&,
                                       const at::Tensor&, at::Tensor&) {
  refuse_cuda("rms_norm");
}

}  // namespace exactmamba::ops
