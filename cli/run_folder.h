// run.output: a copy of the recipe, a record of the last run, and stages/ (stages.h).
#pragma once

#include <filesystem>

#include "cli/recipe.h"

namespace exactmamba::cli {

/// Makes the output folder ready: recipe.toml is a copy of the recipe, and run.json says what was run, with
/// every --set. @throws IoError when it holds something else, or recipe.toml was changed, and `overwrite` is
/// false
void prepare_output(const RecipeFile& file, bool overwrite);

/// With its parents. @throws IoError
void make_folder(const std::filesystem::path& folder);

}  // namespace exactmamba::cli
