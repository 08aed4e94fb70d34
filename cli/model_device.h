// Models from the command line, where they shall compute.
#pragma once

#include <filesystem>

#include "cli/commands.h"
#include "models/mamba_lm.h"

namespace exactmamba::cli {

/// Loads the model in `folder`. "auto" takes a GPU for what a GPU can do: float64 stays on the CPU. @throws
/// InputError when the device does not compute in what is asked for, and what load_model throws
models::MambaLM load_model_on_device(const ModelArguments& arguments, const std::filesystem::path& folder);

}  // namespace exactmamba::cli
