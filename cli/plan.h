// What a run needs, known before anything is allocated.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/recipe.h"
#include "models/config.h"

namespace exactmamba::cli {

struct Need {
  int64_t vocabulary = 0;      // token ids of the data; of data.tokenizer = "bpe" at most
  models::ModelConfig config;  // of the new model, or of the one to continue from
  int64_t parameters = 0;
  int64_t steps = 0;
  int64_t tokens = 0;  // positions fed to the model at most: steps · batch · accumulation · context
  int64_t memory_bytes =
      0;  // estimate for training: weights, gradients, two moments, activations of one micro-batch
};

/// Checks that the output can be a folder, and that the starting checkpoint and the sizes are there and fit.
/// Opens no data. @throws IoError, InputError
Need need_of(const RecipeRun& run);

/// What keeps this machine from training the run: a device that is not there, or that does not compute in
/// what is asked for; "" for nothing. Decomposing and evaluating may be possible all the same.
std::string device_problem(const RecipeRun& run);
/// "about 96.0 GiB of memory are needed to train …, 24.0 GiB are there [data.context = …]"; "" where a GPU
/// trains, or the estimate fits.
std::string memory_problem(const RecipeRun& run, const Need& need);

/// need_of() of every run, in their order: all problems at once. @throws IoError, InputError
std::vector<Need> needs_of_runs(const RecipeFile& file);

/// Checks every run's files (check_files(), all but the training text) and need, so that nothing is refused
/// after the first stage, and sets run.threads unless the command line has --threads. @throws IoError,
/// InputError
void check_needs(const RecipeFile& file, const RecipeArguments& arguments);
/// load_recipe() and check_needs(). @throws as they do
RecipeFile checked_recipe(const RecipeArguments& arguments);

}  // namespace exactmamba::cli
