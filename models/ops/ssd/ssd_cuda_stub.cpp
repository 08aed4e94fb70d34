// Stands in for the CUDA kernels in a build without them.
#include "models/ops/checks.h"
#include "models/ops/ssd/ssd_params.h"

namespace exactmamba::ops {

template <class T>
void ssd_forward_cuda(const SsdParams<T>&) {
  refuse_cuda("ssd");
}
template <class T>
void ssd_backward_cuda(const SsdParams<T>&) {
  refuse_cuda("ssd");
}

template void ssd_forward_cuda(const SsdParams<float>&);
template void ssd_forward_cuda(const SsdParams<double>&);
template void ssd_backward_cuda(const SsdParams<float>&);
template void ssd_backward_cuda(const SsdParams<double>&);

}  // namespace exactmamba::ops
