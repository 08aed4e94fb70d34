#include "models/block.h"

#include <string>

namespace exactmamba::models {

ops::RmsNormOutputs norm_of(const Stream& stream, const at::Tensor& weight, double eps) {
  return ops::rms_norm_forward({stream.y, stream.r, weight, eps, stream.scale});
}

int64_t BlockSaved::bytes() const {
  const bool shared = norm.rows.is_same(mixer.input);
  return mixer.bytes() + (shared ? 0 : static_cast<int64_t>(norm.rows.nbytes()));
}

Block::Block(const ModelConfig& config, ParameterStore& store, int64_t layer)
    : layer_(layer),
      eps_(config.norm_eps),
      parameters_(store, "backbone.layers." + std::to_string(layer) + "."),
      norm_weight_(parameters_.value("norm.weight")),
      mixer_(make_mixer(config, parameters_.below("mixer."))) {}

void Block::forward(Stream& stream, const at::Tensor& cu_seqlens, BlockSaved* saved,
                    LayerState* state) const {
  const ops::RmsNormOutputs norm = norm_of(stream, norm_weight_, eps_);
  if (saved != nullptr) saved->norm = ops::rms_norm_saved(norm);
  const MixerOutput mixed = mixer_->forward(norm.out, cu_seqlens, saved ? &saved->mixer : nullptr, state);
  stream = {mixed.y, norm.residual_out, mixed.scale};
}

ops::RmsNormGradient Block::backward(const ops::RmsNormGradient& grad_stream, BlockSaved& saved) {
  const at::Tensor grad_norm = mixer_->backward(grad_stream.x, saved.mixer);
  at::Tensor grad_weight = parameters_.gradient("norm.weight");
  return ops::rms_norm_backward(saved.norm, norm_weight_, grad_norm, grad_stream.residual, grad_weight);
}

void Block::step(Stream& stream, LayerState& state) const {
  const ops::RmsNormOutputs norm = norm_of(stream, norm_weight_, eps_);
  stream = {mixer_->step(norm.out, state), norm.residual_out, {}};
}

LayerTrace Block::trace(const BlockSaved& saved, const Stream& stream) const {
  LayerTrace trace;
  trace.layer = layer_;
  trace.cu_seqlens = saved.mixer.cu_seqlens;
  trace.r = only_row(stream.r);
  trace.y = only_row(stream.y);
  mixer_->trace(saved.mixer, trace);
  return trace;
}

}  // namespace exactmamba::models
