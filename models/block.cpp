#include "models/block.h"

#include <string>

namespace exactmamba::models {

int64_t BlockSaved::bytes() const {
  const at::Tensor& own = norm.x.defined() ? norm.x : norm.residual_out;
  return static_cast<int64_t>(own.nbytes()) + mixer.bytes();
}

Block::Block(const ModelConfig& config, ParameterStore& store, int64_t layer)
    : layer_(layer),
      eps_(config.norm_eps),
      parameters_(store, "backbone.layers." + std::to_string(layer) + "."),
      norm_weight_(parameters_.value("norm.weight")),
      mixer_(make_mixer(config, parameters_.below("mixer."))) {}

void Block::forward(Stream& stream, const at::Tensor& cu_seqlens, BlockSaved* saved,
                    LayerState* state) const {
  const ops::RmsNormOutputs norm = ops::rms_norm_forward({stream.y, stream.r, norm_weight_, eps_});
  if (saved != nullptr) saved->norm = kept_norm(stream, norm, saved->mixer.keep);
  stream.y = mixer_->forward(norm.out, cu_seqlens, saved ? &saved->mixer : nullptr, state);
  stream.r = norm.residual_out;
}

ops::RmsNormSaved Block::kept_norm(const Stream& stream, const ops::RmsNormOutputs& norm, Keep keep) const {
  if (keep == Keep::kAll || layer_ % 2 == 0) return {norm.residual_out, norm.rstd};
  return {stream.r, norm.rstd, stream.y};
}

ops::RmsNormGradient Block::backward(const ops::RmsNormGradient& grad_stream, BlockSaved& saved) {
  at::Tensor& input = saved.mixer.input;
  if (saved.mixer.keep == Keep::kBlockInput)
    input = ops::rms_norm_again(saved.norm, norm_weight_, eps_, grad_stream.x.scalar_type());
  const at::Tensor grad_norm = mixer_->backward(grad_stream.x, saved.mixer);
  at::Tensor grad_weight = parameters_.gradient("norm.weight");
  ops::RmsNormGradient grad =
      ops::rms_norm_backward(saved.norm, norm_weight_, grad_norm, grad_stream.residual, grad_weight,
                             input.defined() ? nullptr : &input);
  mixer_->finish_backward(saved.mixer);
  return grad;
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
  trace.r = only_row(saved.norm.residual_out);
  trace.y = only_row(stream.y);
  mixer_->trace(saved.mixer, trace);
  return trace;
}

}  // namespace exactmamba::models
