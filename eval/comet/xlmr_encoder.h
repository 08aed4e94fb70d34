// XLM-RoBERTa (Conneau et al. 2020) as transformers computes it: learned positions counted from 2, layers
// with the norm behind the sum, GELU by erf.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "eval/comet/checkpoint_tensors.h"
#include "eval/comet/comet_config.h"

namespace exactmamba::eval {

/// The id of <pad>: it has a position of its own, which a text that spells it out gets too.
inline constexpr int64_t kXlmrPadId = 1;

/// Texts one behind the other (T tokens in all), without padding: it would change nothing but rounding.
struct PackedTexts {
  std::vector<int64_t> ids;      // (T)
  std::vector<int64_t> lengths;  // of each text

  /// Neighbours of the same length: `texts` of `length` tokens from token `begin` on.
  struct Run {
    int64_t begin, texts, length;
  };
  std::vector<Run> runs() const;
};

class XlmrEncoder {
 public:
  /// Computes on `device` in `dtype`. @throws InputError when a tensor is missing or has another shape
  XlmrEncoder(const XlmrConfig& config, const CheckpointTensors& tensors, const at::Device& device,
              at::ScalarType dtype);

  /// Calls each(0, embeddings), each(1, output of the first layer), …; (T, hidden_size), in `dtype`.
  void forward(const PackedTexts& texts,
               const std::function<void(int64_t index, const at::Tensor& hidden)>& each) const;

 private:
  struct Linear {
    at::Tensor weight, bias;  // (out, in), (out)
  };
  struct Norm {
    at::Tensor weight, bias;  // (hidden)
  };
  struct Layer {
    Linear qkv, attention_out, up, down;  // qkv: (3·hidden, hidden)
    Norm attention_norm, norm;
  };

  Linear linear(const CheckpointTensors& tensors, const std::string& name, int64_t in, int64_t out) const;
  Linear query_key_value(const CheckpointTensors& tensors, const std::string& name) const;
  Norm norm(const CheckpointTensors& tensors, const std::string& name) const;
  at::Tensor place(const at::Tensor& tensor) const;
  at::Tensor normalise(const at::Tensor& x, const Norm& norm) const;
  at::Tensor embed(const PackedTexts& texts) const;
  at::Tensor attend(const at::Tensor& qkv, const std::vector<PackedTexts::Run>& runs) const;
  at::Tensor apply(const Layer& layer, const at::Tensor& x, const std::vector<PackedTexts::Run>& runs) const;

  XlmrConfig config_;
  at::Device device_;
  at::ScalarType dtype_;
  at::Tensor words_, positions_;  // (vocab_size, hidden), (positions, hidden)
  at::Tensor token_type_;         // (hidden)
  Norm embedding_norm_;
  std::vector<Layer> layers_;
};

}  // namespace exactmamba::eval
