// run.output: a copy of the recipe, a record of the last run, and stages/ (stages.h).
#pragma once

#include <filesystem>

#include "cli/recipe.h"

namespace exactmamba::cli {

/// Makes the output folder ready: recipe.toml is a copy of the recipe, and run.json says what was run, with
/// every --set. @throws IoError when it holds something else, or recipe.toml was changed, and `overwrite` is
/// false
void prepare_output(const RecipeFile& file, bool overwrite);

/// Whether prepare_output() has made it.
bool is_run_folder(const std::filesystem::path& folder);

/// `folder`, or of what it lies in the nearest that is there: a folder, or a file that is in the way.
std::filesystem::path nearest_existing(const std::filesystem::path& folder);

/// @throws IoError unless `folder` is one, or can be made
void require_makeable(const std::filesystem::path& folder);
/// As place_of(), of the default "run.output" alone.
std::string place_of_output(const RecipeRun& run);

/// With its parents. @throws IoError
void make_folder(const std::filesystem::path& folder);

}  // namespace exactmamba::cli
