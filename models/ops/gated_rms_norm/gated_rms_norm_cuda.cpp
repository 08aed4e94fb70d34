#include "models/ops/gated_rms_norm/gated_rms_norm_cuda.h"

#include <ATen/ops/empty.h>

#include "models/ops/cuda/tensors.h"
#include "models/ops/gated_rms_norm/gated_rms_norm_cuda_params.h"

namespace exactmamba::ops {
namespace {

constexpr const char* kOp = "gated_rms_norm";

template <class T>
GatedRmsNormCudaParams<T> params_of(const GatedRmsNormInputs& in) {
  GatedRmsNormCudaParams<T> params;
  params.tokens = in.x.size(0) * in.x.size(1);
  params.channels = in.x.size(2);
  params.groups = in.groups;
  params.eps = static_cast<float>(in.eps);
  params.x = device_rows<const T>(in.x);
  params.z = device_rows<const T>(in.z);
  params.weight = device_data<const float>(in.weight);
  params.stream = stream_of(in.x);
  return params;
}

}  // namespace

at::Tensor gated_rms_norm_forward_cuda(const GatedRmsNormInputs& in, at::Tensor* rstd) {
  at::Tensor out = at::empty(in.x.sizes(), in.x.options());
  if (rstd) *rstd = empty_float(in.x, {in.x.size(0), in.x.size(1), in.groups});
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in);
    params.out = device_rows<T>(out);
    if (rstd) params.rstd = device_data<float>(*rstd);
    check_launch(kOp, launch_gated_rms_norm_forward(params));
  });
  return out;
}

void gated_rms_norm_backward_cuda(const GatedRmsNormInputs& in, const at::Tensor& rstd,
                                  const at::Tensor& grad_out, GatedRmsNormGradients& gradients) {
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in);
    params.saved_rstd = device_data<const float>(rstd);
    params.grad_out = device_rows<const T>(grad_out);
    params.grad_x = device_rows<T>(gradients.x);
    params.grad_z = device_rows<T>(gradients.z);
    params.out = device_rows<T>(gradients.out);
    params.grad_weight = device_data<float>(gradients.weight);
    const at::Tensor workspace = workspace_of(in.x, gated_rms_norm_backward_workspace(params));
    params.workspace = workspace.mutable_data_ptr();
    check_launch(kOp, launch_gated_rms_norm_backward(params));
  });
}

}  // namespace exactmamba::ops
