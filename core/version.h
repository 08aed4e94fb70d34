// Versions of the program and of its formats.
#pragma once

namespace exactmamba::core {

const char* version();        // semantic version of the program
const char* torch_version();  // of the LibTorch that it runs with

/// Version of checkpoints, interaction maps and reports. Files with a newer one are refused by name.
inline constexpr int kFormatVersion = 1;

}  // namespace exactmamba::core
