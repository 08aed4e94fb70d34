// ModelConfig → config.json, for transformers and for state-spaces.
#include <cmath>

#include "core/error.h"
#include "core/version.h"
#include "models/config.h"

namespace exactmamba::models {
namespace {

using core::Json;
using core::require;

Json id_or_null(int64_t id) { return id < 0 ? Json(nullptr) : Json(id); }

bool has_default_limit(const ModelConfig& config) { return config.dt_limit == ModelConfig().dt_limit; }

void add_mixer(const ModelConfig& config, Json& json) {
  json["state_size"] = config.d_state;
  json["conv_kernel"] = config.d_conv;
  json["expand"] = config.expand;
  if (config.architecture == Architecture::kMamba1) {
    json["intermediate_size"] = config.d_inner();
    json["time_step_rank"] = config.dt_rank;
  } else {
    json["num_heads"] = config.heads();
    json["head_dim"] = config.headdim;
    json["n_groups"] = config.ngroups;
    json["chunk_size"] = config.chunk_size;
    // The default is left out: versions 4.x and 5.x of transformers spell infinity differently, both know the
    // default.
    if (!has_default_limit(config)) json["time_step_limit"] = config.dt_limit;
  }
  json["time_step_min"] = config.dt_init_min;
  json["time_step_max"] = config.dt_init_max;
  json["time_step_floor"] = config.dt_init_floor;
  json["use_bias"] = config.use_bias;
  json["use_conv_bias"] = config.use_conv_bias;
}

void add_type(const ModelConfig& config, Json& json) {
  const bool mamba1 = config.architecture == Architecture::kMamba1;
  if (config.activation.kind == ActivationKind::kSilu) {
    json["model_type"] = mamba1 ? "mamba" : "mamba2";
    json["architectures"] = {mamba1 ? "MambaForCausalLM" : "Mamba2ForCausalLM"};
    json["hidden_act"] = "silu";
  } else {
    json["model_type"] = "exactmamba";
    json["architectures"] = {"ExactMambaForCausalLM"};
    json["architecture"] = architecture_name(config.architecture);
    json["conv_activation"] = activation_name(config.activation.kind);
    json["conv_activation_alpha"] = config.activation.alpha;
  }
  json["exactmamba_format_version"] = core::kFormatVersion;
}

/// The smallest common multiple that pads vocab_size to vocab_rows; the row count itself always does.
int64_t vocabulary_multiple(const ModelConfig& config) {
  for (const int64_t multiple : {int64_t{1}, int64_t{8}, int64_t{16}, int64_t{64}, int64_t{128}}) {
    if (padded_vocabulary(config.vocab_size, multiple) == config.vocab_rows) return multiple;
  }
  return config.vocab_rows;
}

/// Only what differs from the defaults of the mixer's constructor, as in the public configs.
Json state_spaces_mixer(const ModelConfig& config) {
  const bool mamba1 = config.architecture == Architecture::kMamba1;
  Json ssm = Json::object();
  if (!mamba1) ssm["layer"] = "Mamba2";
  if (config.d_state != (mamba1 ? 16 : 128)) ssm["d_state"] = config.d_state;
  if (config.d_conv != 4) ssm["d_conv"] = config.d_conv;
  if (config.expand != 2) ssm["expand"] = config.expand;
  if (mamba1 && config.dt_rank != default_dt_rank(config.d_model)) ssm["dt_rank"] = config.dt_rank;
  if (!mamba1) {
    if (config.headdim != 64) ssm["headdim"] = config.headdim;
    if (config.ngroups != 1) ssm["ngroups"] = config.ngroups;
    if (config.chunk_size != 256) ssm["chunk_size"] = config.chunk_size;
    if (!has_default_limit(config)) ssm["dt_limit"] = config.dt_limit;
  }
  if (config.use_bias) ssm["bias"] = true;
  if (!config.use_conv_bias) ssm["conv_bias"] = false;
  return ssm;
}

void require_state_spaces_can_say(const ModelConfig& config) {
  require(config.activation.kind == ActivationKind::kSilu,
          "the state-spaces format cannot express conv_activation \"{}\": its loader would compute SiLU; "
          "use the Hugging Face format",
          activation_name(config.activation.kind));
  require(config.norm_eps == 1e-5,
          "the state-spaces format cannot express the norm epsilon {}: its loader uses 1e-5; use the Hugging "
          "Face format",
          config.norm_eps);
  require(has_default_limit(config) || std::isfinite(config.dt_limit[1]),
          "the state-spaces format cannot express time_step_limit [{}, {}]; use the Hugging Face format",
          config.dt_limit[0], config.dt_limit[1]);
}

}  // namespace

Json config_to_json(const ModelConfig& config, const std::string& dtype) {
  Json json = Json::object();
  add_type(config, json);
  json["vocab_size"] = config.vocab_rows;
  if (config.vocab_size != config.vocab_rows) json["unpadded_vocab_size"] = config.vocab_size;
  json["hidden_size"] = config.d_model;
  json["num_hidden_layers"] = config.n_layer;
  add_mixer(config, json);
  json["layer_norm_epsilon"] = config.norm_eps;
  json["tie_word_embeddings"] = config.tie_embeddings;
  json["residual_in_fp32"] = true;
  json["bos_token_id"] = id_or_null(config.bos_token_id);
  json["eos_token_id"] = id_or_null(config.eos_token_id);
  json["pad_token_id"] = id_or_null(config.pad_token_id);
  json["dtype"] = dtype;
  return json;
}

Json config_to_state_spaces_json(const ModelConfig& config) {
  require_state_spaces_can_say(config);
  Json json = Json::object();
  json["d_model"] = config.d_model;
  json["d_intermediate"] = 0;
  json["n_layer"] = config.n_layer;
  json["vocab_size"] = config.vocab_size;
  json["ssm_cfg"] = state_spaces_mixer(config);
  json["attn_layer_idx"] = Json::array();
  json["attn_cfg"] = Json::object();
  json["rms_norm"] = true;
  json["residual_in_fp32"] = true;
  json["fused_add_norm"] = true;
  json["pad_vocab_size_multiple"] = vocabulary_multiple(config);
  json["tie_embeddings"] = config.tie_embeddings;
  return json;
}

}  // namespace exactmamba::models
