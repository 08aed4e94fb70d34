// Mamba-1's mixer (Gu & Dao 2023): [x, z] = in_proj(û); u = φ(conv(x)); [δ, B, C] = x_proj(u); Δ =
// softplus(dt_proj(δ)); y = out_proj(selective_scan(u, Δ, A, B, C, D) ⊙ SiLU(z)).
#pragma once

#include "models/mixer.h"
#include "models/ops/selective_scan/selective_scan.h"

namespace exactmamba::models {

class Mamba1Mixer : public Mixer {
 public:
  Mamba1Mixer(const ModelConfig& config, const ParameterScope& parameters);
  LayerState initial_state(int64_t batch) const override;

 private:
  struct Weights {
    at::Tensor A_log, D, x_proj, dt_proj, dt_bias;
  };
  at::Tensor convolved_projection() const override { return scan_weights_.x_proj; }
  at::Tensor scan(MixerSaved& kept, bool keep, LayerState* state) const override;
  void scan_again(MixerSaved& saved) const override;
  ConvolvedGradient scan_backward(const at::Tensor& grad_output, MixerSaved& saved,
                                  const at::Tensor& grad_projected) override;
  at::Tensor scan_step(const at::Tensor& projected, const at::Tensor& convolved,
                       at::Tensor& ssm) const override;
  void trace_scan(const MixerSaved& saved, LayerTrace& trace) const override;

  Weights gradients() const;
  at::Tensor gate(const at::Tensor& projected) const;  // z
  /// The three parts of x_proj's output, as slices.
  at::Tensor dt_of(const at::Tensor& dt_B_C) const;
  at::Tensor B_of(const at::Tensor& dt_B_C) const;
  at::Tensor C_of(const at::Tensor& dt_B_C) const;
  ops::SelectiveScanInputs scan_inputs(const MixerSaved& kept) const;

  Weights scan_weights_;
};

}  // namespace exactmamba::models
