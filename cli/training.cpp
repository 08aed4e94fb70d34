// The train stage: a recipe's options handed to the trainer.
#include <algorithm>
#include <limits>
#include <optional>

#include <ATen/ops/zeros.h>

#include "cli/model_origin.h"
#include "cli/stages.h"
#include "core/checksums.h"
#include "core/device.h"
#include "core/error.h"
#include "core/json.h"
#include "core/stop_signal.h"
#include "data/translation.h"
#include "decomp/decompose.h"
#include "eval/bleu.h"
#include "eval/copying.h"
#include "eval/evaluation.h"
#include "eval/translation.h"
#include "models/checkpoint.h"
#include "models/model_options.h"
#include "train/trainer.h"
#include "train/training_checkpoint.h"

namespace exactmamba::cli {
namespace {

using core::Json;

std::vector<decomp::Row> first_rows(const data::Dataset& valid) {
  std::vector<decomp::Row> rows;
  for (int64_t index = 0; index < std::min(train::kErrorRows, valid.size()); ++index)
    rows.push_back(eval::row_to_decompose(valid, index));
  return rows;
}

/// The approximation error per layer under every measure: shows how it falls as α rises.
train::EvaluationHook error_hook(const Recipe& recipe, const data::Dataset& valid) {
  decomp::DecomposeOptions options = recipe.decompose;
  options.methods.clear();
  return [options, rows = first_rows(valid)](const models::MambaLM& model, int64_t) {
    const bool elsewhere = !model.placement().device.is_cpu();
    const std::optional<models::MambaLM> copy =
        elsewhere ? std::optional(model.to(model.placement().dtype)) : std::nullopt;
    const decomp::ErrorTable errors = decomp::decompose(copy ? *copy : model, rows, options).errors;
    return Json{{kErrorKey, eval::error_json(errors, static_cast<int64_t>(rows.size()))["measures"]}};
  };
}

/// Characters and strings right, for the copy task. A stop is left to the trainer: it asks for one when the
/// evaluation is in the log, and saves a checkpoint.
train::EvaluationHook copy_hook(const Recipe& recipe, const data::CopyTask& task) {
  return [batch_size = recipe.train.batch_size, rows = recipe.data.max_valid_rows, &task](
             const models::MambaLM& model, int64_t) {
    const eval::CopyAccuracy accuracy = eval::teacher_forced_accuracy(model, task, batch_size, rows, false);
    return Json{{"character_accuracy", accuracy.character()}, {"string_accuracy", accuracy.string()}};
  };
}

/// What BLEU counts in greedy translations. @throws Interrupted between batches
std::vector<double> greedy_statistics(const eval::Bleu& bleu, const models::MambaLM& model,
                                      const data::TranslationTokenizer& tokenizer,
                                      const std::vector<std::string>& sources,
                                      const eval::References& references) {
  if (sources.empty()) return {};
  eval::TranslateOptions greedy;
  greedy.beam = 1;
  const std::vector<std::string> found =
      eval::translate(model, tokenizer, sources, greedy, [](int64_t) { core::stop_if_asked("translating"); });
  return eval::SegmentStatistics(bleu, found, references).sums();
}

/// BLEU of the validation pairs, translated greedily: each process takes every size-th of them, and what BLEU
/// counts in them is summed. Where one of them finds logits that are not finite, it is none (NaN) for all;
/// and all stop where one was asked to.
train::EvaluationHook bleu_hook(const Recipe& recipe, const data::TranslationRows& valid,
                                core::Communicator& communicator) {
  std::vector<std::string> sources;
  eval::References references;
  const int64_t most = recipe.data.max_valid_rows,
                pairs = most > 0 ? std::min(most, valid.size()) : valid.size();
  for (int64_t i = communicator.rank(); i < pairs; i += communicator.size()) {
    sources.push_back(valid.pairs()[i].source);
    references.push_back({valid.pairs()[i].target});
  }
  return [sources, references, &valid, &communicator](const models::MambaLM& model, int64_t) {
    const eval::Bleu bleu;
    const size_t stopped = bleu.width(), not_finite = stopped + 1;  // processes, behind what BLEU counts
    const at::Tensor sums = at::zeros({static_cast<int64_t>(bleu.width()) + 2}, at::kDouble);
    auto* values = sums.mutable_data_ptr<double>();
    try {
      const std::vector<double> own = greedy_statistics(bleu, model, valid.tokenizer(), sources, references);
      std::copy(own.begin(), own.end(), values);
    } catch (const core::Interrupted&) {
      values[stopped] = 1;
    } catch (const core::NumericalError&) {
      values[not_finite] = 1;
    }
    communicator.all_reduce_sum(sums);
    if (values[stopped] > 0) throw core::Interrupted(core::agreed_stop(), "stopped while translating");
    if (values[not_finite] > 0) return Json{{kBleuKey, std::numeric_limits<double>::quiet_NaN()}};
    return Json{{kBleuKey, bleu.score({values, bleu.width()})}};
  };
}

/// What evaluations measure beside loss and accuracy.
train::EvaluationHook evaluation_hook(const Recipe& recipe, const data::Dataset& valid,
                                      core::Communicator& communicator) {
  std::vector<train::EvaluationHook> hooks;
  if (const auto* task = dynamic_cast<const data::CopyTask*>(&valid))
    hooks.push_back(copy_hook(recipe, *task));
  if (recipe.train.eval_error) hooks.push_back(error_hook(recipe, valid));
  if (const auto* pairs = dynamic_cast<const data::TranslationRows*>(&valid);
      pairs && recipe.train.best_measure == kBleuKey)
    hooks.push_back(bleu_hook(recipe, *pairs, communicator));
  return [hooks](const models::MambaLM& model, int64_t step) {
    Json measures = Json::object();
    for (const train::EvaluationHook& hook : hooks) measures.update(hook(model, step));
    return measures;
  };
}

/// But for the start.
train::TrainSetup setup_of(const Recipe& recipe, const data::Datasets& datasets, const core::Stage& stage,
                           core::Communicator& communicator) {
  train::TrainSetup setup;
  setup.options = recipe.train;
  setup.options_hash = stage.name();
  setup.folder = stage.folder();
  setup.device = core::device_from_name(recipe.run.device);
  setup.training = datasets.train;
  setup.validation = datasets.valid;
  setup.validation_rows = recipe.data.max_valid_rows;
  setup.shuffle = recipe.data.shuffle;
  setup.seed = static_cast<uint64_t>(recipe.run.seed);
  setup.prefetch = recipe.data.prefetch;
  setup.model_files = datasets.tokenizer_files;
  if (datasets.valid) setup.evaluation = evaluation_hook(recipe, *datasets.valid, communicator);
  return setup;
}

/// The update whose weights are the training's result.
int64_t resulting_step(const train::TrainOptions& options, const train::TrainState& state) {
  return options.result == "best" && state.best ? state.best->step : state.step;
}

std::string resulting_checksum(const train::Trainer& trainer, const core::Stage& stage, int64_t step) {
  if (step == trainer.state().step) return trainer.model().parameters().checksum();
  const auto folder = train::checkpoint_path(stage.folder(), step);
  const std::optional<std::string> problem = core::find_damage(folder);
  core::require(!problem, "{}; delete {} to train again", problem.value_or(""), stage.folder().string());
  models::LoadOptions options;
  options.dtype = trainer.model().parameters().dtype();
  return models::load_model(folder, options).parameters().checksum();
}

/// By the names of the stage's inputs.
Json data_names(const data::Datasets& datasets) {
  Json names = {{kTrainingData, datasets.train->name()}};
  if (datasets.valid) names[kValidationData] = datasets.valid->name();
  return names;
}

}  // namespace

models::MambaLM RunStages::starting_model() const {
  const Recipe& recipe = run_.recipe;
  models::ModelOptions options = recipe.model;
  if (base_) {
    core::require<core::NumericalError>(base_->train_stage().done(), "it continues '{}', which diverged",
                                        recipe.run.continues);
    options = continued_options(options, base_->checkpoint().string());
  }
  return models::make_model(options, datasets_.train->vocab_size(), static_cast<uint64_t>(recipe.run.seed),
                            train::training_dtype(recipe.train), recipe.train.annealing != "none");
}

Json RunStages::run_training(core::Communicator& communicator) const {
  const core::Stage stage = train_stage();
  train::TrainSetup setup = setup_of(run_.recipe, datasets_, stage, communicator);
  setup.start = [this] { return starting_model(); };
  const Json known = {{kRunLabel, label()}, {"data", data_names(datasets_)}};
  if (communicator.rank() == 0) stage.begin(known);
  train::Trainer trainer(std::move(setup), communicator);
  trainer.run();
  const int64_t step = resulting_step(run_.recipe.train, trainer.state());
  Json result = {{"model_checksum", resulting_checksum(trainer, stage, step)},
                 {"step", step},
                 {"training", train::to_json(trainer.state())}};
  result.update(known);
  return result;
}

}  // namespace exactmamba::cli
