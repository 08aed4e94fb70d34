// The files that a recipe names, looked at before any work.
#pragma once

#include "cli/recipe.h"
#include "core/error.h"

namespace exactmamba::cli {

/// kEvaluation: not of data.train and data.exclude, which the work begins with and which may be large.
enum class ReadThrough { kEvaluation, kAll };
/// kSaidByOthers: by a process that is started next and looks at the files, too.
enum class Warnings { kSay, kSaidByOthers };

/// That every file of every run is there, and the tokenizer; that none of those to read through is empty, or
/// has other sentences than there are beside it; and that gold links fit their sentences. All problems at
/// once, a line each with the place in the recipe. kAll: where there is none, also whether the pairs of a
/// translation make rows, whether token ids are what training takes, and whether anything is left of text.
/// Of several files one that is empty is only warned of.
/// @throws IoError when something is missing; InputError
void check_files(const RecipeFile& file, ReadThrough what, Warnings warnings_are = Warnings::kSay);
/// The same of one run, kAll.
void check_files_of(const RecipeRun& run);

/// "r.toml:3:9: data.train"
std::string place_of(const RecipeRun& run, const std::string& key);

/// Makes something of a run's data. When that is refused, what check_files() finds in the files of the run,
/// with its place, is thrown instead.
template <class Make>
auto with_places(const RecipeRun& run, const Make& make) {
  try {
    return make();
  } catch (const core::IoError&) {
    check_files_of(run);
    throw;
  } catch (const core::InputError&) {
    check_files_of(run);
    throw;
  }
}

}  // namespace exactmamba::cli
