// What Mamba-1 and Mamba-2 share: in_proj → causal convolution over some of its channels → a scan with its
// gate → out_proj. Gradients are explicit: forward keeps what backward needs, backward adds weight gradients
// straight into the store's flat buffers. Letters: design/maths §1. Tensors are (B, L, channels).
#pragma once

#include <memory>

#include <ATen/core/Tensor.h>

#include "models/config.h"
#include "models/layer_trace.h"
#include "models/ops/causal_conv1d/causal_conv1d.h"
#include "models/parameter_store.h"

namespace exactmamba::models {

/// One layer's part of `State`: handles of the same tensors, updated in place.
struct LayerState {
  at::Tensor conv;  // (S, C, W-1)
  at::Tensor ssm;   // (S, D, N) Mamba-1, (S, H, P, N) Mamba-2
};

/// What forward leaves for backward, which computes the rest again. Each level also lets go what saves less
/// time a byte than what it still keeps (docs/kernels.md has the times). A trace needs all.
enum class Keep {
  kAll,         // Mamba-2's scan and gate are two passes, for the output between
  kMost,        // not Mamba-2's input of out_proj, on a GPU not the scan's output, which is divided out of it
  kDelta,       // nor Mamba-1's, which the scan's backward pass makes with little more work
  kConvolved,   // nor Δ, a product of a few columns
  kCostly,      // nor the convolution's output, one pass over memory, nor Mamba-2's states, two
  kProjected,   // nor what the scan made, which runs again
  kMixerInput,  // nor in_proj's output: everything in the mixer runs again
  kBlockInput,  // what enters every eighth block: all blocks run again, their mixers twice
};

/// What backward and the trace need of one forward pass. What is undefined backward computes again.
struct MixerSaved {
  Keep keep = Keep::kAll;  // set before forward
  at::Tensor place;        // where forward puts `projected`, memory that does not count [nullable]
  at::Tensor cu_seqlens;
  at::Tensor input;          // (B, L, d) û
  at::Tensor projected;      // (B, L, rows) in_proj's output
  at::Tensor convolved;      // (B, L, C) after φ
  at::Tensor chunk_states;   // as the scan left them
  at::Tensor inner;          // (B, L, D) out_proj's input
  at::Tensor dt_B_C;         // Mamba-1: (B, L, R + 2N) x_proj's output
  at::Tensor delta;          // Mamba-1: (B, L, D) before bias and softplus
  at::Tensor A;              // Mamba-2: (H) −exp(A_log)
  at::Tensor scanned;        // Mamba-2: (B, L, D) υ
  at::Tensor rstd;           // Mamba-2: (B, L, G) of the gated norm
  bool scale_later = false;  // Mamba-2: `inner` lacks rstd, which is MixerOutput::scale

  /// Forgets what `at_most` does not keep. @return bytes
  int64_t drop(Keep at_most);
  int64_t bytes() const;
};

struct MixerOutput {
  at::Tensor y;      // (B, L, d)
  at::Tensor scale;  // (B, L), which y's rows are still to be multiplied by [nullable]
};

/// The gradient of what the convolution returned.
struct ConvolvedGradient {
  at::Tensor grad;                         // (B, L, C), without what comes through
  ops::CausalConv1dProjection projection;  // Mamba-1's x_proj [nullable: without grad]
};

class Mixer {
 public:
  virtual ~Mixer() = default;

  void set_activation(const ConvActivation& activation) { activation_ = activation; }

  /// û (B, L, d) → y (B, L, d) and its scale. `saved` [nullable]: filled for backward or trace. `state`
  /// [nullable]: the sequences continue from it and leave in it what follows their last token.
  MixerOutput forward(const at::Tensor& input, const at::Tensor& cu_seqlens, MixerSaved* saved,
                      LayerState* state) const;
  /// Gradient of y as forward left it → gradient of û; parameter gradients are added to the store's.
  at::Tensor backward(const at::Tensor& grad_output, MixerSaved& saved);
  /// One token: (B, d) → (B, d).
  at::Tensor step(const at::Tensor& input, LayerState& state) const;
  /// Fills the fields of a trace that belong to the mixer, for one row.
  void trace(const MixerSaved& saved, LayerTrace& trace) const;
  virtual LayerState initial_state(int64_t batch) const = 0;

 protected:
  /// The convolution reads channels [conv_begin, conv_begin + C) of in_proj's output.
  Mixer(const ModelConfig& config, ParameterScope parameters, int64_t conv_begin);

  /// From `projected` and `convolved` to out_proj's input; fills the other fields of `kept`. `keep`: chunk
  /// states are wanted too, if kept.keep has any.
  virtual at::Tensor scan(MixerSaved& kept, bool keep, LayerState* state) const = 0;
  /// What makes `dt_B_C` of `convolved`, in the same pass where it can [nullable].
  virtual at::Tensor convolved_projection() const { return {}; }
  /// Restores what scan() made, as far as it is undefined and scan_backward() does not make it on the way.
  virtual void scan_again(MixerSaved& saved) const = 0;
  /// Gradient of out_proj's output → of `convolved` (returned; what of it comes through a projection is left
  /// to the convolution's backward pass) and of the other channels of `grad_projected`,
  /// whose channels of the convolution may be used on the way. May write into all of `saved`; calls
  /// use_inner() as soon as saved.inner is there.
  virtual ConvolvedGradient scan_backward(const at::Tensor& grad_output, MixerSaved& saved,
                                          const at::Tensor& grad_projected) = 0;
  /// Adds out_proj's gradients, after which saved.inner goes.
  void use_inner(const at::Tensor& grad_output, MixerSaved& saved);
  virtual at::Tensor scan_step(const at::Tensor& projected, const at::Tensor& convolved,
                               at::Tensor& ssm) const = 0;
  virtual void trace_scan(const MixerSaved& saved, LayerTrace& trace) const = 0;

  at::Tensor zero_conv_state(int64_t batch) const;
  at::Tensor A() const;

  /// Parameters, or their gradients under the same names.
  struct Projections {
    at::Tensor in, in_bias, conv, conv_bias, out, out_bias;  // conv (C, W); biases [nullable]
  };
  at::Tensor conv_channels(const at::Tensor& projected) const;
  ModelConfig config_;
  ParameterScope parameters_;
  Projections weights_;

 private:
  Projections gradients() const;
  /// @return `convolved`; also makes `dt_B_C` where there is one, it is not there and no state goes on
  at::Tensor convolve(MixerSaved& kept, LayerState* state) const;
  void convolve_backward(const ConvolvedGradient& grad_convolved, const MixerSaved& saved,
                         const Projections& gradients, const at::Tensor& grad_projected) const;

  int64_t conv_begin_;
  ConvActivation activation_;
};

std::unique_ptr<Mixer> make_mixer(const ModelConfig& config, const ParameterScope& parameters);

/// One row of a batch of one, (1, L, n) → (L, n), contiguous: what a trace holds.
at::Tensor only_row(const at::Tensor& x);

}  // namespace exactmamba::models
