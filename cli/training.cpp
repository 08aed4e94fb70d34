// The train stage: a recipe's options handed to the trainer.
#include <algorithm>

#include "cli/stages.h"
#include "core/distributed/communicator.h"
#include "core/json.h"
#include "decomp/decompose.h"
#include "eval/evaluation.h"
#include "models/model_options.h"
#include "train/trainer.h"

namespace exactmamba::cli {
namespace {

using core::Json;

constexpr int64_t kErrorRows = 8;  // of the validation data, for the error that is followed during training

std::vector<decomp::Row> first_rows(const data::Dataset& valid) {
  std::vector<decomp::Row> rows;
  for (int64_t index = 0; index < std::min(kErrorRows, valid.size()); ++index)
    rows.push_back(eval::row_to_decompose(valid, index));
  return rows;
}

/// The approximation error per layer, for train.eval_error: shows how it falls as α rises.
train::EvaluationHook error_hook(const Recipe& recipe, const data::Dataset& valid) {
  decomp::DecomposeOptions options = recipe.decompose;
  options.methods.clear();
  return [options, rows = first_rows(valid)](const models::MambaLM& model, int64_t) {
    const decomp::ErrorTable errors = decomp::decompose(model, rows, options).errors;
    const Json table = eval::error_json(errors, static_cast<int64_t>(rows.size()));
    return Json{{kErrorKey, table["measures"][options.error]}, {kErrorMeasureKey, options.error}};
  };
}

train::TrainSetup setup_of(const Recipe& recipe, const data::Datasets& datasets, const core::Stage& stage) {
  train::TrainSetup setup;
  setup.options = recipe.train;
  setup.options_hash = stage.name();
  setup.folder = stage.folder();
  setup.start = [&recipe, &datasets] {
    return models::make_model(recipe.model, datasets.train->vocab_size(),
                              static_cast<uint64_t>(recipe.run.seed), train::training_dtype(recipe.train),
                              recipe.train.annealing != "none");
  };
  setup.training = datasets.train;
  setup.validation = datasets.valid;
  setup.validation_rows = recipe.data.max_valid_rows;
  setup.shuffle = recipe.data.shuffle;
  setup.seed = static_cast<uint64_t>(recipe.run.seed);
  setup.prefetch = recipe.data.prefetch;
  if (recipe.train.eval_error && datasets.valid) setup.evaluation = error_hook(recipe, *datasets.valid);
  return setup;
}

}  // namespace

Json RunStages::run_training() const {
  const auto communicator = core::single_process_communicator();
  train::Trainer trainer(setup_of(run_.recipe, datasets_, train_), *communicator);
  trainer.run();
  return {{"model_checksum", trainer.model().parameters().checksum()},
          {"training", train::to_json(trainer.state())}};
}

}  // namespace exactmamba::cli
