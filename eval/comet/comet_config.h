// What a COMET model folder says about itself: hparams.yaml, as unbabel-comet writes it, and the encoder's
// config.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/names.h"

namespace exactmamba::eval {

inline constexpr core::Names<3> kCometDtypeNames = {"float32", "float64", "bfloat16"};

/// What results call a model: the last part of its folder's name.
std::string comet_model_name(const std::filesystem::path& folder);

/// Everything that is read of a model folder.
struct CometFiles {
  std::filesystem::path hparams, checkpoint, encoder_config, sentencepiece;
  /// Reads nothing. @throws IoError when files are missing: it names them, and says where they are to be had
  explicit CometFiles(const std::filesystem::path& folder);
};
/// Of their contents. @throws IoError
std::string fingerprint(const CometFiles& files);

/// Of the estimator over the encoder.
struct CometConfig {
  std::vector<int64_t> hidden_sizes;
  bool sparsemax = false;  // how the encoder's layers are mixed; else softmax
};
/// @throws IoError; InputError ("file:line:column: …") when it is malformed, or another kind of model than
/// wmt22-comet-da
CometConfig read_comet_config(const std::filesystem::path& file);

struct XlmrConfig {
  int64_t vocab_size, hidden_size, layers, heads, intermediate_size, positions;
  double layer_norm_epsilon;
};
/// @throws IoError; InputError when it is no XLM-RoBERTa
XlmrConfig read_xlmr_config(const std::filesystem::path& file);

}  // namespace exactmamba::eval
