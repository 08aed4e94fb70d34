// The report of a recipe's runs, from their finished stages (eval/report.h has its format).
#pragma once

#include <memory>
#include <vector>

#include "cli/stages.h"
#include "core/json.h"

namespace exactmamba::cli {

/// Of the runs in `stages`; those of `file` that are missing there diverged, and the report names them.
/// @throws InputError when a stage is not done
core::Json report_document(const RecipeFile& file, const std::vector<std::unique_ptr<RunStages>>& stages);

}  // namespace exactmamba::cli
