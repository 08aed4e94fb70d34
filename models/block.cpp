#include "models/block.h"

#include <string>

namespace exactmamba::models {

Block::Block(const ModelConfig& config, ParameterStore& store, int64_t layer)
    : layer_(layer),
      eps_(config.norm_eps),
      parameters_(store, "backbone.layers." + std::to_string(layer) + "."),
      norm_weight_(parameters_.value("norm.weight")),
      mixer_(make_mixer(config, parameters_.below("mixer."))) {}

void Block::forward(Stream& stream, const at::Tensor& cu_seqlens, BlockSaved* saved,
                    LayerState* state) const {
  const ops::RmsNormOutputs norm = ops::rms_norm_forward({stream.y, stream.r, norm_weight_, eps_});
  stream.y = mixer_->forward(norm.out, cu_seqlens, saved ? &saved->mixer : nullptr, state);
  stream.r = norm.residual_out;
  if (saved == nullptr) return;
  saved->r = norm.residual_out;
  saved->rstd = norm.rstd;
}

ops::RmsNormGradient Block::backward(const ops::RmsNormGradient& grad_stream, BlockSaved& saved) {
  const at::Tensor grad_norm = mixer_->backward(grad_stream.x, saved.mixer);
  at::Tensor grad_weight = parameters_.gradient("norm.weight");
  return ops::rms_norm_backward(saved.r, saved.rstd, norm_weight_, grad_norm, grad_stream.residual,
                                grad_weight);
}

void Block::step(Stream& stream, LayerState& state) const {
  const ops::RmsNormOutputs norm = ops::rms_norm_forward({stream.y, stream.r, norm_weight_, eps_});
  stream.y = mixer_->step(norm.out, state);
  stream.r = norm.residual_out;
}

LayerTrace Block::trace(const BlockSaved& saved, const Stream& stream) const {
  LayerTrace trace;
  trace.layer = layer_;
  trace.cu_seqlens = saved.mixer.cu_seqlens;
  trace.r = only_row(saved.r);
  trace.y = only_row(stream.y);
  mixer_->trace(saved.mixer, trace);
  return trace;
}

}  // namespace exactmamba::models
