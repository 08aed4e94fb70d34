#include "eval/comet/comet_config.h"

#include <utility>
#include <yaml-cpp/yaml.h>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/json.h"

namespace exactmamba::eval {
namespace {

using core::require;

constexpr int64_t kMostUnits = int64_t{1} << 24;  // of any size: what multiplies two of them stays an int64_t

/// What is computed here; other models have other values.
constexpr std::pair<const char*, const char*> kOnlyValues[] = {{"class_identifier", "regression_metric"},
                                                               {"encoder_model", "XLM-RoBERTa"},
                                                               {"layer", "mix"},
                                                               {"layer_norm", "false"},
                                                               {"pool", "avg"},
                                                               {"activations", "Tanh"},
                                                               {"final_activation", "null"}};

std::string place(const std::filesystem::path& file, const YAML::Mark& mark) {
  return mark.is_null() ? file.string()
                        : fmt::format("{}:{}:{}", file.string(), mark.line + 1, mark.column + 1);
}

YAML::Node entry(const std::filesystem::path& file, const YAML::Node& root, const std::string& key) {
  require(root.IsMap() && root[key].IsDefined(),
          "{}: has no key '{}', which the hparams.yaml of a COMET model has", file.string(), key);
  return root[key];
}

/// For messages.
std::string text_of(const YAML::Node& node) {
  if (node.IsNull()) return "null";
  return node.IsScalar() ? core::printable(node.Scalar()) : "a table or list";
}

CometConfig config_of(const std::filesystem::path& file, const YAML::Node& root) {
  for (const auto& [key, value] : kOnlyValues) {
    const YAML::Node node = entry(file, root, key);
    require(text_of(node) == value,
            "{}: {} is {}, but only {} is computed here (models such as wmt22-comet-da)",
            place(file, node.Mark()), key, text_of(node), value);
  }
  const YAML::Node sizes = entry(file, root, "hidden_sizes");
  CometConfig config;
  config.hidden_sizes = sizes.as<std::vector<int64_t>>();
  for (const int64_t size : config.hidden_sizes)
    require(size > 0 && size <= kMostUnits, "{}: hidden_sizes has {}, but sizes are 1 to {}",
            place(file, sizes.Mark()), size, kMostUnits);
  const YAML::Node mix = entry(file, root, "layer_transformation");
  config.sparsemax = mix.Scalar() == "sparsemax";
  require(config.sparsemax || mix.Scalar() == "softmax",
          "{}: layer_transformation is {}, but only softmax and sparsemax are computed here",
          place(file, mix.Mark()), text_of(mix));
  return config;
}

int64_t size_from(const core::Json& json, const char* key, const std::string& where) {
  require(json.contains(key) && json[key].is_number_integer() && json[key] > 0 && json[key] <= kMostUnits,
          "{}: {} is missing, or no whole number from 1 to {}", where, key, kMostUnits);
  return json[key];
}

}  // namespace

std::string comet_model_name(const std::filesystem::path& folder) {
  const std::filesystem::path whole = std::filesystem::absolute(folder / "").lexically_normal();
  return core::printable(whole.parent_path().filename().string());
}

CometFiles::CometFiles(const std::filesystem::path& folder)
    : hparams(folder / "hparams.yaml"),
      checkpoint(folder / "checkpoints" / "model.ckpt"),
      encoder_config(folder / "encoder" / "config.json"),
      sentencepiece(folder / "encoder" / "sentencepiece.bpe.model") {
  require<core::IoError>(
      !std::filesystem::is_regular_file(folder),
      "{}: is a file, and not the folder of a COMET model, which has hparams.yaml, checkpoints/ and encoder/",
      folder.string());
  std::string missing;
  for (const auto& file : {hparams, checkpoint, encoder_config, sentencepiece})
    if (!std::filesystem::is_regular_file(file)) missing += (missing.empty() ? "" : ", ") + file.string();
  require<core::IoError>(missing.empty(),
                         "no COMET model in {}: missing {}. Put there hparams.yaml and "
                         "checkpoints/model.ckpt of huggingface.co/Unbabel/wmt22-comet-da, "
                         "and into encoder/ config.json and sentencepiece.bpe.model of its encoder, "
                         "huggingface.co/FacebookAI/xlm-roberta-large",
                         folder.string(), missing);
}

std::string fingerprint(const CometFiles& files) {
  std::string hashes;
  for (const auto& file : {files.hparams, files.checkpoint, files.encoder_config, files.sentencepiece})
    hashes += core::hash_file_hex(file) + "\n";
  return core::hash_hex(hashes);
}

CometConfig read_comet_config(const std::filesystem::path& file) {
  const std::string text = core::read_file(file);
  try {
    return config_of(file, YAML::Load(text));
  } catch (const YAML::Exception& error) {
    throw core::InputError(fmt::format("{}: {}", place(file, error.mark), core::printable(error.msg)));
  }
}

XlmrConfig read_xlmr_config(const std::filesystem::path& file) {
  const core::Json json = core::read_json(file);
  const std::string where = file.string();
  const auto require_value = [&](const char* key, const core::Json& value) {
    require(json.is_object() && json.contains(key) && json[key] == value,
            "{}: {} is {}, but only {} is computed here", where, key,
            json.is_object() && json.contains(key) ? core::printable(core::json_text(json[key])) : "missing",
            core::json_text(value));
  };
  require_value("model_type", "xlm-roberta");
  require_value("hidden_act", "gelu");
  require_value("pad_token_id", 1);
  XlmrConfig config{};
  config.vocab_size = size_from(json, "vocab_size", where);
  config.hidden_size = size_from(json, "hidden_size", where);
  config.layers = size_from(json, "num_hidden_layers", where);
  config.heads = size_from(json, "num_attention_heads", where);
  config.intermediate_size = size_from(json, "intermediate_size", where);
  config.positions = size_from(json, "max_position_embeddings", where);
  require(json.contains("layer_norm_eps"), "{}: layer_norm_eps is missing", where);
  config.layer_norm_epsilon = core::json_number(json["layer_norm_eps"], where + ": layer_norm_eps");
  require(config.hidden_size % config.heads == 0,
          "{}: hidden_size {} is no multiple of num_attention_heads {}", where, config.hidden_size,
          config.heads);
  require(config.positions > 6, "{}: max_position_embeddings {} leaves no room for a text", where,
          config.positions);
  return config;
}

}  // namespace exactmamba::eval
