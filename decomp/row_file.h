// A decomposed row on disk: one safetensors file with the row's maps as tensors, and in its metadata, under
// "info", JSON that says what they are:
//   row, tokens, cu_seqlens, model_checksum
//   maps    {name: {layer (null: whole model), method, approximation, bias, dtype}}
//   errors  {bias, dtype, approximations {name: [per layer: the sums of ApproximationError]}}
// In Python:
//     file = safetensors.safe_open("maps.safetensors", "numpy")
//     info = json.loads(file.metadata()["info"])
//     values = file.get_tensor("row0.layer2.activation.l2")
// The contributions of a row (`--full`) have a file like it: the tensors `pairs`, `layer{l}.{approximation}`
// and, with bias = separate, `layer{l}.{approximation}.bias` (RowContributions); `info` has `contributions`
// in the place of maps and errors.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/safetensors.h"
#include "decomp/decompose.h"

namespace exactmamba::decomp {

struct DecomposedRow {
  RowOrigin origin;
  std::vector<InteractionMap> maps;
  ErrorTable errors;
};

/// The content of a row's file.
struct RowFile {
  core::NamedTensors tensors;
  std::map<std::string, std::string> metadata;
};
/// @throws InputError when two maps have one name
RowFile row_file(const DecomposedRow& row);

RowFile contributions_file(const RowOrigin& origin, const RowContributions& contributions,
                           const DecomposeOptions& options);

/// Of a file of maps. @throws IoError; InputError, naming the file, when it is malformed, was changed since
/// it was written (its metadata has a hash of all of it), or has a newer format_version
DecomposedRow load_row(const std::filesystem::path& file);

}  // namespace exactmamba::decomp
