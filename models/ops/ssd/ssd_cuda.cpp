#include "models/ops/ssd/ssd_cuda.h"

#include <algorithm>

#include <ATen/ops/empty.h>

#include "models/ops/cuda/tensors.h"
#include "models/ops/ssd/ssd_cuda_params.h"

namespace exactmamba::ops {
namespace {

constexpr const char* kOp = "ssd";

/// What one token and whole sequences have in common.
template <class Params>
void set_common(Params& params, const SsdInputs& in) {
  params.batch = in.x.size(0);
  params.heads = in.x.size(2);
  params.head_size = in.x.size(3);
  params.groups = in.B.size(2);
  params.states = in.B.size(3);
  params.dt_min = static_cast<float>(in.dt_min);
  params.dt_max = static_cast<float>(in.dt_max);
  params.A = device_data<const float>(in.A);
  params.D = device_data<const float>(in.D);
  params.dt_bias = device_data<const float>(in.dt_bias);
  params.stream = stream_of(in.x);
}

/// `states_at_borders`: packed sequences begin or end with a state (or its gradient).
template <class T>
SsdCudaParams<T> params_of(const SsdInputs& in, const at::Tensor& cu_seqlens, bool states_at_borders) {
  SsdCudaParams<T> params;
  set_common(params, in);
  params.length = in.x.size(1);
  params.cu_seqlens = device_data<const int32_t>(cu_seqlens);
  params.sequence_count = sequence_count(cu_seqlens, in.x.size(0));
  params.border_states = cu_seqlens.defined() && (states_at_borders || in.initial_state.defined());
  params.x = device_rows<const T>(in.x);
  params.dt = device_rows<const T>(in.dt);
  params.B = device_rows<const T>(in.B);
  params.C = device_rows<const T>(in.C);
  params.initial_state = device_data<const float>(in.initial_state);
  return params;
}

at::Tensor boundaries(const SsdInputs& in) {
  return cu_seqlens_on(in.x.device(), in.cu_seqlens, in.x.size(0), in.x.size(1));
}

/// One token a row; the state is updated where it is.
at::Tensor step(const SsdInputs& in, at::Tensor& state) {
  at::Tensor out = at::empty(in.x.sizes(), in.x.options());
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    SsdStepParams<T, float> params;
    set_common(params, in);
    params.x = device_data<const T>(in.x);
    params.dt = device_data<const T>(in.dt);
    params.B = device_data<const T>(in.B);
    params.C = device_data<const T>(in.C);
    params.x_stride = in.x.stride(0);
    params.dt_stride = in.dt.stride(0);
    params.B_stride = in.B.stride(0);
    params.C_stride = in.C.stride(0);
    params.out_stride = out.stride(0);
    params.state = device_data<float>(state);
    params.out = device_data<T>(out);
    check_launch(kOp, launch_ssd_step(params));
  });
  return out;
}

}  // namespace

at::Tensor ssd_forward_cuda(const SsdInputs& in, SsdSaved* saved, at::Tensor* last_state) {
  const bool in_place = last_state && last_state->defined() && last_state->is_same(in.initial_state);
  if (in_place && in.x.size(1) == 1 && !in.cu_seqlens.defined()) return step(in, *last_state);
  const at::Tensor cu_seqlens = boundaries(in);
  at::Tensor out = at::empty(in.x.sizes(), in.x.options());
  if (last_state && !last_state->defined())
    *last_state = empty_float(
        in.x, {sequence_count(cu_seqlens, in.x.size(0)), in.x.size(2), in.x.size(3), in.B.size(3)});
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in, cu_seqlens, last_state != nullptr);
    params.out = device_rows<T>(out);
    if (last_state) params.last_state = device_data<float>(*last_state);
    if (saved) {
      saved->chunk_states = at::empty({ssd_chunk_state_count(params)}, in.x.options());
      params.chunk_states = device_data<T>(saved->chunk_states);
    }
    const at::Tensor workspace = workspace_of(in.x, ssd_forward_workspace(params));
    params.workspace = workspace.mutable_data_ptr();
    check_launch(kOp, launch_ssd_forward(params));
  });
  return out;
}

void ssd_backward_cuda(const SsdInputs& in, const SsdSaved& saved, const at::Tensor& grad_out,
                       const at::Tensor& grad_last_state, SsdGradients& gradients) {
  const at::Tensor cu_seqlens = boundaries(in);
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    auto params =
        params_of<T>(in, cu_seqlens, grad_last_state.defined() || gradients.initial_state.defined());
    core::require(
        saved.chunk_states.numel() == ssd_chunk_state_count(params),
        "ssd: saved.chunk_states has {} values, but this backward pass needs {}; ask forward for the "
        "last state where backward gets its gradient",
        saved.chunk_states.numel(), ssd_chunk_state_count(params));
    params.chunk_states = device_data<T>(saved.chunk_states);
    params.grad_out = device_rows<const T>(grad_out);
    params.grad_last_state = device_data<const float>(grad_last_state);
    params.grad_x = device_rows<T>(gradients.x);
    params.grad_dt = device_rows<T>(gradients.dt);
    params.grad_B = device_rows<T>(gradients.B);
    params.grad_C = device_rows<T>(gradients.C);
    params.grad_initial_state = device_data<float>(gradients.initial_state);
    params.grad_A = device_data<float>(gradients.A);
    params.grad_D = device_data<float>(gradients.D);
    params.grad_dt_bias = device_data<float>(gradients.dt_bias);
    const at::Tensor workspace = workspace_of(in.x, ssd_backward_workspace(params));
    params.workspace = workspace.mutable_data_ptr();
    check_launch(kOp, launch_ssd_backward(params));
  });
}

}  // namespace exactmamba::ops
