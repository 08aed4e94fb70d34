// Stands in for the CUDA kernels in a build without them.
#include "models/ops/checks.h"
#include "models/ops/gated_rms_norm/gated_rms_norm_cuda.h"

namespace exactmamba::ops {

at::Tensor gated_rms_norm_forward_cuda(const GatedRmsNormInputs&, at::Tensor*) {
  refuse_cuda("gated_rms_norm");
}
void gated_rms_norm_backward_cuda(const GatedRmsNormInputs&, const at::Tensor&, const at::Tensor&,
                                  GatedRmsNormGradients&) {
  refuse_cuda("gated_rms_norm");
}

}  // namespace exactmamba::ops
