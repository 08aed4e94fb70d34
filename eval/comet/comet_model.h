// COMET (Rei et al. 2020; the estimator of "COMET-22", wmt22-comet-da): how good a translation is, from the
// vectors that XLM-RoBERTa has for source, translation and reference. Equal to unbabel-comet 2.2.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "data/tokenizers/sentencepiece_tokenizer.h"
#include "eval/comet/comet_config.h"
#include "eval/comet/xlmr_encoder.h"

namespace exactmamba::eval {

struct CometSegment {
  std::string source, hypothesis, reference;
};

class CometModel {
 public:
  /// The encoder computes in `dtype` (kCometDtypeNames); layer mix, pooling and estimator in float64 if it
  /// does, else in float32. `folder` is as published (hparams.yaml, checkpoints/model.ckpt), with config.json
  /// and sentencepiece.bpe.model of the encoder in encoder/. On the device meta the model has shapes only,
  /// and nothing of the checkpoint's numbers is read. @throws InputError, IoError; when files are missing, it
  /// names them and says where they are to be had
  CometModel(const std::filesystem::path& folder, const at::Device& device, at::ScalarType dtype);

  /// A score for each segment; the mean is the system's. Each different text is encoded once, sorted by
  /// length; `done(texts, total)` is called first, and after each batch of them. @throws InputError when a
  /// text is not UTF-8; Interrupted
  std::vector<double> scores(const std::vector<CometSegment>& segments,
                             const std::function<void(int64_t texts, int64_t total)>& done = {}) const;

  /// <s> … </s>, cut to max_position_embeddings − 4 in all, which is where unbabel-comet cuts.
  std::vector<int64_t> ids(std::string_view text) const;
  /// The mix of the encoder's layers, (T, hidden), and each text's average over its tokens, (texts, hidden):
  /// a <pad> that stands in the text is left out of the sum, not of the count.
  at::Tensor mixed(const PackedTexts& texts) const;
  at::Tensor pooled(const PackedTexts& texts) const;
  /// (n, hidden) each → (n): the estimator of [mt, ref, mt·ref, |mt − ref|, mt·src, |mt − src|].
  at::Tensor estimate(const at::Tensor& source, const at::Tensor& hypothesis,
                      const at::Tensor& reference) const;

 private:
  struct Linear {
    at::Tensor weight, bias;
  };

  CometModel(const CometFiles& files, const at::Device& device, at::ScalarType dtype);
  void read_head(const CometConfig& config, const CheckpointTensors& tensors);
  at::Tensor vectors(const std::vector<std::vector<int64_t>>& texts,
                     const std::function<void(int64_t texts, int64_t total)>& done) const;

  at::Device device_;
  at::ScalarType head_dtype_;
  XlmrConfig encoder_config_;
  data::SentencePieceTokenizer tokenizer_;
  std::optional<XlmrEncoder> encoder_;
  std::vector<double> layer_weights_;  // γ·s
  std::vector<Linear> estimator_;
};

/// Before the model is needed: its files are whole and belong together. Of the checkpoint, which is large,
/// names, shapes and sizes are looked at, but no number. @throws as CometModel
void check_comet_files(const std::filesystem::path& folder);

/// CometModel::scores() with their progress on stderr, after `label`.
std::vector<double> comet_scores(const CometModel& model, const std::vector<CometSegment>& segments,
                                 const std::string& label);

}  // namespace exactmamba::eval
