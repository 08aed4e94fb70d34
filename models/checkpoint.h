// Model folders, in and out: Hugging Face (config.json + safetensors, single or sharded; fp32, fp16, bf16)
// and state-spaces (config.json + pytorch_model.bin, zip or legacy).
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "models/mamba_lm.h"

namespace exactmamba::models {

struct LoadOptions {
  /// Of the loaded model. Wider values (float64 for kFloat) are rounded, all others are promoted exactly.
  at::ScalarType dtype = at::kFloat;
  /// TOML table of foreign tensor names → ours, `*` stands for the layer number.
  std::optional<std::filesystem::path> names;
};

/// Checks config, names, shapes and finiteness before a parameter is touched. @throws IoError, InputError,
/// NumericalError (NaN weights)
MambaLM load_model(const std::filesystem::path& folder, const LoadOptions& options = {});
ModelConfig load_config(const std::filesystem::path& folder);
/// That names and shapes of a model folder's weights fit its config; nothing is loaded. @throws IoError,
/// InputError
void check_weights(const std::filesystem::path& folder);
/// In which all tensors of a model folder are stored; kFloat where they differ. @throws IoError, InputError
at::ScalarType stored_dtype(const std::filesystem::path& folder,
                            const std::optional<std::filesystem::path>& names = {});

/// Writes config.json and model.safetensors into an existing folder (an AtomicFolder's). `storage`: kFloat,
/// kHalf, kBFloat16 or kDouble.
void save_model(const MambaLM& model, const std::filesystem::path& folder,
                at::ScalarType storage = at::kFloat);
/// config.json and pytorch_model.bin as state-spaces has them. @throws InputError for activations other than
/// SiLU.
void save_state_spaces(const MambaLM& model, const std::filesystem::path& folder,
                       at::ScalarType storage = at::kFloat);

}  // namespace exactmamba::models
