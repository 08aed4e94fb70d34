// The language model: embedding, blocks r ← r + Mixer(RMSNorm(r)), norm_f, head. Training runs by explicit
// forward and backward of the blocks, weight gradients accumulate straight into ParameterStore's flat
// gradient. Where it lives and what it computes in: placement.h. Token ids, targets and cu_seqlens may be on
// the CPU or on the model's device, where they are trusted.
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "data/batch.h"
#include "models/config.h"
#include "models/layer_trace.h"
#include "models/mixer.h"
#include "models/parameter_store.h"

namespace exactmamba::ops {
struct RmsNormGradient;
}

namespace exactmamba::models {

/// Explicit state of generation, per layer: the last W-1 inputs of the convolution and the state of the scan.
struct State {
  std::vector<at::Tensor> conv;  // [layer] (B, C, W-1)
  std::vector<at::Tensor> ssm;   // [layer] (B, D, N) Mamba-1, (B, H, P, N) Mamba-2
};

/// On the model's device: who reads a value of a GPU waits for it.
struct LossOutputs {
  at::Tensor loss_sum;        // () double: nats, summed over the targets
  at::Tensor per_token_loss;  // (B, L), 0 where there is no target
  at::Tensor predictions;     // (B, L) int64 argmax over the true vocabulary; only from loss()
};

/// What training does so that a model generalises; forward_backward() alone, for there is none of it in what
/// a model computes otherwise.
struct Regularisation {
  double label_smoothing = 0;  // ops/linear_cross_entropy/linear_cross_entropy.h
  double dropout = 0;          // rate, on every mixer's output before it is added (ops/dropout/dropout.h)
  uint64_t seed = 0;           // of dropout
};

class Block;
struct BlockSaved;
struct Stream;

class MambaLM {
 public:
  /// Parameters are zero: initialise (initialisation.h) or load (checkpoint.h). @throws InputError from
  /// config.check()
  MambaLM(ModelConfig config, const Placement& placement);
  ~MambaLM();
  MambaLM(MambaLM&&) noexcept;

  const ModelConfig& config() const { return config_; }
  ParameterStore& parameters() { return *store_; }
  const ParameterStore& parameters() const { return *store_; }
  /// Changes φ or its α, as annealing does at every step.
  void set_activation(const ConvActivation& activation);
  /// What forward_backward keeps on the way, in every block. No choice changes a gradient but on a GPU,
  /// where Mamba-1's is rounded otherwise if out_proj's input is not kept, and Mamba-2's with Keep::kAll. At
  /// first all on a CPU; on a GPU set_keep_within() with 24.9 % of its memory: the rest is for weights,
  /// moments and what comes and goes.
  void set_keep(Keep keep) { keep_ = keep, kept_bytes_ = kNoLimit; }
  /// Keep::kMost; beyond `bytes` in all, the first blocks let go, level by level down to Keep::kProjected.
  void set_keep_within(int64_t bytes) { keep_ = Keep::kMost, kept_bytes_ = bytes; }
  /// At first there is none.
  void set_regularisation(const Regularisation& regularisation) { regularisation_ = regularisation; }
  /// The true vocabulary, which the tokenizer knows and a Hugging Face config does not: ids below it may be
  /// predicted.
  /// @throws InputError when it exceeds the embedding's rows
  void set_vocab_size(int64_t vocab_size);
  const Placement& placement() const { return store_->placement(); }
  /// The same model elsewhere or in another dtype.
  MambaLM to(const Placement& placement) const;

  // ---- training ----
  /// Called by backward when it is done with the gradients of block `layer`, from the last to the first; -1:
  /// the embedding. The final norm and the head come before the last block.
  using GradientVisitor = std::function<void(int64_t layer)>;
  /// Forward and backward of scale · Σ loss over the batch's targets, with regularisation; gradients are
  /// added to the store's. `fresh`: there are none yet, whatever the store holds. They are zeroed as backward
  /// comes to them, and until then their memory keeps activations of the last blocks (set_keep_within()).
  LossOutputs forward_backward(const data::Batch& batch, double scale, const GradientVisitor& visit = nullptr,
                               bool fresh = false);
  /// Forward only, with predictions.
  LossOutputs loss(const data::Batch& batch) const;

  // ---- whole sequences ----
  using BlockVisitor = std::function<void(
      int64_t layer, const at::Tensor& r)>;  // r (B, L, d) after block `layer`; -1: the embedding
  /// norm_f's output (B, L, d). cu_seqlens [nullable].
  at::Tensor hidden(const at::Tensor& input_ids, const at::Tensor& cu_seqlens,
                    const BlockVisitor& visit = nullptr) const;
  /// (B, L, V), pad rows included.
  at::Tensor logits(const at::Tensor& input_ids, const at::Tensor& cu_seqlens,
                    const BlockVisitor& visit = nullptr) const;

  // ---- decomposition: one row (L) at a time ----
  /// Visits the layers from the bottom; a trace is freed when the visitor returns.
  void trace(const at::Tensor& input_ids, const at::Tensor& cu_seqlens,
             const std::function<void(const LayerTrace&)>& visit) const;
  TopTrace top(const at::Tensor& input_ids, const at::Tensor& cu_seqlens) const;

  // ---- generation ----
  State initial_state(int64_t batch) const;
  /// Feeds whole prompts at once, on top of what `state` has seen: (B, L), or prompts of unequal length
  /// packed into (1, L) with cu_seqlens. Logits (S, V) of each sequence's last token; `state` (of batch S) is
  /// updated in place.
  at::Tensor prefill(const at::Tensor& input_ids, State& state, const at::Tensor& cu_seqlens = {}) const;
  /// One token each: ids (B) → logits (B, V). `state` is updated in place.
  at::Tensor step(const at::Tensor& ids, State& state) const;

 private:
  at::Tensor ids_on_device(const at::Tensor& input_ids) const;
  Stream embed(const at::Tensor& input_ids) const;
  /// What one forward pass leaves for backward.
  struct Kept;
  void run_block(size_t i, Stream& stream, const at::Tensor& cu_seqlens, const Kept& kept,
                 BlockSaved* saved = nullptr) const;
  void run_block_back(size_t i, ops::RmsNormGradient& grad, Kept& kept);
  /// Where the gradients with weight decay of block `layer` begin in the store's; of n_layer: where those of
  /// all blocks end.
  int64_t gradients_begin(size_t layer) const;
  at::Tensor gradients_of_block(size_t layer);
  /// All others.
  void zero_gradients_of_no_block();
  /// Gradients of the first blocks become the place where the last ones keep in_proj's output.
  void lend_gradients(const at::Tensor& input_ids, Kept& kept);
  Stream run_keeping(const at::Tensor& input_ids, const at::Tensor& cu_seqlens, Kept& kept) const;
  /// What each block may keep, once the first one has run.
  std::vector<Keep> levels_within_limit(const Kept& kept) const;
  void run_group_again(size_t group, const at::Tensor& cu_seqlens, Kept& kept) const;
  /// norm_f, head and loss. `grad` becomes the gradient of the stream behind the last block.
  LossOutputs top_forward_backward(Stream stream, const at::Tensor& targets, double scale,
                                   ops::RmsNormGradient& grad);
  Stream run_blocks(const at::Tensor& input_ids, const at::Tensor& cu_seqlens,
                    const BlockVisitor& visit) const;
  at::Tensor final_norm(const Stream& stream) const;
  at::Tensor head_weight() const;
  at::Tensor head(const at::Tensor& hidden) const;

  ModelConfig config_;
  static constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
  Keep keep_ = Keep::kAll;
  int64_t kept_bytes_ = kNoLimit;
  Regularisation regularisation_;
  std::unique_ptr<ParameterStore> store_;
  std::vector<std::unique_ptr<Block>> blocks_;
};

/// The parameters of a model of this config, in model order, with their decay groups.
std::vector<ParameterSpec> parameter_specs(const ModelConfig& config);

}  // namespace exactmamba::models
