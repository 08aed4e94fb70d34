#include "models/ops/selective_scan/selective_scan_cuda.h"

#include <ATen/ops/empty.h>

#include "models/ops/cuda/tensors.h"
#include "models/ops/selective_scan/selective_scan_cuda_params.h"

namespace exactmamba::ops {
namespace {

constexpr const char* kOp = "selective_scan";

template <class T>
SelectiveScanCudaParams<T> params_of(const SelectiveScanInputs& in, const at::Tensor& cu_seqlens) {
  SelectiveScanCudaParams<T> params;
  params.batch = in.u.size(0);
  params.length = in.u.size(1);
  params.channels = in.u.size(2);
  params.states = in.A.size(1);
  params.groups = in.B.dim() == 4 ? in.B.size(2) : 1;
  params.delta_softplus = in.delta_softplus;
  params.cu_seqlens = device_data<const int32_t>(cu_seqlens);
  params.sequence_count = sequence_count(cu_seqlens, in.u.size(0));
  params.u = device_rows<const T>(in.u);
  params.delta = device_rows<const T>(in.delta);
  params.z = device_rows<const T>(in.z);
  params.B = device_rows<const T>(in.B);
  params.C = device_rows<const T>(in.C);
  params.A = device_data<const float>(in.A);
  params.D = device_data<const float>(in.D);
  params.delta_bias = device_data<const float>(in.delta_bias);
  params.initial_state = device_data<const float>(in.initial_state);
  params.stream = stream_of(in.u);
  return params;
}

at::Tensor boundaries(const SelectiveScanInputs& in) {
  return cu_seqlens_on(in.u.device(), in.cu_seqlens, in.u.size(0), in.u.size(1));
}

/// Of the states that backward starts from.
std::vector<int64_t> chunk_state_shape(const SelectiveScanInputs& in) {
  return {in.u.size(0), (in.u.size(1) + kScanTile - 1) / kScanTile, in.u.size(2), in.A.size(1)};
}

bool is_step(const SelectiveScanInputs& in, const at::Tensor* last_state) {
  return in.u.size(1) == 1 && !in.cu_seqlens.defined() && in.initial_state.defined() && last_state;
}

}  // namespace

at::Tensor selective_scan_forward_cuda(const SelectiveScanInputs& in, SelectiveScanSaved* saved,
                                       at::Tensor* last_state) {
  const at::Tensor cu_seqlens = boundaries(in);
  at::Tensor out = at::empty(in.u.sizes(), in.u.options());
  if (saved) saved->chunk_states = at::empty(chunk_state_shape(in), in.u.options());
  if (last_state && !last_state->defined())
    *last_state = empty_float(in.u, {sequence_count(cu_seqlens, in.u.size(0)), in.u.size(2), in.A.size(1)});
  dispatch_cuda(in.u.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in, cu_seqlens);
    params.out = device_rows<T>(out);
    if (saved) params.chunk_states = device_data<T>(saved->chunk_states);
    if (last_state) params.last_state = device_data<float>(*last_state);
    if (is_step(in, last_state) && !saved) return check_launch(kOp, launch_selective_scan_step(params));
    const at::Tensor workspace = workspace_of(in.u, selective_scan_forward_workspace(params));
    params.workspace = workspace.mutable_data_ptr();
    check_launch(kOp, launch_selective_scan_forward(params));
  });
  return out;
}

void selective_scan_backward_cuda(const SelectiveScanInputs& in, const SelectiveScanSaved& saved,
                                  const at::Tensor& grad_out, const at::Tensor& grad_last_state,
                                  SelectiveScanGradients& gradients) {
  OperatorChecks(kOp, "u", in.u).dense("saved.chunk_states", saved.chunk_states, chunk_state_shape(in));
  const at::Tensor cu_seqlens = boundaries(in);
  dispatch_cuda(in.u.scalar_type(), [&]<class T>() {
    auto params = params_of<T>(in, cu_seqlens);
    params.saved_states = device_data<const T>(saved.chunk_states);
    params.grad_out = device_rows<const T>(grad_out);
    params.grad_last_state = device_data<const float>(grad_last_state);
    params.grad_u = device_rows<T>(gradients.u);
    params.grad_delta = device_rows<T>(gradients.delta);
    params.grad_B = device_rows<T>(gradients.B);
    params.grad_C = device_rows<T>(gradients.C);
    params.grad_z = device_rows<T>(gradients.z);
    params.out = device_rows<T>(gradients.out);
    params.grad_A = device_data<float>(gradients.A);
    params.grad_D = device_data<float>(gradients.D);
    params.grad_delta_bias = device_data<float>(gradients.delta_bias);
    const at::Tensor workspace = workspace_of(in.u, selective_scan_backward_workspace(params));
    params.workspace = workspace.mutable_data_ptr();
    check_launch(kOp, launch_selective_scan_backward(params));
  });
}

}  // namespace exactmamba::ops
