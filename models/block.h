// One block: r ← r + Mixer(RMSNorm(r)). The addition is left to the norm that follows, which does both in one
// pass.
#pragma once

#include <memory>

#include <ATen/core/Tensor.h>

#include "models/mixer.h"
#include "models/ops/rms_norm/rms_norm.h"

namespace exactmamba::models {

/// The residual stream with its last addition still open: it is r + scale·y. On a GPU r is float, y of the
/// compute dtype.
struct Stream {
  at::Tensor y;           // (B, L, d) the embedding, or the last mixer's output
  at::Tensor r;           // (B, L, d) the stream before it [nullable]
  at::Tensor scale = {};  // (B, L) of y's rows [nullable]
};

/// The norm of the stream, weight (d), which closes the addition: `residual_out` (B, L, d) is the stream.
ops::RmsNormOutputs norm_of(const Stream& stream, const at::Tensor& weight, double eps);

struct BlockSaved {
  ops::RmsNormSaved norm;
  MixerSaved mixer;

  /// Of all that is kept; what norm and mixer share counts once.
  int64_t bytes() const;
};

class Block {
 public:
  Block(const ModelConfig& config, ParameterStore& store, int64_t layer);

  void set_activation(const ConvActivation& activation) { mixer_->set_activation(activation); }
  LayerState initial_state(int64_t batch) const { return mixer_->initial_state(batch); }

  /// `saved`, `state`: as in Mixer::forward. Afterwards stream.r is what entered the block.
  void forward(Stream& stream, const at::Tensor& cu_seqlens, BlockSaved* saved = nullptr,
               LayerState* state = nullptr) const;
  /// Gradient of the stream behind the block, and of its y → of the stream before it.
  ops::RmsNormGradient backward(const ops::RmsNormGradient& grad_stream, BlockSaved& saved);
  /// One token: the stream is (B, d).
  void step(Stream& stream, LayerState& state) const;
  /// Of a forward pass over one row with Keep::kAll, which leaves no scale; `stream` as that pass left it.
  LayerTrace trace(const BlockSaved& saved, const Stream& stream) const;

 private:
  int64_t layer_;
  double eps_;
  ParameterScope parameters_;
  at::Tensor norm_weight_;
  std::unique_ptr<Mixer> mixer_;
};

}  // namespace exactmamba::models
