#include "models/ops/rms_norm/rms_norm.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "models/ops/checks.h"
#include "models/ops/rms_norm/rms_norm_cuda.h"
#include "models/ops/rms_norm/rms_norm_params.h"

namespace exactmamba::ops {
namespace {

/// Checks the (…, d) tensor of x's dtype that the others must fit. @return d
int64_t row_size(const OperatorChecks& checks, const char* name, const at::Tensor& rows) {
  core::require(rows.dim() >= 1, "rms_norm: {} has no dimensions, but (…, d) is expected", name);
  checks.dense(name, rows, rows.sizes());
  return rows.size(-1);
}

template <class T>
RmsNormParams<T> params_of(const at::Tensor& rows, const at::Tensor& weight) {
  RmsNormParams<T> params;
  params.size = weight.size(0);
  params.rows = rows.numel() / std::max<int64_t>(params.size, 1);
  set(params.weight, weight);
  return params;
}

void check_scale(const OperatorChecks& checks, const char* name, const at::Tensor& scale,
                 const at::Tensor& rows) {
  checks.wide_or_undefined(name, scale, rows.sizes().slice(0, rows.dim() - 1));
}

}  // namespace

RmsNormOutputs rms_norm_forward(const RmsNormInputs& in) {
  const OperatorChecks checks("rms_norm", "x", in.x);
  const int64_t size = row_size(checks, "x", in.x);
  checks.wide("weight", in.weight, {size});
  checks.wide_or_undefined("residual", in.residual, in.x.sizes());
  check_scale(checks, "scale", in.scale, in.x);
  if (in.x.is_cuda()) return rms_norm_forward_cuda(in);
  const bool is_sum = !in.residual.defined() && !in.scale.defined();
  RmsNormOutputs outputs;
  outputs.out = at::empty_like(in.x);
  outputs.residual_out = is_sum ? in.x : at::empty_like(in.x);
  outputs.rstd = at::empty(in.x.sizes().slice(0, in.x.dim() - 1), in.x.options());
  outputs.scale = in.scale;
  dispatch_floating(in.x.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in.x, in.weight);
    params.eps = in.eps;
    set(params.x, in.x);
    set(params.residual, in.residual);
    set(params.out, outputs.out);
    set(params.scale, in.scale);
    if (!is_sum) set(params.sum, outputs.residual_out);
    set(params.rstd, outputs.rstd);
    rms_norm_forward_cpu(params);
  });
  return outputs;
}

RmsNormSaved rms_norm_saved(const RmsNormOutputs& outputs) {
  return {outputs.out.is_cpu() ? outputs.residual_out : outputs.out, outputs.rstd, outputs.scale};
}

RmsNormGradient rms_norm_backward(const RmsNormSaved& saved, const at::Tensor& weight,
                                  const at::Tensor& grad_out, const at::Tensor& grad_residual_out,
                                  at::Tensor& grad_weight) {
  const OperatorChecks checks("rms_norm", "grad_out", grad_out);
  const int64_t size = row_size(checks, "grad_out", grad_out);
  checks.dense("saved.rows", saved.rows, grad_out.sizes());
  checks.wide("saved.rstd", saved.rstd, grad_out.sizes().slice(0, grad_out.dim() - 1));
  check_scale(checks, "saved.scale", saved.scale, grad_out);
  checks.wide("weight", weight, {size});
  checks.wide_or_undefined("grad_residual_out", grad_residual_out, grad_out.sizes());
  checks.wide_or_undefined("grad_weight", grad_weight, {size});
  if (grad_out.is_cuda())
    return rms_norm_backward_cuda(saved, weight, grad_out, grad_residual_out, grad_weight);
  const at::Tensor grad_residual = at::empty_like(grad_out),
                   grad_x = saved.scale.defined() ? at::empty_like(grad_out) : grad_residual;
  dispatch_floating(grad_out.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(grad_out, weight);
    set(params.residual_out, saved.rows);
    set(params.saved_rstd, saved.rstd);
    set(params.grad_out, grad_out);
    set(params.grad_residual_out, grad_residual_out);
    set(params.scale, saved.scale);
    set(params.grad_residual, grad_residual);
    if (saved.scale.defined()) set(params.grad_x, grad_x);
    set(params.grad_weight, grad_weight);
    rms_norm_backward_cpu(params);
  });
  return {grad_residual, grad_x};
}

}  // namespace exactmamba::ops
