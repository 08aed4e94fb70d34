// The tensors of a model folder, whatever their file format, under our names. Part of checkpoint.h.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/mamba_lm.h"
#include "models/tensor_names.h"

namespace exactmamba::models {

inline constexpr const char* kEmbeddingName = "backbone.embeddings.weight";
inline constexpr const char* kHeadName = "lm_head.weight";

struct StoredTensor {
  at::Tensor values;  // in the stored dtype; may be a read-only view of a mapped file
  std::string name;   // in the file, printable
  std::filesystem::path file;
};

using StoredWeights = std::map<std::string, StoredTensor>;  // by our names

/// Whether one of the files is there by which weight_files() begins.
bool has_weights(const std::filesystem::path& folder);
/// The files with the weights of a model folder: model.safetensors, or the shards of
/// model.safetensors.index.json, or pytorch_model.bin: the first that is there. Empty when none is.
/// @throws IoError, InputError: also for shard names that leave the folder
std::vector<std::filesystem::path> weight_files(const std::filesystem::path& folder);

/// Reads them. @throws IoError, InputError: also when there are none, and for names that meet in one of ours
StoredWeights read_stored_weights(const std::filesystem::path& folder, const TensorNames& names);

/// All that does not fit the config (missing, unexpected, other shape, other than floating numbers) in one
/// message. A tied head may be stored once more: then it must be equal, and it is taken out. @throws
/// InputError
void fit_to_config(StoredWeights& weights, const ModelConfig& config, const std::filesystem::path& folder);

/// "float32", "float16", "bfloat16" or "float64". @throws InputError for a dtype in which weights are not
/// stored
const char* storage_dtype_name(at::ScalarType dtype);

/// @throws NumericalError with the first index that is NaN or infinite. `where` names file and tensor.
void require_finite(const at::Tensor& values, const std::string& where);

/// A copy of a parameter, contiguous with a storage of its own. @throws NumericalError when a value does not
/// fit `storage`
at::Tensor parameter_to_store(const MambaLM& model, const std::string& name, at::ScalarType storage);

}  // namespace exactmamba::models
