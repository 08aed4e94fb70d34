// Stands in for the CUDA kernels in a build without them.
#include "models/ops/checks.h"
#include "models/ops/gated_rms_norm/gated_rms_norm_params.h"

namespace exactmamba::ops {

template <class T>
void gated_rms_norm_forward_cuda(const GatedRmsNormParams<T>&) {
  refuse_cuda("gated_rms_norm");
}
template <class T>
void gated_rms_norm_backward_cuda(const GatedRmsNormParams<T>&) {
  refuse_cuda("gated_rms_norm");
}

template void gated_rms_norm_forward_cuda(const GatedRmsNormParams<float>&);
template void gated_rms_norm_forward_cuda(const GatedRmsNormParams<double>&);
template void gated_rms_norm_backward_cuda(const GatedRmsNormParams<float>&);
template void gated_rms_norm_backward_cuda(const GatedRmsNormParams<double>&);

}  // namespace exactmamba::ops
