// Stands in for the CUDA kernels in a build without them.
#include "models/ops/causal_conv1d/causal_conv1d_params.h"
#include "models/ops/checks.h"

namespace exactmamba::ops {

template <class T>
void causal_conv1d_forward_cuda(const CausalConv1dParams<T>&) {
  refuse_cuda("causal_conv1d");
}
template <class T>
void causal_conv1d_backward_cuda(const CausalConv1dParams<T>&) {
  refuse_cuda("causal_conv1d");
}

template void causal_conv1d_forward_cuda(const CausalConv1dParams<float>&);
template void causal_conv1d_forward_cuda(const CausalConv1dParams<double>&);
template void causal_conv1d_backward_cuda(const CausalConv1dParams<float>&);
template void causal_conv1d_backward_cuda(const CausalConv1dParams<double>&);

}  // namespace exactmamba::ops
