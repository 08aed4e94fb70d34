// Stands in for the CUDA kernels in a build without them.
#include "models/ops/causal_conv1d/causal_conv1d_cuda.h"
#include "models/ops/checks.h"

namespace exactmamba::ops {

at::Tensor causal_conv1d_forward_cuda(const CausalConv1dInputs&, at::Tensor*) {
  refuse_cuda("causal_conv1d");
}
void causal_conv1d_backward_cuda(const CausalConv1dInputs&, const at::Tensor&, CausalConv1dGradients&,
                                 const CausalConv1dProjection*) {
  refuse_cuda("causal_conv1d");
}
bool causal_conv1d_forward_projected_cuda(const CausalConv1dInputs&, const at::Tensor&, at::Tensor&,
                                          const at::Tensor&) {
  refuse_cuda("causal_conv1d");
}
bool backward_projects_cuda(const CausalConv1dInputs&, const at::Tensor&, const CausalConv1dGradients&,
                            const CausalConv1dProjection&) {
  refuse_cuda("causal_conv1d");
}

}  // namespace exactmamba::ops
