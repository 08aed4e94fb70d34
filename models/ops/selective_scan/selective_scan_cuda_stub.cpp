// Stands in for the CUDA kernels in a build without them.
#include "models/ops/checks.h"
#include "models/ops/selective_scan/selective_scan_params.h"

namespace exactmamba::ops {

template <class T>
void selective_scan_forward_cuda(const SelectiveScanParams<T>&) {
  refuse_cuda("selective_scan");
}
template <class T>
void selective_scan_backward_cuda(const SelectiveScanParams<T>&) {
  refuse_cuda("selective_scan");
}

template void selective_scan_forward_cuda(const SelectiveScanParams<float>&);
template void selective_scan_forward_cuda(const SelectiveScanParams<double>&);
template void selective_scan_backward_cuda(const SelectiveScanParams<float>&);
template void selective_scan_backward_cuda(const SelectiveScanParams<double>&);

}  // namespace exactmamba::ops
