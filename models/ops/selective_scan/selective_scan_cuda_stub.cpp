// Stands in for the CUDA kernels in a build without them.
#include "models/ops/checks.h"
#include "models/ops/selective_scan/selective_scan_cuda.h"

namespace exactmamba::ops {

at::Tensor selective_scan_forward_cuda(const SelectiveScanInputs&, SelectiveScanSaved*, at::Tensor*) {
  refuse_cuda("selective_scan");
}
void selective_scan_backward_cuda(const SelectiveScanInputs&, const SelectiveScanSaved&, const at::Tensor&,
                                  const at::Tensor&, SelectiveScanGradients&) {
  refuse_cuda("selective_scan");
}

}  // namespace exactmamba::ops
