#include "models/ops/rms_norm/rms_norm_cuda.h"

#include <ATen/ops/empty_like.h>

#include "models/ops/cuda/tensors.h"
#include "models/ops/rms_norm/rms_norm_cuda_params.h"

namespace exactmamba::ops {
namespace {

constexpr const char* kRmsNorm = "rms_norm";

template <class T>
RmsNormCudaParams<T> cuda_params_of(const at::Tensor& rows, const at::Tensor& weight) {
  RmsNormCudaParams<T> params;
  params.size = weight.size(0);
  params.rows = params.size == 0 ? 0 : rows.numel() / params.size;
  set(params.weight, weight);
  params.stream = stream_of(rows);
  return params;
}

}  // namespace

RmsNormOutputs rms_norm_forward_cuda(const RmsNormInputs& in) {
  RmsNormOutputs outputs;
  outputs.out = at::empty_like(in.x);
  outputs.rstd = empty_float(in.x, in.x.sizes().slice(0, in.x.dim() - 1));
  outputs.scale = in.scale;
  const bool is_sum = !in.residual.defined() && !in.scale.defined() && in.x.scalar_type() == at::kFloat;
  outputs.residual_out = is_sum ? in.x : empty_float(in.x, in.x.sizes());
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    auto params = cuda_params_of<T>(in.x, in.weight);
    params.eps = static_cast<float>(in.eps);
    set(params.x, in.x);
    set(params.residual, in.residual);
    set(params.scale, in.scale);
    set(params.out, outputs.out);
    if (!is_sum) set(params.sum, outputs.residual_out);
    set(params.rstd, outputs.rstd);
    check_launch(kRmsNorm, launch_rms_norm_forward(params));
  });
  return outputs;
}

RmsNormGradient rms_norm_backward_cuda(const RmsNormSaved& saved, const at::Tensor& weight,
                                       const at::Tensor& grad_out, const at::Tensor& grad_residual_out,
                                       at::Tensor& grad_weight) {
  RmsNormGradient gradient;
  gradient.residual = empty_float(grad_out, grad_out.sizes());
  const bool shared = grad_out.scalar_type() == at::kFloat && !saved.scale.defined();
  gradient.x = shared ? gradient.residual : at::empty_like(grad_out);
  dispatch_cuda(grad_out.scalar_type(), [&]<class T>() {
    auto params = cuda_params_of<T>(grad_out, weight);
    set(params.normed, saved.rows);
    set(params.saved_rstd, saved.rstd);
    set(params.grad_out, grad_out);
    set(params.grad_residual_out, grad_residual_out);
    set(params.scale, saved.scale);
    set(params.grad_residual, gradient.residual);
    if (!shared) set(params.grad_x, gradient.x);
    set(params.grad_weight, grad_weight);
    const at::Tensor workspace = workspace_of(grad_out, rms_norm_backward_workspace(params));
    params.workspace = workspace.mutable_data_ptr();
    check_launch(kRmsNorm, launch_rms_norm_backward(params));
  });
  return gradient;
}

}  // namespace exactmamba::ops
