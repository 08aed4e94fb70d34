// The weights of a model folder, for tests that change them.
#pragma once

#include <filesystem>

#include "core/safetensors.h"

namespace exactmamba::testing {

inline core::NamedTensors weights_of(const std::filesystem::path& folder) {
  core::NamedTensors tensors;
  const core::SafetensorsFile file(folder / "model.safetensors");
  for (const std::string& name : file.names()) tensors.emplace_back(name, file.tensor(name).clone());
  return tensors;
}

}  // namespace exactmamba::testing
