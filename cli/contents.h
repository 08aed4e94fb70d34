// What is in checkpoints, as JSON.
#pragma once

#include <filesystem>

#include "core/json.h"
#include "core/safetensors.h"

namespace exactmamba::cli {

/// [{name, dtype, shape, elements, not_finite: NaN and infinite values, where there are some}]
core::Json tensors_json(const core::NamedTensors& tensors);

/// Of a model folder, or that of a run (model_of()): {folder, config, parameters, files, training (of a run's
/// checkpoint)}; of a file: {files}; files is [{file, tensors}], {file, object: class name} for a file of
/// torch.save that has no state dict.
/// @throws IoError, InputError
core::Json contents_of(const std::filesystem::path& path);

}  // namespace exactmamba::cli
