// What a model is: architecture, sizes, activation. Read from every known spelling of config.json
// (transformers 4.x and 5.x, state-spaces), written in the one that says what the model computes.
#pragma once

#include <array>
#include <limits>
#include <string>

#include "core/json.h"
#include "core/names.h"
#include "models/ops/conv_activation.h"

namespace exactmamba::models {

enum class Architecture { kMamba1, kMamba2 };
inline constexpr core::Names<2> kArchitectureNames = {"mamba1", "mamba2"};
const char* architecture_name(Architecture architecture);

struct ModelConfig {
  Architecture architecture = Architecture::kMamba1;
  int64_t vocab_size = 0;  // true size: ids that may be sampled; rows when the file does not tell
  int64_t vocab_rows = 0;  // rows of the embedding, padding included
  int64_t d_model = 0, n_layer = 0, d_state = 16, d_conv = 4, expand = 2;
  int64_t dt_rank = 0;                                                              // Mamba-1
  int64_t headdim = 64, ngroups = 1, chunk_size = 256;                              // Mamba-2
  std::array<double, 2> dt_limit = {0.0, std::numeric_limits<double>::infinity()};  // Mamba-2
  double norm_eps = 1e-5;
  bool tie_embeddings = true;
  bool use_bias = false;  // in_proj and out_proj
  bool use_conv_bias = true;
  double dt_init_min = 1e-3, dt_init_max = 1e-1, dt_init_floor = 1e-4;
  int64_t bos_token_id = -1, eos_token_id = -1, pad_token_id = -1;  // -1: none
  ConvActivation activation;                                        // with its α

  int64_t d_inner() const { return expand * d_model; }
  int64_t heads() const { return d_inner() / headdim; }  // Mamba-2
  int64_t conv_channels() const;                         // D, or D + 2GN
  int64_t in_proj_rows() const;                          // 2D, or 2D + 2GN + H
  int64_t parameter_count() const;

  /// Sizes that do not fit together (d_inner % headdim, heads % ngroups, zero or absurd sizes…). @throws
  /// InputError naming `where`
  void check(const std::string& where) const;
};

/// The rank of Mamba-1's step size where nothing says another: ceil(d_model / 16).
int64_t default_dt_rank(int64_t d_model);
/// The least multiple of `multiple` with room for `vocab_size` tokens.
int64_t padded_vocabulary(int64_t vocab_size, int64_t multiple);

/// Every spelling of golden/models/config-spellings and state-spaces; "conv_activation" (and
/// "conv_activation_alpha") beside any model_type. @throws InputError with file and key, also for a newer
/// "exactmamba_format_version".
ModelConfig config_from_json(const core::Json& json, const std::string& where);

/// SiLU: model_type mamba / mamba2, which transformers loads. Others: model_type "exactmamba", architectures
/// ["ExactMambaForCausalLM"], so that transformers refuses instead of computing another function.
core::Json config_to_json(const ModelConfig& config, const std::string& dtype);

/// The state-spaces form. @throws InputError for an activation other than SiLU, which it cannot express.
core::Json config_to_state_spaces_json(const ModelConfig& config);

}  // namespace exactmamba::models
