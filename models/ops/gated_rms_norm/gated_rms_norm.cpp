#include "models/ops/gated_rms_norm/gated_rms_norm.h"

#include <ATen/ops/empty.h>

#include "models/ops/checks.h"
#include "models/ops/gated_rms_norm/gated_rms_norm_cuda.h"
#include "models/ops/gated_rms_norm/gated_rms_norm_fields.h"
#include "models/ops/gated_rms_norm/gated_rms_norm_params.h"

namespace exactmamba::ops {
namespace {

void check_inputs(const OperatorChecks& checks, const GatedRmsNormInputs& in) {
  checks.dimensions("x", in.x, 3, "(B, L, D)");
  const int64_t channels = in.x.size(2);
  checks.rows("x", in.x, in.x.sizes());
  checks.rows("z", in.z, in.x.sizes());
  checks.wide("weight", in.weight, {channels});
  core::require(in.groups >= 1 && channels % in.groups == 0,
                "gated_rms_norm: {} channels do not divide into {} groups", channels, in.groups);
}

template <class T>
GatedRmsNormParams<T> params_of(const GatedRmsNormInputs& in) {
  GatedRmsNormParams<T> params;
  set_inputs(params, in);
  return params;
}

}  // namespace

at::Tensor gated_rms_norm_forward(const GatedRmsNormInputs& in, at::Tensor* rstd) {
  check_inputs({"gated_rms_norm", "x", in.x}, in);
  if (in.x.is_cuda()) return gated_rms_norm_forward_cuda(in, rstd);
  at::Tensor out = at::empty(in.x.sizes(), in.x.options());
  if (rstd) *rstd = at::empty({in.x.size(0), in.x.size(1), in.groups}, in.x.options());
  dispatch_floating(in.x.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in);
    set(params.out, out);
    if (rstd) set(params.rstd, *rstd);
    gated_rms_norm_forward_cpu(params);
  });
  return out;
}

void gated_rms_norm_backward(const GatedRmsNormInputs& in, const at::Tensor& rstd, const at::Tensor& grad_out,
                             GatedRmsNormGradients& gradients) {
  const bool from_out = in.z.is_cuda() && !in.x.defined();
  const at::Tensor& x = from_out ? gradients.out : in.x;
  const OperatorChecks checks("gated_rms_norm", from_out ? "gradients.out" : "x", x);
  check_inputs(checks, {x, in.z, in.weight, in.groups, in.eps, in.scale_later});
  checks.wide("rstd", rstd, {x.size(0), x.size(1), in.groups});
  checks.rows("grad_out", grad_out, x.sizes());
  checks.rows_or_undefined("gradients.x", gradients.x, x.sizes());
  checks.rows_or_undefined("gradients.z", gradients.z, x.sizes());
  checks.wide_or_undefined("gradients.weight", gradients.weight, in.weight.sizes());
  checks.rows_or_undefined("gradients.out", gradients.out, x.sizes());
  if (x.is_cuda()) return gated_rms_norm_backward_cuda(in, rstd, grad_out, gradients);
  dispatch_floating(in.x.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in);
    set_gradients(params, rstd, grad_out, gradients);
    gated_rms_norm_backward_cpu(params);
  });
}

}  // namespace exactmamba::ops
