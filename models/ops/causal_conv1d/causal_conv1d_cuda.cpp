#include "models/ops/causal_conv1d/causal_conv1d_cuda.h"

#include <ATen/ops/empty.h>

#include "models/ops/causal_conv1d/causal_conv1d_cuda_params.h"
#include "models/ops/causal_conv1d/causal_conv1d_fields.h"
#include "models/ops/cuda/tensors.h"

namespace exactmamba::ops {
namespace {

template <class T>
CausalConv1dCudaParams<T> cuda_params_of(const CausalConv1dInputs& in, const at::Tensor& cu_seqlens) {
  core::require(in.weight.size(1) <= kMaxConvWidth, "causal_conv1d: {} taps, but a GPU knows at most {}",
                in.weight.size(1), kMaxConvWidth);
  CausalConv1dCudaParams<T> params;
  set_inputs(params, in);
  set(params.cu_seqlens, cu_seqlens);
  params.sequence_count = sequence_count(cu_seqlens, in.x.size(0));
  params.stream = stream_of(in.x);
  return params;
}

template <class T>
void set_projection(CausalConv1dCudaParams<T>& params, const CausalConv1dProjection& projection) {
  params.projected_columns = projection.weight.size(0);
  set(params.grad_projected, projection.grad);
  set(params.projection, projection.weight);
  set(params.grad_projection, projection.grad_weight);
}

at::Tensor boundaries(const CausalConv1dInputs& in) {
  return cu_seqlens_on(in.x.device(), in.cu_seqlens, in.x.size(0), in.x.size(1));
}

/// One token of every sequence; the state is shifted where it is.
at::Tensor step(const CausalConv1dInputs& in, at::Tensor& state) {
  at::Tensor out = at::empty(in.x.sizes(), in.x.options());
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    CausalConv1dStepCudaParams<T> params;
    params.batch = in.x.size(0);
    params.channels = in.x.size(2);
    params.width = in.weight.size(1);
    params.activation = in.activation;
    set(params.x, in.x);
    params.x_stride = in.x.stride(0);
    set(params.weight, in.weight);
    set(params.bias, in.bias);
    set(params.state, state);
    set(params.out, out);
    params.out_stride = out.stride(0);
    params.stream = stream_of(in.x);
    check_launch(kCausalConv1d, launch_causal_conv1d_step(params));
  });
  return out;
}

}  // namespace

at::Tensor causal_conv1d_forward_cuda(const CausalConv1dInputs& in, at::Tensor* final_states) {
  const bool in_place = final_states && final_states->defined() && final_states->is_same(in.initial_states);
  if (in_place && in.x.size(1) == 1) return step(in, *final_states);
  at::Tensor out = at::empty(in.x.sizes(), in.x.options());
  const at::Tensor cu_seqlens = boundaries(in);
  const int64_t sequences = sequence_count(cu_seqlens, in.x.size(0));
  at::Tensor last;
  if (final_states) last = empty_float(in.x, {sequences, in.x.size(2), in.weight.size(1) - 1});
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    auto params = cuda_params_of<T>(in, cu_seqlens);
    set(params.out, out);
    set(params.final_states, last);
    check_launch(kCausalConv1d, launch_causal_conv1d_forward(params));
  });
  if (in_place)
    final_states->copy_(last);
  else if (final_states)
    *final_states = last;
  return out;
}

bool causal_conv1d_forward_projected_cuda(const CausalConv1dInputs& in, const at::Tensor& weight,
                                          at::Tensor& out, const at::Tensor& projected) {
  const at::Tensor made = at::empty(in.x.sizes(), in.x.options()), cu_seqlens = boundaries(in);
  bool projects = false;
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    auto params = cuda_params_of<T>(in, cu_seqlens);
    set(params.out, made);
    params.projected_columns = weight.size(0);
    set(params.projection, weight);
    set(params.projected, projected);
    projects = causal_conv1d_forward_projects(params);
    if (projects) check_launch(kCausalConv1d, launch_causal_conv1d_forward(params));
  });
  if (projects) out = made;
  return projects;
}

bool backward_projects_cuda(const CausalConv1dInputs& in, const at::Tensor& grad_out,
                            const CausalConv1dGradients& gradients,
                            const CausalConv1dProjection& projection) {
  bool projects = false;
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    auto params = cuda_params_of<T>(in, {});
    set_gradients(params, grad_out, gradients);
    set_projection(params, projection);
    projects = causal_conv1d_backward_projects(params);
  });
  return projects;
}

void causal_conv1d_backward_cuda(const CausalConv1dInputs& in, const at::Tensor& grad_out,
                                 CausalConv1dGradients& gradients, const CausalConv1dProjection* projection) {
  const at::Tensor cu_seqlens = boundaries(in);
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    auto params = cuda_params_of<T>(in, cu_seqlens);
    set_gradients(params, grad_out, gradients);
    if (projection) set_projection(params, *projection);
    const at::Tensor workspace = workspace_of(in.x, causal_conv1d_backward_workspace(params));
    params.workspace = workspace.mutable_data_ptr();
    check_launch(kCausalConv1d, launch_causal_conv1d_backward(params));
  });
}

}  // namespace exactmamba::ops
