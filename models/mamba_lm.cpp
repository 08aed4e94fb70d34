#include "models/mamba_lm.h"

#include <algorithm>
#include <utility>

#include <ATen/ops/embedding.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "core/device.h"
#include "core/error.h"
#include "core/memory.h"
#include "models/block.h"
#include "models/linear.h"
#include "models/ops/dropout/dropout.h"
#include "models/ops/embedding_gradient/embedding_gradient.h"
#include "models/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "models/ops/rms_norm/rms_norm.h"
#include "models/ops/sequences.h"

namespace exactmamba::models {
namespace {

const char* const kEmbedding = "backbone.embeddings.weight";
const char* const kFinalNorm = "backbone.norm_f.weight";
const char* const kHead = "lm_head.weight";

/// Of the memory of a GPU.
constexpr double kKeptShare = 0.249;

/// Blocks that run again together with Keep::kBlockInput: their own inputs and those of the groups need the
/// least memory together for 24 blocks, and nearly so for 48.
constexpr size_t kGroup = 8;

void check_ids(const at::Tensor& ids, int64_t rows) {
  core::require(ids.scalar_type() == at::kLong && ids.numel() > 0,
                "token ids must be a non-empty int64 tensor");
  const int64_t lowest = ids.min().item<int64_t>(), highest = ids.max().item<int64_t>();
  core::require(lowest >= 0 && highest < rows,
                "token id {} is outside the model's vocabulary of {} rows; was the text encoded with another "
                "tokenizer?",
                lowest < 0 ? lowest : highest, rows);
}

/// cu_seqlens where the operators read it. A GPU's are spared the boundaries of rows that are one sequence
/// each.
at::Tensor boundaries_of(const at::Tensor& input_ids, const at::Tensor& cu_seqlens,
                         const Placement& placement) {
  const int64_t rows = input_ids.size(0);
  if (placement.device.is_cpu()) return cu_seqlens;
  if (!cu_seqlens.defined() || cu_seqlens.size(0) == rows + 1) return {};
  return ops::cu_seqlens_on(placement.device, cu_seqlens, rows, input_ids.size(1));
}

LossOutputs loss_outputs(const ops::LinearCrossEntropyOutputs& loss, const at::Tensor& targets) {
  const auto like_targets = [&](const at::Tensor& t) { return t.defined() ? t.view_as(targets) : t; };
  return {loss.loss_sum, like_targets(loss.per_token_loss), like_targets(loss.predictions)};
}

/// The positions (S) of the sequences' last tokens over the flattened (B·L).
at::Tensor last_positions(const at::Tensor& input_ids, const at::Tensor& cu_seqlens) {
  std::vector<int64_t> last;
  for (const ops::Sequence& sequence : ops::sequences_of(cu_seqlens, input_ids.size(0), input_ids.size(1))) {
    last.push_back(sequence.end - 1);
  }
  return at::tensor(last, at::kLong);
}

/// One row as a batch of one, its boundaries always given.
struct SingleRow {
  at::Tensor input_ids, cu_seqlens;
  SingleRow(const at::Tensor& ids, const at::Tensor& boundaries)
      : input_ids(ids.unsqueeze(0)),
        cu_seqlens(boundaries.defined()
                       ? boundaries
                       : at::tensor({int32_t{0}, static_cast<int32_t>(ids.size(0))}, at::kInt)) {
    core::require(ids.dim() == 1, "a trace is taken of one row (L) of token ids, not of {} dimensions",
                  ids.dim());
  }
};

}  // namespace

MambaLM::MambaLM(ModelConfig config, const Placement& placement) : config_(std::move(config)) {
  config_.check("model");
  if (!placement.device.is_cpu())
    set_keep_within(static_cast<int64_t>(kKeptShare * core::total_memory(placement.device)));
  store_ = std::make_unique<ParameterStore>(parameter_specs(config_), placement);
  for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
    blocks_.push_back(std::make_unique<Block>(config_, *store_, layer));
  }
}
MambaLM::~MambaLM() = default;
MambaLM::MambaLM(MambaLM&&) noexcept = default;

void MambaLM::set_activation(const ConvActivation& activation) {
  config_.activation = activation;
  for (const auto& block : blocks_) block->set_activation(activation);
}

void MambaLM::set_vocab_size(int64_t vocab_size) {
  core::require(vocab_size > 0 && vocab_size <= config_.vocab_rows,
                "the tokenizer has {} tokens, but the model's embedding has {} rows; use the tokenizer that "
                "it was trained with",
                vocab_size, config_.vocab_rows);
  config_.vocab_size = vocab_size;
}

MambaLM MambaLM::to(const Placement& placement) const {
  MambaLM copy(config_, placement);
  for (const ParameterSpec& spec : store_->specs())
    copy.store_->parameter(spec.name).copy_(store_->parameter(spec.name));
  copy.store_->refresh_compute_copies();
  return copy;
}

at::Tensor MambaLM::ids_on_device(const at::Tensor& input_ids) const {
  if (input_ids.is_cpu()) check_ids(input_ids, config_.vocab_rows);
  return core::copy_to(placement().device, input_ids);
}

Stream MambaLM::embed(const at::Tensor& input_ids) const {
  return {at::embedding(store_->compute(kEmbedding), ids_on_device(input_ids)), {}};
}

at::Tensor MambaLM::final_norm(const Stream& stream) const {
  return norm_of(stream, store_->parameter(kFinalNorm), config_.norm_eps).out;
}

at::Tensor MambaLM::head_weight() const {
  return store_->compute(config_.tie_embeddings ? kEmbedding : kHead);
}

at::Tensor MambaLM::head(const at::Tensor& hidden) const { return linear(hidden, head_weight()); }

struct MambaLM::Kept {
  std::vector<BlockSaved> blocks;
  std::vector<Stream> groups;  // what enters each, with Keep::kBlockInput
  bool fresh = false;          // gradients are still to be zeroed
  ops::DropoutMask dropout;    // of the first layer

  ops::DropoutMask dropout_of(size_t layer) const {
    ops::DropoutMask mask = dropout;
    mask.layer = static_cast<int64_t>(layer);
    return mask;
  }
};

void MambaLM::run_block(size_t i, Stream& stream, const at::Tensor& cu_seqlens, const Kept& kept,
                        BlockSaved* saved) const {
  blocks_[i]->forward(stream, cu_seqlens, saved);
  if (kept.dropout.rate > 0) ops::dropout(stream.y, kept.dropout_of(i), stream.y);
}

void MambaLM::run_block_back(size_t i, ops::RmsNormGradient& grad, Kept& kept) {
  if (kept.dropout.rate > 0) {
    const bool shared = grad.x.is_same(grad.residual);
    const at::Tensor whole = std::exchange(grad.x, shared ? at::empty_like(grad.x) : grad.x);
    ops::dropout(whole, kept.dropout_of(i), grad.x);
  }
  if (kept.fresh) gradients_of_block(i).zero_();
  grad = blocks_[i]->backward(grad, kept.blocks[i]);
  kept.blocks[i] = {};
}

int64_t MambaLM::gradients_begin(size_t layer) const {
  if (layer < blocks_.size())
    return store_->offset(fmt::format("backbone.layers.{}.mixer.in_proj.weight", layer));
  return config_.tie_embeddings ? store_->flat(Decay::kYes).numel() : store_->offset(kHead);
}

at::Tensor MambaLM::gradients_of_block(size_t layer) {
  const int64_t begin = gradients_begin(layer);
  return store_->flat_gradient(Decay::kYes).narrow(0, begin, gradients_begin(layer + 1) - begin);
}

void MambaLM::zero_gradients_of_no_block() {
  const at::Tensor gradient = store_->flat_gradient(Decay::kYes);
  const int64_t begin = gradients_begin(0), end = gradients_begin(blocks_.size());
  gradient.narrow(0, 0, begin).zero_();
  gradient.narrow(0, end, gradient.numel() - end).zero_();
  store_->flat_gradient(Decay::kNo).zero_();
}

/// Backward is done with a block before it comes to those below it.
void MambaLM::lend_gradients(const at::Tensor& input_ids, Kept& kept) {
  constexpr int64_t kAlignment = 256;
  const at::Tensor gradient = store_->flat_gradient(Decay::kYes);
  const at::ScalarType dtype = placement().compute_dtype;
  const std::vector<int64_t> shape = {input_ids.size(0), input_ids.size(1), config_.in_proj_rows()};
  const int64_t values = input_ids.numel() * shape.back(),
                bytes = values * static_cast<int64_t>(at::elementSize(dtype)),
                each = (bytes + kAlignment - 1) / kAlignment * kAlignment / gradient.element_size();
  int64_t begin = gradients_begin(0);
  for (size_t i = blocks_.size(); i-- > 0 && begin + each <= gradients_begin(i); begin += each)
    kept.blocks[i].mixer.place = gradient.narrow(0, begin, each).view(dtype).narrow(0, 0, values).view(shape);
}

/// The first blocks let go first, the cheapest first. All blocks are as large as the first one.
std::vector<Keep> MambaLM::levels_within_limit(const Kept& kept) const {
  const auto bytes_of = [&](size_t i, Keep level) {
    BlockSaved block = kept.blocks.front();
    block.mixer.place = kept.blocks[i].mixer.place;
    block.mixer.drop(level);
    return block.bytes();
  };
  std::vector<Keep> levels(blocks_.size(), keep_);
  int64_t bytes = 0;
  struct {
    Keep level;
    size_t next;
  } stages[] = {{Keep::kDelta, 0}, {Keep::kConvolved, 0}, {Keep::kCostly, 0}, {Keep::kProjected, 0}};
  for (size_t i = 0; i < blocks_.size(); ++i) {
    bytes += bytes_of(i, keep_);
    for (auto& [level, next] : stages)
      for (; bytes > kept_bytes_ && next <= i; ++next)
        bytes -= bytes_of(next, std::exchange(levels[next], level)) - bytes_of(next, level);
  }
  return levels;
}

Stream MambaLM::run_keeping(const at::Tensor& input_ids, const at::Tensor& cu_seqlens, Kept& kept) const {
  Stream stream = embed(input_ids);
  std::vector<Keep> levels(blocks_.size(), keep_);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (keep_ == Keep::kBlockInput) {
      if (i % kGroup == 0) kept.groups.push_back(stream);
      run_block(i, stream, cu_seqlens, kept);
      continue;
    }
    kept.blocks[i].mixer.keep = levels[i];
    run_block(i, stream, cu_seqlens, kept, &kept.blocks[i]);
    if (i > 0 || kept_bytes_ == kNoLimit) continue;
    levels = levels_within_limit(kept);
    kept.blocks[i].mixer.drop(levels[i]);
  }
  return stream;
}

/// Of the group's last block, whose backward pass is next, more stays than of the others.
void MambaLM::run_group_again(size_t group, const at::Tensor& cu_seqlens, Kept& kept) const {
  Stream stream = std::move(kept.groups[group]);
  const size_t end = std::min((group + 1) * kGroup, blocks_.size());
  for (size_t i = group * kGroup; i < end; ++i) {
    kept.blocks[i].mixer.keep = i + 1 == end ? Keep::kDelta : Keep::kMixerInput;
    run_block(i, stream, cu_seqlens, kept, &kept.blocks[i]);
  }
}

LossOutputs MambaLM::top_forward_backward(Stream stream, const at::Tensor& targets, double scale,
                                          ops::RmsNormGradient& grad) {
  const at::Tensor norm_weight = store_->parameter(kFinalNorm);
  ops::RmsNormOutputs top = norm_of(std::exchange(stream, {}), norm_weight, config_.norm_eps);
  const ops::RmsNormSaved saved = ops::rms_norm_saved(top);
  top.residual_out.reset();  // like the stream: the logits need the memory
  at::Tensor grad_hidden = at::empty_like(top.out), grad_rows = as_rows(grad_hidden);
  at::Tensor grad_head = store_->gradient(config_.tie_embeddings ? kEmbedding : kHead);
  const ops::LinearCrossEntropyOutputs loss = ops::linear_cross_entropy_forward_backward(
      {as_rows(top.out), head_weight(), targets.reshape({-1})}, scale, grad_rows, grad_head,
      regularisation_.label_smoothing);
  at::Tensor grad_norm_weight = store_->gradient(kFinalNorm);
  grad = ops::rms_norm_backward(saved, norm_weight, grad_hidden, {}, grad_norm_weight);
  return loss_outputs(loss, targets);
}

LossOutputs MambaLM::forward_backward(const data::Batch& batch, double scale, const GradientVisitor& visit,
                                      bool fresh) {
  const at::Tensor ids = ids_on_device(batch.input_ids),
                   boundaries = boundaries_of(batch.input_ids, batch.cu_seqlens, placement());
  Kept kept;
  kept.blocks.resize(blocks_.size());
  kept.fresh = fresh;
  if (fresh) zero_gradients_of_no_block();
  if (fresh && kept_bytes_ != kNoLimit) lend_gradients(ids, kept);
  kept.dropout = {regularisation_.dropout, regularisation_.seed, 0, batch.first_row};
  ops::RmsNormGradient grad;
  const LossOutputs loss =
      top_forward_backward(run_keeping(ids, boundaries, kept), batch.targets, scale, grad);
  for (size_t i = blocks_.size(); i-- > 0;) {
    if (keep_ == Keep::kBlockInput && (i + 1 == blocks_.size() || (i + 1) % kGroup == 0))
      run_group_again(i / kGroup, boundaries, kept);
    run_block_back(i, grad, kept);
    if (visit) visit(static_cast<int64_t>(i));
  }
  at::Tensor grad_embedding = store_->gradient(kEmbedding);
  ops::add_embedding_gradient(ids.reshape({-1}), as_rows(grad.residual), grad_embedding);
  if (visit) visit(-1);
  return loss;
}

LossOutputs MambaLM::loss(const data::Batch& batch) const {
  const at::Tensor top =
      hidden(batch.input_ids, boundaries_of(batch.input_ids, batch.cu_seqlens, placement()));
  return loss_outputs(ops::linear_cross_entropy_forward(
                          {as_rows(top), head_weight(), batch.targets.reshape({-1})}, config_.vocab_size),
                      batch.targets);
}

Stream MambaLM::run_blocks(const at::Tensor& input_ids, const at::Tensor& cu_seqlens,
                           const BlockVisitor& visit) const {
  Stream stream = embed(input_ids);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    blocks_[i]->forward(stream, cu_seqlens);
    if (visit) visit(static_cast<int64_t>(i) - 1, stream.r);
  }
  return stream;
}

at::Tensor MambaLM::hidden(const at::Tensor& input_ids, const at::Tensor& cu_seqlens,
                           const BlockVisitor& visit) const {
  const Stream stream = run_blocks(input_ids, cu_seqlens, visit);
  const ops::RmsNormOutputs top = norm_of(stream, store_->parameter(kFinalNorm), config_.norm_eps);
  if (visit) visit(config_.n_layer - 1, top.residual_out);
  return top.out;
}

at::Tensor MambaLM::logits(const at::Tensor& input_ids, const at::Tensor& cu_seqlens,
                           const BlockVisitor& visit) const {
  return head(hidden(input_ids, cu_seqlens, visit));
}

void MambaLM::trace(const at::Tensor& input_ids, const at::Tensor& cu_seqlens,
                    const std::function<void(const LayerTrace&)>& visit) const {
  const SingleRow row(input_ids, cu_seqlens);
  Stream stream = embed(row.input_ids);
  for (const auto& block : blocks_) {
    BlockSaved saved;
    block->forward(stream, row.cu_seqlens, &saved);
    visit(block->trace(saved, stream));
  }
}

TopTrace MambaLM::top(const at::Tensor& input_ids, const at::Tensor& cu_seqlens) const {
  const SingleRow row(input_ids, cu_seqlens);
  TopTrace trace;
  trace.norm_weight = store_->parameter(kFinalNorm);
  trace.head_weight = head_weight();
  const Stream stream = run_blocks(row.input_ids, row.cu_seqlens, nullptr);
  const ops::RmsNormOutputs top = norm_of(stream, trace.norm_weight, config_.norm_eps);
  trace.embedding = only_row(embed(row.input_ids).y);
  trace.r_top = only_row(top.residual_out);
  trace.rho = only_row(top.rstd);
  const at::Tensor no_targets = at::full({input_ids.size(0)}, data::kIgnoredTarget, at::kLong);
  trace.predicted =
      ops::linear_cross_entropy_forward({as_rows(top.out), trace.head_weight, no_targets}, config_.vocab_size)
          .predictions;
  return trace;
}

State MambaLM::initial_state(int64_t batch) const {
  State state;
  for (const auto& block : blocks_) {
    LayerState layer = block->initial_state(batch);
    state.conv.push_back(layer.conv);
    state.ssm.push_back(layer.ssm);
  }
  return state;
}

at::Tensor MambaLM::prefill(const at::Tensor& input_ids, State& state, const at::Tensor& cu_seqlens) const {
  // Copied first: behind the blocks the copy would wait for them, and what follows for the host.
  const at::Tensor boundaries = boundaries_of(input_ids, cu_seqlens, placement()),
                   last = last_positions(input_ids, cu_seqlens).to(placement().device);
  Stream stream = embed(input_ids);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    LayerState layer{state.conv[i], state.ssm[i]};
    blocks_[i]->forward(stream, boundaries, nullptr, &layer);
    state.conv[i] = layer.conv;
    state.ssm[i] = layer.ssm;
  }
  return head(as_rows(final_norm(stream)).index_select(0, last));
}

at::Tensor MambaLM::step(const at::Tensor& ids, State& state) const {
  Stream stream = embed(ids);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    LayerState layer{state.conv[i], state.ssm[i]};
    blocks_[i]->step(stream, layer);
  }
  return head(final_norm(stream));
}

}  // namespace exactmamba::models
