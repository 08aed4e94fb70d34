#include "eval/comet/xlmr_encoder.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "core/device.h"
#include "core/error.h"

namespace exactmamba::eval {
namespace {

constexpr const char* kPrefix = "encoder.model.";

/// 1 + the number of the token among those that are not <pad>; <pad> itself: 1.
std::vector<int64_t> positions_of(const PackedTexts& texts) {
  std::vector<int64_t> positions;
  positions.reserve(texts.ids.size());
  for (const int64_t length : texts.lengths) {
    int64_t next = kXlmrPadId + 1;
    for (int64_t i = 0; i < length; ++i)
      positions.push_back(texts.ids[positions.size()] == kXlmrPadId ? kXlmrPadId : next++);
  }
  return positions;
}

}  // namespace

std::vector<PackedTexts::Run> PackedTexts::runs() const {
  std::vector<Run> runs;
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    if (runs.empty() || runs.back().length != length)
      runs.push_back({begin, 1, length});
    else
      ++runs.back().texts;
    begin += length;
  }
  return runs;
}

XlmrEncoder::XlmrEncoder(const XlmrConfig& config, const CheckpointTensors& tensors, const at::Device& device,
                         at::ScalarType dtype)
    : config_(config), device_(device), dtype_(dtype) {
  const int64_t hidden = config.hidden_size;
  const std::string embeddings = std::string(kPrefix) + "embeddings.";
  words_ = place(tensors.at(embeddings + "word_embeddings.weight", {config.vocab_size, hidden}));
  positions_ = place(tensors.at(embeddings + "position_embeddings.weight", {config.positions, hidden}));
  token_type_ = place(tensors.at(embeddings + "token_type_embeddings.weight", {1, hidden})).select(0, 0);
  embedding_norm_ = norm(tensors, embeddings + "LayerNorm");
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string name = fmt::format("{}encoder.layer.{}.", kPrefix, i);
    layers_.push_back({.qkv = query_key_value(tensors, name + "attention.self."),
                       .attention_out = linear(tensors, name + "attention.output.dense", hidden, hidden),
                       .up = linear(tensors, name + "intermediate.dense", hidden, config.intermediate_size),
                       .down = linear(tensors, name + "output.dense", config.intermediate_size, hidden),
                       .attention_norm = norm(tensors, name + "attention.output.LayerNorm"),
                       .norm = norm(tensors, name + "output.LayerNorm")});
  }
  const std::string further = fmt::format("{}encoder.layer.{}.output.dense.weight", kPrefix, config.layers);
  core::require(!tensors.contains(further),
                "{}: has {}, but the encoder's config.json says num_hidden_layers {}", tensors.file(),
                further, config.layers);
}

at::Tensor XlmrEncoder::place(const at::Tensor& tensor) const {
  return core::copy_to(device_, tensor.to(dtype_).contiguous());
}

XlmrEncoder::Linear XlmrEncoder::linear(const CheckpointTensors& tensors, const std::string& name, int64_t in,
                                        int64_t out) const {
  return {place(tensors.at(name + ".weight", {out, in})), place(tensors.at(name + ".bias", {out}))};
}

XlmrEncoder::Linear XlmrEncoder::query_key_value(const CheckpointTensors& tensors,
                                                 const std::string& name) const {
  std::vector<at::Tensor> weights, biases;
  for (const char* part : {"query", "key", "value"}) {
    const Linear one = linear(tensors, name + part, config_.hidden_size, config_.hidden_size);
    weights.push_back(one.weight);
    biases.push_back(one.bias);
  }
  return {at::cat(weights), at::cat(biases)};
}

XlmrEncoder::Norm XlmrEncoder::norm(const CheckpointTensors& tensors, const std::string& name) const {
  return {place(tensors.at(name + ".weight", {config_.hidden_size})),
          place(tensors.at(name + ".bias", {config_.hidden_size}))};
}

at::Tensor XlmrEncoder::normalise(const at::Tensor& x, const Norm& norm) const {
  return at::layer_norm(x, {config_.hidden_size}, norm.weight, norm.bias, config_.layer_norm_epsilon);
}

at::Tensor XlmrEncoder::embed(const PackedTexts& texts) const {
  const at::Tensor ids = core::copy_to(device_, at::tensor(texts.ids, at::kLong));
  const at::Tensor positions = core::copy_to(device_, at::tensor(positions_of(texts), at::kLong));
  at::Tensor sum = at::embedding(words_, ids).add_(token_type_).add_(at::embedding(positions_, positions));
  return normalise(sum, embedding_norm_);
}

at::Tensor XlmrEncoder::attend(const at::Tensor& qkv, const std::vector<PackedTexts::Run>& runs) const {
  const int64_t heads = config_.heads, size = config_.hidden_size / heads;
  at::Tensor out = at::empty({qkv.size(0), config_.hidden_size}, qkv.options());
  for (const auto& [begin, texts, length] : runs) {
    const auto parts = qkv.narrow(0, begin, texts * length)
                           .view({texts, length, 3, heads, size})
                           .permute({2, 0, 3, 1, 4})
                           .unbind(0);
    const at::Tensor result =
        at::scaled_dot_product_attention(parts[0], parts[1], parts[2]);  // (texts, heads, length, size)
    out.narrow(0, begin, texts * length).view({texts, length, heads, size}).copy_(result.transpose(1, 2));
  }
  return out;
}

at::Tensor XlmrEncoder::apply(const Layer& layer, const at::Tensor& x,
                              const std::vector<PackedTexts::Run>& runs) const {
  const auto through = [](const Linear& linear, const at::Tensor& in) {
    return at::linear(in, linear.weight, linear.bias);
  };
  const at::Tensor attended = attend(through(layer.qkv, x), runs);
  const at::Tensor middle = normalise(through(layer.attention_out, attended).add_(x), layer.attention_norm);
  return normalise(through(layer.down, at::gelu(through(layer.up, middle))).add_(middle), layer.norm);
}

void XlmrEncoder::forward(const PackedTexts& texts,
                          const std::function<void(int64_t index, const at::Tensor& hidden)>& each) const {
  const std::vector<PackedTexts::Run> runs = texts.runs();
  at::Tensor hidden = embed(texts);
  each(0, hidden);
  for (size_t i = 0; i < layers_.size(); ++i) {
    hidden = apply(layers_[i], hidden, runs);
    each(static_cast<int64_t>(i) + 1, hidden);
  }
}

}  // namespace exactmamba::eval
