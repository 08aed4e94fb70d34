#include "models/ops/selective_scan/selective_scan_cuda.h"

#include <ATen/ops/empty.h>

#include "models/ops/cuda/tensors.h"
#include "models/ops/selective_scan/selective_scan_cuda_params.h"
#include "models/ops/selective_scan/selective_scan_fields.h"

namespace exactmamba::ops {
namespace {

template <class T>
SelectiveScanCudaParams<T> cuda_params_of(const SelectiveScanInputs& in, const at::Tensor& cu_seqlens) {
  SelectiveScanCudaParams<T> params;
  params.batch = in.u.size(0);
  params.length = in.u.size(1);
  set(params.cu_seqlens, cu_seqlens);
  params.sequence_count = sequence_count(cu_seqlens, in.u.size(0));
  set_inputs(params, in);
  params.A_is_log = in.A_log.defined();
  params.stream = stream_of(in.u);
  return params;
}

at::Tensor boundaries(const SelectiveScanInputs& in) {
  return cu_seqlens_on(in.u.device(), in.cu_seqlens, in.u.size(0), in.u.size(1));
}

/// Of the states that backward starts from.
std::vector<int64_t> chunk_state_shape(const SelectiveScanInputs& in) {
  return {in.u.size(0), (in.u.size(1) + kScanTile - 1) / kScanTile, in.u.size(2), given_A(in).size(1)};
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
    *last_state =
        empty_float(in.u, {sequence_count(cu_seqlens, in.u.size(0)), in.u.size(2), given_A(in).size(1)});
  dispatch_cuda(in.u.scalar_type(), [&]<class T>() {
    auto params = cuda_params_of<T>(in, cu_seqlens);
    set(params.out, out);
    if (saved) set(params.chunk_states, saved->chunk_states);
    if (last_state) set(params.last_state, *last_state);
    if (is_step(in, last_state) && !saved)
      return check_launch(kSelectiveScan, launch_selective_scan_step(params));
    const at::Tensor workspace = workspace_of(in.u, selective_scan_forward_workspace(params));
    params.workspace = workspace.mutable_data_ptr();
    check_launch(kSelectiveScan, launch_selective_scan_forward(params));
  });
  return out;
}

void selective_scan_backward_cuda(const SelectiveScanInputs& in, const SelectiveScanSaved& saved,
                                  const at::Tensor& grad_out, const at::Tensor& grad_last_state,
                                  SelectiveScanGradients& gradients) {
  OperatorChecks(kSelectiveScan, "u", in.u)
      .dense("saved.chunk_states", saved.chunk_states, chunk_state_shape(in));
  const at::Tensor cu_seqlens = boundaries(in);
  dispatch_cuda(in.u.scalar_type(), [&]<class T>() {
    auto params = cuda_params_of<T>(in, cu_seqlens);
    set_gradients(params, saved, grad_out, grad_last_state, gradients);
    const at::Tensor workspace = workspace_of(in.u, selective_scan_backward_workspace(params));
    params.workspace = workspace.mutable_data_ptr();
    check_launch(kSelectiveScan, launch_selective_scan_backward(params));
  });
}

}  // namespace exactmamba::ops
