#include "models/ops/ssd/ssd_cuda.h"

#include <algorithm>

#include <ATen/ops/empty.h>

#include "models/ops/cuda/tensors.h"
#include "models/ops/ssd/ssd_cuda_params.h"
#include "models/ops/ssd/ssd_fields.h"

namespace exactmamba::ops {
namespace {

/// `states_at_borders`: packed sequences begin or end with a state (or its gradient).
template <class T>
SsdCudaParams<T> cuda_params_of(const SsdInputs& in, const at::Tensor& cu_seqlens, bool states_at_borders) {
  SsdCudaParams<T> params;
  set_inputs(params, in);
  params.batch = in.x.size(0);
  params.length = in.x.size(1);
  set(params.cu_seqlens, cu_seqlens);
  params.sequence_count = sequence_count(cu_seqlens, in.x.size(0));
  params.border_states = cu_seqlens.defined() && (states_at_borders || in.initial_state.defined());
  set(params.initial_state, in.initial_state);
  params.stream = stream_of(in.x);
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
    set_inputs(params, in);
    params.batch = in.x.size(0);
    params.x_stride = in.x.stride(0);
    params.dt_stride = in.dt.stride(0);
    params.B_stride = in.B.stride(0);
    params.C_stride = in.C.stride(0);
    params.out_stride = out.stride(0);
    set(params.state, state);
    set(params.out, out);
    params.stream = stream_of(in.x);
    check_launch(kSsd, launch_ssd_step(params));
  });
  return out;
}

/// Behind all that says what `params` computes.
template <class T>
void run_forward(SsdCudaParams<T> params, const at::Tensor& x, SsdSaved* saved) {
  if (saved) {
    saved->chunk_states = at::empty({ssd_chunk_state_count(params)}, x.options());
    set(params.chunk_states, saved->chunk_states);
  }
  const at::Tensor workspace = workspace_of(x, ssd_forward_workspace(params));
  params.workspace = workspace.mutable_data_ptr();
  check_launch(kSsd, launch_ssd_forward(params));
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
    auto params = cuda_params_of<T>(in, cu_seqlens, last_state != nullptr);
    set(params.out, out);
    if (last_state) set(params.last_state, *last_state);
    run_forward(params, in.x, saved);
  });
  return out;
}

at::Tensor ssd_gated_forward_cuda(const SsdInputs& in, const GatedRmsNormInputs& norm, SsdSaved* saved,
                                  at::Tensor& rstd) {
  const at::Tensor cu_seqlens = boundaries(in);
  at::Tensor out;
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    auto params = cuda_params_of<T>(in, cu_seqlens, false);
    set(params.z, norm.z);
    set(params.gate_weight, norm.weight);
    params.eps = static_cast<float>(norm.eps);
    if (!ssd_takes_gate(params)) return;
    out = at::empty(norm.z.sizes(), norm.z.options());
    rstd = empty_float(in.x, {in.x.size(0), in.x.size(1), norm.groups});
    set(params.out, out);
    set(params.rstd, rstd);
    run_forward(params, in.x, saved);
  });
  return out;
}

void ssd_backward_cuda(const SsdInputs& in, const SsdSaved& saved, const at::Tensor& grad_out,
                       const at::Tensor& grad_last_state, SsdGradients& gradients) {
  const at::Tensor cu_seqlens = boundaries(in);
  dispatch_cuda(in.x.scalar_type(), [&]<class T>() {
    auto params =
        cuda_params_of<T>(in, cu_seqlens, grad_last_state.defined() || gradients.initial_state.defined());
    core::require(
        !saved.chunk_states.defined() || saved.chunk_states.numel() == ssd_chunk_state_count(params),
        "ssd: saved.chunk_states has {} values, but this backward pass needs {}; ask forward for the "
        "last state where backward gets its gradient",
        saved.chunk_states.numel(), ssd_chunk_state_count(params));
    set(params.chunk_states, saved.chunk_states);
    set_gradients(params, grad_out, grad_last_state, gradients);
    const at::Tensor workspace = workspace_of(in.x, ssd_backward_workspace(params));
    params.workspace = workspace.mutable_data_ptr();
    check_launch(kSsd, launch_ssd_backward(params));
  });
}

}  // namespace exactmamba::ops
