// A recipe: the option structs of all rooms, declared in one schema, and the runs of its sweep.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/distributed/job.h"
#include "core/schema.h"
#include "data/data_options.h"
#include "decomp/options.h"
#include "eval/options.h"
#include "models/model_options.h"
#include "train/train_options.h"

namespace exactmamba::cli {

struct RunOptions {
  std::string name, output;  // empty: from the recipe's file name
  std::string continues;     // label of a run of the same recipe; empty: none
  int64_t seed = 0;
  int64_t threads = 0;
  std::string device = "auto";
  int64_t peer_timeout = core::kPeerTimeout.count();
};

struct Recipe {
  RunOptions run;
  models::ModelOptions model;
  data::DataOptions data;
  train::TrainOptions train;
  decomp::DecomposeOptions decompose;
  eval::EvaluateOptions evaluate;
  eval::ReportOptions report;
  eval::PublishedOptions published;
};

/// Declares every option of `recipe` and the rules between rooms.
void bind(core::Schema& schema, Recipe& recipe);

/// One run of the sweep. The schema points into the recipe: not copied, not moved.
struct RecipeRun {
  std::string label;
  std::vector<core::Schema::Assignment> assignments;  // of the sweep
  Recipe recipe;
  core::Schema schema;
  const RecipeRun* base = nullptr;  // of run.continues, in front of this one; it lives as long [nullable]

  /// For tables and messages: the label in the sweep, or the run's name.
  std::string name() const { return label.empty() ? recipe.run.name : label; }
};

/// Keys of the values that rows of these runs may have, each once (eval/row_values.h).
std::vector<std::string> value_keys(const std::vector<std::unique_ptr<RecipeRun>>& runs);

struct RecipeFile {
  std::string name;  // as given
  std::string text;
  std::vector<std::string> sets;
  std::vector<std::unique_ptr<RecipeRun>> runs;  // at least one
  const Recipe& first() const { return runs.front()->recipe; }
};

/// Reads `file` ("-": stdin) and loads every run with `sets` on top. @throws IoError; InputError with all
/// problems of all runs
RecipeFile load_recipe(const std::string& file, const std::vector<std::string>& sets);

/// [model] of a run that continues from `checkpoint`, for messages a run's label, without naming it itself.
models::ModelOptions continued_options(models::ModelOptions options, const std::string& checkpoint);

/// docs/recipes.md
std::string recipe_reference();

}  // namespace exactmamba::cli
