// config.json → ModelConfig: transformers 4.x and 5.x (model_type), state-spaces and plain ones (d_model,
// n_layer).
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/version.h"
#include "models/config.h"

namespace exactmamba::models {
namespace {

using core::InputError;
using core::Json;
using core::require;

using Keys = std::initializer_list<const char*>;

std::string shown(const Json& value) { return core::printable(core::json_text(value)); }

/// One or more JSON objects, searched in order. Each look-up takes the spellings of one key; null counts as
/// absent.
class Fields {
 public:
  Fields(std::vector<const Json*> objects, const std::string& where)
      : objects_(std::move(objects)), where_(where) {}

  struct Found {
    const Json* value = nullptr;
    std::string key;
    explicit operator bool() const { return value != nullptr; }
  };

  Found find(Keys keys) const {
    for (const Json* object : objects_) {
      for (const char* key : keys) {
        const auto entry = object->find(key);
        if (entry != object->end() && !entry->is_null()) return {&*entry, key};
      }
    }
    return {};
  }

  void integer(Keys keys, int64_t& target) const {
    if (const Found found = find(keys)) target = as_integer(found);
  }
  int64_t required_integer(Keys keys) const {
    const Found found = find(keys);
    require(bool(found), "{}: no '{}': without it the model's size is unknown", where_, *keys.begin());
    return as_integer(found);
  }
  void number(Keys keys, double& target) const {
    if (const Found found = find(keys))
      target = core::json_number(*found.value, where_ + ": '" + found.key + "'");
  }
  void boolean(Keys keys, bool& target) const {
    if (const Found found = find(keys)) {
      require(found.value->is_boolean(), "{}: '{}' is {}, but it must be true or false", where_, found.key,
              shown(*found.value));
      target = found.value->get<bool>();
    }
  }
  std::optional<std::string> text(Keys keys) const {
    const Found found = find(keys);
    if (!found) return std::nullopt;
    require(found.value->is_string(), "{}: '{}' is {}, but it must be a string", where_, found.key,
            shown(*found.value));
    return found.value->get<std::string>();
  }

  int64_t as_integer(const Found& found) const {
    const Json& value = *found.value;
    const std::optional<int64_t> integer = integral(value);
    require(integer.has_value(), "{}: '{}' is {}, but it must be a whole number below 2^31", where_,
            found.key, shown(value));
    return *integer;
  }

 private:
  /// Below 2^31, so that products of two stay inside int64 before ModelConfig::check has seen them.
  static std::optional<int64_t> integral(const Json& value) {
    if (!value.is_number()) return std::nullopt;
    const double number = value.get<double>();
    if (number != std::floor(number) || std::abs(number) >= 0x1p31) return std::nullopt;
    return static_cast<int64_t>(number);
  }

  std::vector<const Json*> objects_;
  const std::string& where_;
};

int64_t token_id(const Fields& fields, const char* key) {
  Fields::Found found = fields.find({key});
  if (!found) return -1;
  if (found.value->is_array() && !found.value->empty())
    found.value = &found.value->front();  // several: the first
  return fields.as_integer(found);
}

void read_time_step_rank(const Fields& fields, ModelConfig& config) {
  const Fields::Found found = fields.find({"time_step_rank", "dt_rank"});
  if (!found || *found.value == "auto")
    config.dt_rank = default_dt_rank(config.d_model);
  else
    config.dt_rank = fields.as_integer(found);
}

void read_time_step_limit(const Fields& fields, const std::string& where, ModelConfig& config) {
  const Fields::Found found = fields.find({"time_step_limit", "dt_limit"});
  if (!found) return;
  require(found.value->is_array() && found.value->size() == 2,
          "{}: '{}' is {}, but it must be a list of two numbers", where, found.key, shown(*found.value));
  for (size_t i = 0; i < 2; ++i) {
    config.dt_limit[i] = core::json_number((*found.value)[i], where + ": '" + found.key + "'");
  }
}

void read_heads(const Fields& fields, const std::string& where, ModelConfig& config) {
  fields.integer({"head_dim", "headdim"}, config.headdim);
  const Fields::Found heads = fields.find({"num_heads"});
  if (!heads) return;
  const int64_t count = fields.as_integer(heads);
  require(count * config.headdim == config.d_inner(),
          "{}: num_heads {} x head_dim {} must be equal to expand x hidden_size = {}", where, count,
          config.headdim, config.d_inner());
}

/// What both families have, each key in all its spellings; transformers' spelling comes first and wins.
void read_common(const Fields& fields, const std::string& where, ModelConfig& config) {
  config.d_model = fields.required_integer({"hidden_size", "d_model"});
  config.n_layer = fields.required_integer({"num_hidden_layers", "n_layer"});
  fields.integer({"state_size", "d_state"}, config.d_state);
  fields.integer({"conv_kernel", "d_conv"}, config.d_conv);
  fields.integer({"expand"}, config.expand);
  fields.boolean({"use_bias", "bias"}, config.use_bias);
  fields.boolean({"use_conv_bias", "conv_bias"}, config.use_conv_bias);
  fields.boolean({"tie_word_embeddings", "tie_embeddings"}, config.tie_embeddings);
  fields.number({"layer_norm_epsilon", "rms_norm_eps"}, config.norm_eps);
  fields.number({"time_step_min", "dt_min"}, config.dt_init_min);
  fields.number({"time_step_max", "dt_max"}, config.dt_init_max);
  fields.number({"time_step_floor", "dt_init_floor"}, config.dt_init_floor);
  if (config.architecture == Architecture::kMamba1) {
    read_time_step_rank(fields, config);
  } else {
    fields.integer({"n_groups", "ngroups"}, config.ngroups);
    fields.integer({"chunk_size"}, config.chunk_size);
    read_time_step_limit(fields, where, config);
  }
  config.bos_token_id = token_id(fields, "bos_token_id");
  config.eos_token_id = token_id(fields, "eos_token_id");
  config.pad_token_id = token_id(fields, "pad_token_id");
}

void pad_vocabulary(const Fields& fields, const std::string& where, ModelConfig& config) {
  int64_t multiple = 8;
  fields.integer({"pad_vocab_size_multiple"}, multiple);
  require(multiple >= 1 && multiple <= int64_t{1} << 28,
          "{}: pad_vocab_size_multiple is {}, but it must lie between 1 and 2^28", where, multiple);
  if (config.vocab_size > 0) config.vocab_rows = padded_vocabulary(config.vocab_size, multiple);
}

/// Parts of hybrid models that are not Mamba mixers.
void refuse_other_layers(const Fields& fields, const std::string& where) {
  if (const Fields::Found found = fields.find({"attn_layer_idx"})) {
    require(found.value->is_array() && found.value->empty(),
            "{}: 'attn_layer_idx' is {}: attention layers are not supported", where, shown(*found.value));
  }
  int64_t d_intermediate = 0;
  fields.integer({"d_intermediate"}, d_intermediate);
  require(d_intermediate == 0, "{}: 'd_intermediate' is {}: MLP layers are not supported", where,
          d_intermediate);
  if (const Fields::Found found = fields.find({"quantization_config"})) {
    throw InputError(fmt::format("{}: 'quantization_config': quantised weights are not supported", where));
  }
}

// ---- transformers ----

Architecture transformers_architecture(const Fields& fields, const std::string& type,
                                       const std::string& where) {
  if (type == "mamba") return Architecture::kMamba1;
  if (type == "mamba2") return Architecture::kMamba2;
  require(type == "exactmamba",
          "{}: model_type \"{}\" is not supported; supported are mamba, mamba2 and exactmamba", where,
          core::printable(type));
  const std::string name = fields.text({"architecture"}).value_or("");
  if (name == architecture_name(Architecture::kMamba1)) return Architecture::kMamba1;
  if (name == architecture_name(Architecture::kMamba2)) return Architecture::kMamba2;
  throw InputError(fmt::format("{}: 'architecture' is \"{}\", but it must be \"mamba1\" or \"mamba2\"", where,
                               core::printable(name)));
}

/// hidden_act was the convolution's activation and, in Mamba-1 of transformers 4.x, the gate's too.
void check_hidden_act(const Fields& fields, const std::string& where) {
  const std::string name = fields.text({"hidden_act"}).value_or("silu");
  if (name == "silu" || name == "swish") return;
  if (name == "relu" || name == "linear" || name == "identity") {
    const char* ours = name == "relu" ? "relu" : "identity";
    throw InputError(fmt::format(
        "{}: hidden_act \"{}\" means different functions in different versions of transformers; set "
        "hidden_act to \"silu\" (the gate) and add \"conv_activation\": \"{}\"",
        where, name, ours));
  }
  throw InputError(
      fmt::format("{}: hidden_act \"{}\" is not supported; the gate is always \"silu\", and "
                  "conv_activation may be silu, relu or identity",
                  where, core::printable(name)));
}

ModelConfig read_transformers(const Json& json, const std::string& type, const std::string& where) {
  const Fields fields({&json}, where);
  ModelConfig config;
  config.architecture = transformers_architecture(fields, type, where);
  const bool mamba2 = config.architecture == Architecture::kMamba2;
  if (mamba2) {  // the defaults of Mamba2Config
    config.d_state = 128;
    config.ngroups = 8;
  }
  config.tie_embeddings = !mamba2;
  check_hidden_act(fields, where);
  read_common(fields, where, config);
  if (mamba2) read_heads(fields, where, config);

  config.vocab_rows = config.vocab_size = fields.required_integer({"vocab_size"});
  const bool foreign_spelling =
      !fields.find({"hidden_size"});  // conversions older than transformers' own pad by themselves
  if (foreign_spelling) pad_vocabulary(fields, where, config);
  fields.integer({"unpadded_vocab_size"}, config.vocab_size);
  return config;
}

// ---- state-spaces ----

Architecture state_spaces_architecture(const Fields& ssm, const std::string& where) {
  const std::string layer = ssm.text({"layer"}).value_or("Mamba1");
  if (layer == "Mamba1") return Architecture::kMamba1;
  require(layer == "Mamba2", "{}: ssm_cfg.layer \"{}\" is not supported; supported are Mamba1 and Mamba2",
          where, layer);
  return Architecture::kMamba2;
}

/// ssm_cfg goes to the mixer's constructor, so a key that is not known here may change the function.
void refuse_unknown_ssm_keys(const Json& ssm, const std::string& where) {
  static const std::vector<std::string> kKnown = {
      "layer",         "d_state",          "d_conv",   "expand",        "dt_rank",   "dt_min",
      "dt_max",        "dt_init",          "dt_scale", "dt_init_floor", "conv_bias", "bias",
      "use_fast_path", "headdim",          "ngroups",  "chunk_size",    "dt_limit",  "conv_init",
      "A_init_range",  "use_mem_eff_path", "d_ssm",    "D_has_hdim",    "rmsnorm",   "norm_before_gate"};
  for (const auto& item : ssm.items()) {
    require(std::find(kKnown.begin(), kKnown.end(), item.key()) != kKnown.end(),
            "{}: ssm_cfg.{} is not known, and it may change what the model computes", where,
            core::printable(item.key()));
  }
}

void refuse_flag(const Fields& fields, const char* key, bool supported, const std::string& where) {
  bool value = supported;
  fields.boolean({key}, value);
  require(value == supported, "{}: '{}' is {}: only {} is supported", where, key, value, supported);
}

void check_state_spaces(const Fields& fields, const ModelConfig& config, const std::string& where) {
  refuse_flag(fields, "rms_norm", true, where);
  refuse_flag(fields, "rmsnorm", true, where);
  refuse_flag(fields, "norm_before_gate", false, where);
  refuse_flag(fields, "D_has_hdim", false, where);
  int64_t d_ssm = config.d_inner();
  fields.integer({"d_ssm"}, d_ssm);
  require(d_ssm == config.d_inner(), "{}: ssm_cfg.d_ssm is {}: only the whole inner width {} is supported",
          where, d_ssm, config.d_inner());
}

ModelConfig read_state_spaces(const Json& json, const std::string& where) {
  static const Json kEmpty = Json::object();
  const auto found = json.find("ssm_cfg");
  const Json& ssm = found == json.end() || found->is_null() ? kEmpty : *found;
  require(ssm.is_object(), "{}: 'ssm_cfg' is {}, but it must be an object", where, shown(ssm));
  const Fields fields({&ssm, &json}, where);  // plain configs have the mixer's keys at the top
  ModelConfig config;
  config.architecture = state_spaces_architecture(fields, where);
  refuse_unknown_ssm_keys(ssm, where);
  if (config.architecture == Architecture::kMamba2) config.d_state = 128;
  read_common(fields, where, config);
  fields.integer({"headdim"}, config.headdim);
  check_state_spaces(fields, config, where);

  config.vocab_rows = config.vocab_size = fields.required_integer({"vocab_size"});
  pad_vocabulary(fields, where, config);
  return config;
}

// ---- our own keys ----

void refuse_newer_format(const Fields& fields, const std::string& where) {
  int64_t version = core::kFormatVersion;
  fields.integer({"exactmamba_format_version"}, version);
  require(version >= 1 && version <= core::kFormatVersion,
          "{}: exactmamba_format_version is {}, but this program reads up to {}: use a newer exactmamba",
          where, version, core::kFormatVersion);
}

void read_activation(const Fields& fields, const std::string& where, ModelConfig& config) {
  const std::optional<std::string> name = fields.text({"conv_activation"});
  if (!name) return;
  config.activation.kind = activation_from_name(*name, where + ": 'conv_activation'");
  if (config.activation.kind != ActivationKind::kSilu) {
    fields.number({"conv_activation_alpha"}, config.activation.alpha);
  }
}

}  // namespace

ModelConfig config_from_json(const Json& json, const std::string& where) {
  require(json.is_object(), "{}: holds {}, but a model's config is a JSON object", where, shown(json));
  const Fields fields({&json}, where);
  refuse_newer_format(fields, where);
  refuse_other_layers(fields, where);
  const std::optional<std::string> type = fields.text({"model_type"});
  require(type || fields.find({"d_model"}),
          "{}: neither 'model_type' (transformers) nor 'd_model' (state-spaces): "
          "this is not the config of a Mamba model",
          where);
  ModelConfig config = type ? read_transformers(json, *type, where) : read_state_spaces(json, where);
  read_activation(fields, where, config);
  config.check(where);
  return config;
}

}  // namespace exactmamba::models
