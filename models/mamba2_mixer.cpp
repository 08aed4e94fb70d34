#include "models/mamba2_mixer.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "models/linear.h"

namespace exactmamba::models {

Mamba2Mixer::Mamba2Mixer(const ModelConfig& config, const ParameterScope& parameters)
    : Mixer(config, parameters, config.d_inner()),
      scan_weights_{parameters.value("A_log"), parameters.value("D"), parameters.value("dt_bias"),
                    parameters.value("norm.weight")} {}

Mamba2Mixer::Weights Mamba2Mixer::gradients() const {
  return {parameters_.gradient("A_log"), parameters_.gradient("D"), parameters_.gradient("dt_bias"),
          parameters_.gradient("norm.weight")};
}

LayerState Mamba2Mixer::initial_state(int64_t batch) const {
  return {zero_conv_state(batch),
          at::zeros({batch, config_.heads(), config_.headdim, config_.d_state}, scan_weights_.D.options())};
}

at::Tensor Mamba2Mixer::gate(const at::Tensor& projected) const {
  return projected.narrow(-1, 0, config_.d_inner());
}

at::Tensor Mamba2Mixer::raw_step(const at::Tensor& projected) const {
  return projected.narrow(-1, projected.size(-1) - config_.heads(), config_.heads());
}

Mamba2Mixer::Pieces Mamba2Mixer::pieces(const at::Tensor& convolved) const {
  const int64_t D = config_.d_inner(), GN = config_.ngroups * config_.d_state;
  return {convolved.narrow(-1, 0, D).unflatten(-1, {config_.heads(), config_.headdim}),
          convolved.narrow(-1, D, GN).unflatten(-1, {config_.ngroups, config_.d_state}),
          convolved.narrow(-1, D + GN, GN).unflatten(-1, {config_.ngroups, config_.d_state})};
}

ops::SsdInputs Mamba2Mixer::scan_inputs(const MixerSaved& kept) const {
  const Pieces cut = pieces(kept.convolved);
  ops::SsdInputs in;
  in.x = cut.x;
  in.dt = raw_step(kept.projected);
  in.A = kept.A;
  in.B = cut.B;
  in.C = cut.C;
  in.D = scan_weights_.D;
  in.dt_bias = scan_weights_.dt_bias;
  in.dt_min = config_.dt_limit[0];
  in.dt_max = config_.dt_limit[1];
  in.chunk_size = config_.chunk_size;
  in.cu_seqlens = kept.cu_seqlens;
  return in;
}

ops::GatedRmsNormInputs Mamba2Mixer::norm_inputs(const at::Tensor& scanned, const at::Tensor& projected,
                                                 bool scale_later) const {
  return {scanned, gate(projected), scan_weights_.norm, config_.ngroups, config_.norm_eps, scale_later};
}

at::Tensor Mamba2Mixer::gated_scan(MixerSaved& kept, bool keep_states) const {
  if (config_.ngroups != 1 || weights_.out_bias.defined()) return {};
  const ops::SsdInputs in = scan_inputs(kept);
  ops::SsdSaved saved;
  const at::Tensor inner = ops::ssd_gated_forward(in, norm_inputs({}, kept.projected, true),
                                                  keep_states ? &saved : nullptr, kept.rstd);
  kept.scale_later = inner.defined();
  kept.chunk_states = saved.chunk_states;
  return inner;
}

void Mamba2Mixer::run_ssd(MixerSaved& kept, bool keep, LayerState* state) const {
  ops::SsdInputs in = scan_inputs(kept);
  if (state != nullptr) in.initial_state = state->ssm;
  ops::SsdSaved saved;
  at::Tensor last_state;
  kept.scanned = ops::ssd_forward(in, keep ? &saved : nullptr, state ? &last_state : nullptr).flatten(-2);
  kept.chunk_states = saved.chunk_states;
  if (state != nullptr) state->ssm = last_state;
}

at::Tensor Mamba2Mixer::scan(MixerSaved& kept, bool keep, LayerState* state) const {
  kept.A = A();
  const bool keep_states = keep && kept.keep < Keep::kCostly;
  // The walk with its gate has no states at borders, and leaves no output between for a trace.
  if (state == nullptr && kept.keep > Keep::kAll)
    if (const at::Tensor inner = gated_scan(kept, keep_states); inner.defined()) return inner;
  run_ssd(kept, keep_states, state);
  return ops::gated_rms_norm_forward(norm_inputs(kept.scanned, kept.projected), &kept.rstd);
}

void Mamba2Mixer::scan_again(MixerSaved& saved) const {
  if (!saved.scanned.defined() && !saved.inner.defined()) run_ssd(saved, true, nullptr);
}

ConvolvedGradient Mamba2Mixer::scan_backward(const at::Tensor& grad_output, MixerSaved& saved,
                                             const at::Tensor& grad_projected) {
  const Weights gradient = gradients();
  at::Tensor grad_inner = linear_input_gradient(grad_output, weights_.out);
  // Gradients take the place of what they are made from.
  ops::GatedRmsNormGradients grad_norm{saved.scanned.defined() ? saved.scanned : grad_inner,
                                       gate(grad_projected), gradient.norm};
  if (!saved.inner.defined()) saved.inner = grad_norm.out = grad_inner;
  if (!saved.scanned.defined()) grad_norm.out = saved.inner;
  ops::gated_rms_norm_backward(norm_inputs(saved.scanned, saved.projected, saved.scale_later), saved.rstd,
                               grad_inner, grad_norm);
  grad_norm.out.reset();
  grad_inner.reset();  // grad_norm.x, or what use_inner() lets go
  use_inner(grad_output, saved);

  at::Tensor grad_convolved = at::empty_like(saved.convolved);
  const Pieces cut = pieces(grad_convolved);
  ops::SsdGradients grad;
  grad.x = cut.x;
  grad.dt = raw_step(grad_projected);
  grad.B = cut.B;
  grad.C = cut.C;
  grad.A = at::zeros_like(scan_weights_.A_log);
  grad.D = gradient.D;
  grad.dt_bias = gradient.dt_bias;
  const ops::SsdInputs in = scan_inputs(saved);
  ops::ssd_backward(in, {saved.chunk_states}, grad_norm.x.view_as(cut.x), {}, grad);
  at::Tensor(gradient.A_log).addcmul_(grad.A, in.A);  // A = −exp(A_log), so dA/dA_log = A
  return {grad_convolved, {}};
}

at::Tensor Mamba2Mixer::scan_step(const at::Tensor& projected, const at::Tensor& convolved,
                                  at::Tensor& ssm) const {
  MixerSaved token;
  token.projected = projected;
  token.convolved = convolved;
  token.A = A();
  const at::Tensor scanned = ops::ssd_step(scan_inputs(token), ssm).flatten(-2);
  const ops::GatedRmsNormInputs norm = norm_inputs(scanned.unsqueeze(1), projected.unsqueeze(1));
  return ops::gated_rms_norm_forward(norm).squeeze(1);
}

void Mamba2Mixer::trace_scan(const MixerSaved& saved, LayerTrace& trace) const {
  const ops::SsdInputs in = scan_inputs(saved);
  trace.z = only_row(gate(saved.projected));
  trace.delta = only_row(at::softplus(in.dt.add(in.dt_bias)).clamp(in.dt_min, in.dt_max));
  trace.B = only_row(in.B);
  trace.C = only_row(in.C);
  trace.rho = only_row(saved.rstd);
  trace.A = in.A;
  trace.D = in.D;
  trace.norm_weight = scan_weights_.norm;
}

}  // namespace exactmamba::models
