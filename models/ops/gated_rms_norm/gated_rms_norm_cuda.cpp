#include "models/ops/gated_rms_norm/gated_rms_norm_cuda.h"

#include <ATen/ops/empty.h>

#include "models/ops/cuda/tensors.h"
#include "models/ops/gated_rms_norm/gated_rms_norm_cuda_params.h"
#include "models/ops/gated_rms_norm/gated_rms_norm_fields.h"

namespace exactmamba::ops {
namespace {

constexpr const char* kGatedRmsNorm = "gated_rms_norm";

template <class T>
GatedRmsNormCudaParams<T> cuda_params_of(const GatedRmsNormInputs& in) {
  GatedRmsNormCudaParams<T> params;
  set_inputs(params, in);
  params.stream = stream_of(in.z);
  return params;
}

}  // namespace

at::Tensor gated_rms_norm_forward_cuda(const GatedRmsNormInputs& in, at::Tensor* rstd) {
  at::Tensor out = at::empty(in.x.sizes(), in.x.options());
  if (rstd) *rstd = empty_float(in.x, {in.x.size(0), in.x.size(1), in.groups});
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    auto params = cuda_params_of<T>(in);
    set(params.out, out);
    if (rstd) set(params.rstd, *rstd);
    check_launch(kGatedRmsNorm, launch_gated_rms_norm_forward(params));
  });
  return out;
}

void gated_rms_norm_backward_cuda(const GatedRmsNormInputs& in, const at::Tensor& rstd,
                                  const at::Tensor& grad_out, GatedRmsNormGradients& gradients) {
  dispatch_cuda(in.z.scalar_type(), [&]<class T>() {
    auto params = cuda_params_of<T>(in);
    set_gradients(params, rstd, grad_out, gradients);
    if (!in.x.defined()) {
      set(params.normed, gradients.out);
      params.out = {};
    }
    const at::Tensor workspace = workspace_of(in.z, gated_rms_norm_backward_workspace(params));
    params.workspace = workspace.mutable_data_ptr();
    check_launch(kGatedRmsNorm, launch_gated_rms_norm_backward(params));
  });
}

}  // namespace exactmamba::ops
