#include "models/mamba1_mixer.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/zeros.h>

#include "models/linear.h"

namespace exactmamba::models {

Mamba1Mixer::Mamba1Mixer(const ModelConfig& config, const ParameterScope& parameters)
    : Mixer(config, parameters, 0),
      scan_weights_{parameters.value("A_log"), parameters.value("D"), parameters.compute("x_proj.weight"),
                    parameters.compute("dt_proj.weight"), parameters.value("dt_proj.bias")} {}

Mamba1Mixer::Weights Mamba1Mixer::gradients() const {
  return {parameters_.gradient("A_log"), parameters_.gradient("D"), parameters_.gradient("x_proj.weight"),
          parameters_.gradient("dt_proj.weight"), parameters_.gradient("dt_proj.bias")};
}

LayerState Mamba1Mixer::initial_state(int64_t batch) const {
  return {zero_conv_state(batch),
          at::zeros({batch, config_.d_inner(), config_.d_state}, scan_weights_.D.options())};
}

at::Tensor Mamba1Mixer::gate(const at::Tensor& projected) const {
  return projected.narrow(-1, config_.d_inner(), config_.d_inner());
}
at::Tensor Mamba1Mixer::dt_of(const at::Tensor& dt_B_C) const {
  return dt_B_C.narrow(-1, 0, config_.dt_rank);
}
at::Tensor Mamba1Mixer::B_of(const at::Tensor& dt_B_C) const {
  return dt_B_C.narrow(-1, config_.dt_rank, config_.d_state);
}
at::Tensor Mamba1Mixer::C_of(const at::Tensor& dt_B_C) const {
  return dt_B_C.narrow(-1, config_.dt_rank + config_.d_state, config_.d_state);
}

ops::SelectiveScanInputs Mamba1Mixer::scan_inputs(const MixerSaved& kept) const {
  ops::SelectiveScanInputs in;
  in.u = kept.convolved;
  in.delta = kept.delta;
  in.A_log = scan_weights_.A_log;
  in.B = B_of(kept.dt_B_C);
  in.C = C_of(kept.dt_B_C);
  in.D = scan_weights_.D;
  in.z = gate(kept.projected);
  in.delta_bias = scan_weights_.dt_bias;
  in.cu_seqlens = kept.cu_seqlens;
  return in;
}

at::Tensor Mamba1Mixer::scan(MixerSaved& kept, bool keep, LayerState* state) const {
  if (!kept.dt_B_C.defined()) kept.dt_B_C = linear(kept.convolved, scan_weights_.x_proj);
  kept.delta = linear(dt_of(kept.dt_B_C), scan_weights_.dt_proj);
  ops::SelectiveScanInputs in = scan_inputs(kept);
  if (state != nullptr) in.initial_state = state->ssm;
  ops::SelectiveScanSaved saved;
  at::Tensor last_state;
  at::Tensor out = ops::selective_scan_forward(in, keep ? &saved : nullptr, state ? &last_state : nullptr);
  kept.chunk_states = saved.chunk_states;
  if (state != nullptr) state->ssm = last_state;
  return out;
}

void Mamba1Mixer::scan_again(MixerSaved& saved) const {
  if (!saved.chunk_states.defined()) scan(saved, true, nullptr);
  if (!saved.delta.defined()) saved.delta = linear(dt_of(saved.dt_B_C), scan_weights_.dt_proj);
}

ConvolvedGradient Mamba1Mixer::scan_backward(const at::Tensor& grad_output, MixerSaved& saved,
                                             const at::Tensor& grad_projected) {
  const Weights gradient = gradients();
  at::Tensor grad_dt_B_C = at::empty_like(saved.dt_B_C);
  ops::SelectiveScanGradients grad;
  grad.u = at::empty_like(saved.convolved);
  grad.delta = conv_channels(grad_projected);  // until the convolution's gradient takes the place
  grad.B = B_of(grad_dt_B_C);
  grad.C = C_of(grad_dt_B_C);
  grad.z = gate(grad_projected);
  grad.A = gradient.A_log;
  grad.D = gradient.D;
  grad.delta_bias = gradient.dt_bias;
  if (!saved.inner.defined()) grad.out = saved.inner = at::empty_like(saved.convolved);
  const ops::SelectiveScanInputs in = scan_inputs(saved);
  ops::selective_scan_backward(in, {saved.chunk_states}, linear_input_gradient(grad_output, weights_.out), {},
                               grad);
  grad.out.reset();
  use_inner(grad_output, saved);

  add_linear_gradients(grad.delta, dt_of(saved.dt_B_C), gradient.dt_proj);
  at::Tensor grad_dt = as_rows(dt_of(grad_dt_B_C));
  at::mm_out(grad_dt, as_rows(grad.delta), scan_weights_.dt_proj);
  return {grad.u, {grad_dt_B_C, scan_weights_.x_proj, saved.convolved, gradient.x_proj}};
}

at::Tensor Mamba1Mixer::scan_step(const at::Tensor& projected, const at::Tensor& convolved,
                                  at::Tensor& ssm) const {
  MixerSaved token;
  token.projected = projected;
  token.convolved = convolved;
  token.dt_B_C = linear(convolved, scan_weights_.x_proj);
  token.delta = linear(dt_of(token.dt_B_C), scan_weights_.dt_proj);
  return ops::selective_scan_step(scan_inputs(token), ssm);
}

void Mamba1Mixer::trace_scan(const MixerSaved& saved, LayerTrace& trace) const {
  trace.z = only_row(gate(saved.projected));
  trace.delta = only_row(at::softplus(saved.delta.add(scan_weights_.dt_bias)));
  trace.B = only_row(B_of(saved.dt_B_C)).unsqueeze(1);
  trace.C = only_row(C_of(saved.dt_B_C)).unsqueeze(1);
  trace.A = A();
  trace.D = scan_weights_.D;
}

}  // namespace exactmamba::models
