// Stands in for the CUDA kernels in a build without them.
#include "models/ops/checks.h"
#include "models/ops/ssd/ssd_cuda.h"

namespace exactmamba::ops {

at::Tensor ssd_forward_cuda(const SsdInputs&, SsdSaved*, at::Tensor*) { refuse_cuda("ssd"); }
at::Tensor ssd_gated_forward_cuda(const SsdInputs&, const GatedRmsNormInputs&, SsdSaved*, at::Tensor&) {
  refuse_cuda("ssd");
}
void ssd_backward_cuda(const SsdInputs&, const SsdSaved&, const at::Tensor&, const at::Tensor&,
                       SsdGradients&) {
  refuse_cuda("ssd");
}

}  // namespace exactmamba::ops
