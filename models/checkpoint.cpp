#include "models/checkpoint.h"

#include <set>

#include "core/error.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "models/stored_weights.h"
#include "models/tensor_names.h"

namespace exactmamba::models {
namespace {

StoredWeights weights_of(const std::filesystem::path& folder,
                         const std::optional<std::filesystem::path>& names) {
  return read_stored_weights(folder, names ? TensorNames(*names) : TensorNames());
}

}  // namespace

ModelConfig load_config(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "config.json";
  core::require<core::IoError>(std::filesystem::is_directory(folder), "{} is not a folder with a model",
                               folder.string());
  return config_from_json(core::read_json(file), file.string());
}

at::ScalarType stored_dtype(const std::filesystem::path& folder,
                            const std::optional<std::filesystem::path>& names) {
  load_config(folder);  // a folder without one is no model folder
  std::set<at::ScalarType> dtypes;
  for (const auto& [name, stored] : weights_of(folder, names)) dtypes.insert(stored.values.scalar_type());
  return dtypes.size() == 1 ? *dtypes.begin() : at::kFloat;
}

void check_weights(const std::filesystem::path& folder) {
  StoredWeights weights = weights_of(folder, {});
  fit_to_config(weights, load_config(folder), folder);
}

MambaLM load_model(const std::filesystem::path& folder, const LoadOptions& options) {
  const ModelConfig config = load_config(folder);
  StoredWeights weights = weights_of(folder, options.names);
  fit_to_config(weights, config, folder);
  for (auto& [name, stored] : weights) {
    require_finite(stored.values.to(options.dtype), fmt::format("{}: {}", stored.file.string(), stored.name));
  }
  MambaLM model(config, options.dtype);
  for (const auto& [name, stored] : weights) model.parameters().parameter(name).copy_(stored.values);
  return model;
}

void save_model(const MambaLM& model, const std::filesystem::path& folder, at::ScalarType storage) {
  core::Json config = config_to_json(model.config(), storage_dtype_name(storage));
  core::NamedTensors tensors;
  for (const ParameterSpec& spec : model.parameters().specs()) {
    tensors.emplace_back(spec.name, parameter_to_store(model, spec.name, storage));
  }
  core::write_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  core::write_json(folder / "config.json", config);
}

}  // namespace exactmamba::models
