// The report of a recipe's runs, from their finished stages (eval/report.h has its format).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/stages.h"
#include "core/json.h"

namespace exactmamba::cli {

/// Runs whose rows have no values, and what the tables say in their place: "not run".
using Unfinished = std::map<const RecipeRun*, std::string>;

/// Of the runs in `stages` and of those in `unfinished`; what else `file` has diverged, and the report names
/// it. @throws InputError when a stage is not done
core::Json report_document(const RecipeFile& file, const std::vector<std::shared_ptr<RunStages>>& stages,
                           const Unfinished& unfinished);

}  // namespace exactmamba::cli
