// Mamba-2's mixer (Dao & Gu 2024): [z, x, B, C, dt] = in_proj(û); [x, B, C] ← φ(conv([x, B, C]));
// y = out_proj(RMSNorm(ssd(x, dt, A, B, C, D) ⊙ SiLU(z))), the norm in groups of D/G channels.
#pragma once

#include "models/mixer.h"
#include "models/ops/gated_rms_norm/gated_rms_norm.h"
#include "models/ops/ssd/ssd.h"

namespace exactmamba::models {

class Mamba2Mixer : public Mixer {
 public:
  Mamba2Mixer(const ModelConfig& config, const ParameterScope& parameters);
  LayerState initial_state(int64_t batch) const override;

 private:
  struct Weights {
    at::Tensor A_log, D, dt_bias, norm;
  };
  /// in_proj's or the convolution's output cut into the operator's shapes; views of what is cut.
  struct Pieces {
    at::Tensor x, B, C;  // (…, H, P), (…, G, N), (…, G, N)
  };
  at::Tensor scan(MixerSaved& kept, bool keep, LayerState* state) const override;
  void scan_again(MixerSaved& saved) const override;
  ConvolvedGradient scan_backward(const at::Tensor& grad_output, MixerSaved& saved,
                                  const at::Tensor& grad_projected) override;
  at::Tensor scan_step(const at::Tensor& projected, const at::Tensor& convolved,
                       at::Tensor& ssm) const override;
  void trace_scan(const MixerSaved& saved, LayerTrace& trace) const override;

  Weights gradients() const;
  /// ssd's output, kept in kept.scanned.
  void run_ssd(MixerSaved& kept, bool keep, LayerState* state) const;
  at::Tensor gate(const at::Tensor& projected) const;      // z
  at::Tensor raw_step(const at::Tensor& projected) const;  // dt
  Pieces pieces(const at::Tensor& convolved) const;
  ops::SsdInputs scan_inputs(const MixerSaved& kept) const;
  ops::GatedRmsNormInputs norm_inputs(const at::Tensor& scanned, const at::Tensor& projected,
                                      bool scale_later = false) const;
  /// From scan and gate in one pass, where a kernel has it, to out_proj's input; else undefined. A row's
  /// scale commutes with out_proj only without bias, and with a single group.
  at::Tensor gated_scan(MixerSaved& kept, bool keep_states) const;

  Weights scan_weights_;
};

}  // namespace exactmamba::models
