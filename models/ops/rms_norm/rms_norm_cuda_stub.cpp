// Stands in for the CUDA kernels in a build without them.
#include "models/ops/checks.h"
#include "models/ops/rms_norm/rms_norm_params.h"

namespace exactmamba::ops {

template <class T>
void rms_norm_forward_cuda(const RmsNormParams<T>&) {
  refuse_cuda("rms_norm");
}
template <class T>
void rms_norm_backward_cuda(const RmsNormParams<T>&) {
  refuse_cuda("rms_norm");
}

template void rms_norm_forward_cuda(const RmsNormParams<float>&);
template void rms_norm_forward_cuda(const RmsNormParams<double>&);
template void rms_norm_backward_cuda(const RmsNormParams<float>&);
template void rms_norm_backward_cuda(const RmsNormParams<double>&);

}  // namespace exactmamba::ops
