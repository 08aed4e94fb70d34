// The files in a folder of maps, which interaction_map.h describes.
#pragma once

#include <string>
#include <vector>

namespace exactmamba::decomp {

inline constexpr const char* kMapTensorFile = "maps.safetensors";
inline constexpr const char* kMapInfoFile = "maps.json";

/// All that such a folder holds.
inline std::vector<std::string> map_files() { return {kMapTensorFile, kMapInfoFile}; }

}  // namespace exactmamba::decomp
