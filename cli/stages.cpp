#include "cli/stages.h"

#include <algorithm>
#include <optional>

#include <ATen/ops/full.h>
#include <fmt/format.h>

#include "cli/alignment.h"
#include "cli/model_origin.h"
#include "cli/plan.h"
#include "core/device.h"
#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/stop_signal.h"
#include "core/version.h"
#include "data/translation.h"
#include "eval/alignment/alignment_values.h"
#include "eval/evaluation.h"
#include "models/checkpoint.h"
#include "train/trainer.h"
#include "train/training_checkpoint.h"

namespace exactmamba::cli {
namespace fs = std::filesystem;
using core::Json;

namespace {

constexpr const char* kRecord = "run.json";  // of the last run, in the output folder
// Of recipe.toml, which is written after the record: what it will be, and what it was before if that differs.
constexpr const char *kRecipeHash = "recipe_hash", *kReplacedHash = "replaced_recipe_hash";
constexpr const char* kRecipeCopy = "recipe.toml";
constexpr const char* kFailure = "failure.json";  // in a stage's folder: why it ended with a NumericalError

// Versions of what the stages compute. To be raised with every change after which the same recipe and data
// give other weights, maps or measures, rounding included, so that no old result is taken for a new one.
constexpr int kTrainAlgorithm = 5;
constexpr int kDecomposeAlgorithm = 2;
constexpr int kEvaluateAlgorithm = 1;

core::Stage train_stage_of(const RecipeRun& run, const data::Datasets& datasets,
                           const std::optional<core::Stage>& base) {
  std::vector<std::pair<std::string, std::string>> inputs = {{kTrainingData, datasets.train->fingerprint()}};
  if (datasets.valid) inputs.emplace_back(kValidationData, datasets.valid->fingerprint());
  if (base) inputs.emplace_back("starting model", base->name());
  if (!run.recipe.model.from.empty())
    inputs.emplace_back("starting model", model_fingerprint(run.recipe.model.checkpoint()));
  if (const auto names = run.recipe.model.names_file())
    inputs.emplace_back("tensor names", core::hash_file_hex(*names));
  if (run.recipe.train.eval_error) {  // its curve is a result of the training
    for (const char* key : {"decompose.approximations", "decompose.bias", "decompose.dtype"})
      inputs.emplace_back(key, run.schema.at(key).text());
  }
  return {run.recipe.run.output, "train", kTrainAlgorithm,
          run.schema.canonical({"run", "data", "model", "train"}), std::move(inputs)};
}

/// Of the weights that a finished training ended with.
std::string trained_checksum(const core::Stage& train) {
  return train.result().at("model_checksum").get<std::string>();
}

Json run_record(const fs::path& file) {
  Json record;
  try {
    record = core::read_json(file);
  } catch (const core::InputError& error) {
    throw core::InputError(fmt::format("{}; give --overwrite to write it anew", error.what()));
  }
  core::require(record.is_object() && record.contains(kRecipeHash),
                "{}: not the record of a run; choose another run.output or give --overwrite", file.string());
  return record;
}

/// What rank 0 says, on every rank.
bool agreed(bool value, core::Communicator& communicator) {
  const at::Tensor shared = at::full({}, value ? 1 : 0, at::kLong);
  communicator.broadcast(shared, 0);
  return shared.item<int64_t>() != 0;
}

/// Refuses a folder that no run made, and a copy of the recipe that somebody changed.
void refuse_foreign(const fs::path& output, const std::string& recipe) {
  std::error_code ignored;
  if (!fs::exists(output, ignored)) return;
  if (core::is_empty_but_for_leftovers(output)) return;
  const fs::path record_file = output / kRecord;
  core::require<core::IoError>(fs::is_regular_file(record_file),
                               "{}: holds other files; choose another run.output or give --overwrite",
                               output.string());
  const Json record = run_record(record_file);
  const fs::path copy = output / kRecipeCopy;
  if (!fs::exists(copy)) return;
  const std::string there = core::read_file(copy);
  const Json hash = core::hash_hex(there);
  const bool ours = hash == record[kRecipeHash] || hash == record.value(kReplacedHash, Json());
  core::require<core::IoError>(there == recipe || ours,
                               "{}: was changed since a run put it there; move it away, or give --overwrite "
                               "to replace it",
                               copy.string());
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  core::require<core::IoError>(!error, "{}: cannot make the folder: {}", folder.string(), error.message());
}

fs::path row_path(const core::Stage& decompose, int64_t index) {
  return row_folder(decompose) / fmt::format("row-{:08}.safetensors", index);
}

/// The errors of the row that an earlier attempt left in `file`, if it is there, whole and of `origin`.
std::optional<decomp::ErrorTable> finished_errors(const fs::path& file, const decomp::RowOrigin& origin) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return {};
  try {
    decomp::DecomposedRow row = decomp::load_row(file);
    if (row.origin == origin) return std::move(row.errors);
    core::log_warning(fmt::format("{}: is of another row, text or model; made again", file.string()));
  } catch (const core::InputError& error) {
    core::log_warning(fmt::format("{}; made again", error.what()));
  }
  return {};
}

}  // namespace

RunStages::RunStages(const RecipeRun& run, data::Datasets datasets, const RunStages* base)
    : run_(run),
      datasets_(std::move(datasets)),
      base_(base ? std::optional(base->train_) : std::nullopt),
      train_(train_stage_of(run, datasets_, base_)),
      test_sets_(test_sets_of(run.recipe)) {}

std::string RunStages::label() const { return run_.name(); }

template <class Work>
void RunStages::complete(const core::Stage& stage, const Work& work) const {
  const core::StopHandler handler;
  if (stage.done()) return core::log_info(fmt::format("{}: {} is done", label(), stage.name()));
  core::log_info(fmt::format("{}: {}", label(), stage.name()));
  const core::FileLock lock = stage.prepare();
  if (!stage.done()) stage.finish(work());    // another process may have ended it just now
  core::stop_if_asked("between two stages");  // the signal that came too late for the work itself
}

template <class Work>
void RunStages::complete_later(const core::Stage& stage, const Work& work) const {
  complete(stage, [&] {
    const fs::path failure = stage.folder() / kFailure;
    fs::remove(failure);
    try {
      return work();
    } catch (const core::NumericalError& error) {
      core::write_json(failure, {{"message", error.what()}});
      throw;
    }
  });
}

bool RunStages::is_done(const core::Stage& stage) const {
  if (stage.done()) return true;
  const fs::path failure = stage.folder() / kFailure;
  if (!fs::exists(failure)) return false;
  const Json record = core::read_json(failure);
  core::require(record.is_object() && record.contains("message") && record["message"].is_string(),
                "{}: not the record of a failure; remove the file and run exactmamba run with this recipe",
                failure.string());
  throw core::NumericalError(record["message"].get<std::string>());
}

void RunStages::require_done(const core::Stage& stage) const {
  core::require(is_done(stage),
                "{}: there is no finished stage {}; run exactmamba run with this recipe first", label(),
                stage.folder().string());
}

bool RunStages::finished() const {
  require_not_diverged();
  return is_done(train_) && is_done(decompose_stage()) && is_done(evaluate_stage());
}

void RunStages::require_finished() const {
  require_trained();
  require_done(decompose_stage());
  require_done(evaluate_stage());
}

void RunStages::require_trainable() const {
  const std::string problem = train_.done() ? "" : device_problem(run_.recipe);
  core::require(problem.empty(), "{}", problem);
}

void RunStages::require_not_diverged() const {
  core::require<core::NumericalError>(!base_ || base_->done(), "it continues '{}', which diverged",
                                      run_.recipe.run.continues);
  const auto newest = train_.done() ? std::nullopt : train::last_checkpoint(train_.folder());
  if (newest)
    train::require_not_diverged(train::load_train_state(*newest), run_.recipe.train, train_.folder());
}

void RunStages::require_trained() const {
  require_not_diverged();
  require_done(train_);
}

/// Named by the training and by its weights: the same training on another machine rounds differently.
core::Stage RunStages::later_stage(const std::string& kind, int algorithm, const Inputs& more) const {
  require_done(train_);
  Inputs inputs = {{"train", train_.name()}, {"trained weights", trained_checksum(train_)}};
  inputs.insert(inputs.end(), more.begin(), more.end());
  return {run_.recipe.run.output, kind, algorithm, run_.schema.canonical({kind}), std::move(inputs)};
}

core::Stage RunStages::decompose_stage() const { return later_stage("decompose", kDecomposeAlgorithm); }
core::Stage RunStages::evaluate_stage() const {
  Inputs more = alignment_inputs(run_);
  if (!test_sets_.empty()) more.emplace_back("test sets", fingerprint(test_sets_));
  return later_stage("evaluate", kEvaluateAlgorithm, more);
}

fs::path resulting_checkpoint(const core::Stage& train) {
  return train.reading([&train] {
    const int64_t step = train.result().at("step").get<int64_t>();
    fs::path checkpoint = train::checkpoint_path(train.folder(), step);
    core::require(fs::is_directory(checkpoint), "{}: the training's result is gone", checkpoint.string());
    return checkpoint;
  });
}

fs::path RunStages::checkpoint() const { return resulting_checkpoint(train_); }

std::optional<RunStages::BestCheckpoint> RunStages::best_checkpoint() const {
  const Json best = train_.result().at("training").at("best");
  if (best.is_null()) return {};
  const auto step = best.at("step").get<int64_t>();
  return BestCheckpoint{train::checkpoint_path(train_.folder(), step), step, best.at("value").get<double>()};
}

models::MambaLM RunStages::trained_model(at::ScalarType dtype) const {
  require_done(train_);
  const fs::path folder = checkpoint();
  return train_.reading([&] {
    models::LoadOptions options;
    options.dtype = train::training_dtype(run_.recipe.train);
    const models::MambaLM model = models::load_model(folder, options);
    const std::string found = model.parameters().checksum(), expected = trained_checksum(train_);
    core::require(found == expected,
                  "{}: damaged: the weights have the checksum {}, but the training's result has {}",
                  folder.string(), found, expected);
    return model.to(dtype);
  });
}

void RunStages::train(core::Communicator& communicator) {
  if (communicator.rank() > 0) {
    const core::StopHandler handler;
    if (agreed(false, communicator)) run_training(communicator);
    return core::stop_if_asked("between two stages");
  }
  bool told = false;
  complete(train_, [&] {
    told = agreed(true, communicator);
    return run_training(communicator);
  });
  if (!told) agreed(false, communicator);
}

void RunStages::decompose() {
  const core::Stage stage = decompose_stage();
  complete_later(stage, [this, &stage] { return run_decomposition(stage); });
}

void RunStages::evaluate() {
  const core::Stage stage = evaluate_stage();
  complete_later(stage, [this, &stage] { return run_evaluation(stage); });
}

Json RunStages::run_decomposition(const core::Stage& stage) const {
  const decomp::DecomposeOptions& options = run_.recipe.decompose;
  core::require(datasets_.valid != nullptr, "decompose reads validation data, and data.valid is empty");
  const models::MambaLM model = trained_model(options.scalar_type());
  const std::string checksum = model.parameters().checksum();
  const int64_t rows = std::min(options.max_rows, datasets_.valid->size());
  make_folder(row_folder(stage));
  decomp::ErrorTable errors;
  core::Progress progress("decompose", rows, "row");
  for (int64_t index = 0; index < rows; ++index) {
    core::stop_if_asked("decomposing");
    errors += decompose_row(model, checksum, eval::row_to_decompose(*datasets_.valid, index),
                            row_path(stage, index));
    progress.update(index + 1, static_cast<double>(index + 1));
  }
  core::sync_folder(row_folder(stage));
  return eval::error_json(errors, rows);
}

decomp::ErrorTable RunStages::decompose_row(const models::MambaLM& model, const std::string& checksum,
                                            const decomp::Row& row, const fs::path& file) const {
  decomp::DecomposedRow result{.origin = decomp::origin_of(row, checksum), .maps = {}, .errors = {}};
  if (auto errors = finished_errors(file, result.origin)) return *std::move(errors);
  result.errors = decomp::decompose_row(model, checksum, row, run_.recipe.decompose,
                                        [&result](const decomp::InteractionMap& map) {
                                          core::stop_if_asked("decomposing");
                                          result.maps.push_back(map);
                                        });
  const decomp::RowFile content = decomp::row_file(result);
  core::write_safetensors(file, content.tensors, content.metadata, core::Durable::kLater);
  return result.errors;
}

Json RunStages::run_evaluation(const core::Stage& stage) const {
  core::require(datasets_.valid != nullptr, "evaluate reads validation data, and data.valid is empty");
  const models::MambaLM model = trained_model(train::training_dtype(run_.recipe.train));
  Json measures = eval::model_measures(model, *datasets_.valid, run_.recipe.evaluate);
  if (aligns(run_))
    measures[eval::kAlignmentKey] = align_model(run_, model, *datasets_.valid, stage.folder());
  const auto sets = translated_sets(model, *datasets_.valid, test_sets_, run_.recipe);
  for (const eval::TranslatedSet& set : sets) measures.update(eval::translation_measures(set));
  if (sets.empty()) return measures;
  make_folder(translation_folder(stage));
  eval::save_translations(translation_folder(stage), sets);
  return measures;
}

std::vector<eval::TestSet> test_sets_of(const Recipe& recipe) {
  return eval::read_test_sets(recipe.evaluate.test, data::on_invalid_utf8(recipe.data.on_invalid_utf8));
}

std::vector<eval::TranslatedSet> translated_sets(const models::MambaLM& model, const data::Dataset& valid,
                                                 const std::vector<eval::TestSet>& test_sets,
                                                 const Recipe& recipe) {
  const auto* rows = dynamic_cast<const data::TranslationRows*>(&valid);
  const eval::EvaluateOptions& evaluate = recipe.evaluate;
  if (rows == nullptr || !evaluate.bleu) return {};
  const bool movable = model.placement().dtype == at::kFloat && model.placement().device.is_cpu();
  const at::Device device = core::device_from_name(movable ? recipe.run.device : "cpu");
  const std::optional<models::MambaLM> moved =
      device.is_cpu() ? std::nullopt : std::optional(model.to({at::kFloat, device, at::kFloat}));
  const eval::TranslateOptions options = {
      .beam = evaluate.beam, .length_penalty = evaluate.length_penalty, .max_ratio = evaluate.max_ratio};
  eval::TestSet validation{.name = eval::kValidationSet, .pairs = rows->pairs()};
  const auto most = static_cast<size_t>(evaluate.max_rows);
  if (most > 0 && most < validation.pairs.size()) validation.pairs.resize(most);
  std::vector<eval::TranslatedSet> sets = {
      eval::translated(moved ? *moved : model, rows->tokenizer(), validation, options)};
  for (const eval::TestSet& set : test_sets)
    sets.push_back(eval::translated(moved ? *moved : model, rows->tokenizer(), set, options));
  return sets;
}

fs::path translation_folder(const core::Stage& evaluate) { return evaluate.folder() / "translations"; }

fs::path row_folder(const core::Stage& decompose) { return decompose.folder() / "maps"; }

decomp::DecomposedRow decomposed_row(const core::Stage& decompose, int64_t index) {
  try {
    return decomp::load_row(row_path(decompose, index));
  } catch (const core::Error& error) {
    throw core::Error(error.exit_code(), fmt::format("{}; delete {} and run again: whole rows are kept",
                                                     error.what(), decompose.record().string()));
  }
}

std::vector<std::unique_ptr<RunStages>> stages_of(const RecipeFile& file) {
  std::map<std::string, data::Datasets> loaded;  // by options and seed
  std::vector<std::unique_ptr<RunStages>> result;
  const auto stages_of_run = [&result](const RecipeRun* run) -> const RunStages* {
    const auto found = std::find_if(result.begin(), result.end(),
                                    [run](const auto& stages) { return &stages->run() == run; });
    return found == result.end() ? nullptr : found->get();
  };
  for (const auto& run : file.runs) {
    const int64_t seed = run->recipe.run.seed;
    const std::string key = fmt::format("{} {}", run->schema.canonical({"data"}).dump(), seed);
    auto found = loaded.find(key);
    if (found == loaded.end()) {
      found = loaded.emplace(key, data::make_datasets(run->recipe.data, static_cast<uint64_t>(seed))).first;
    }
    result.push_back(std::make_unique<RunStages>(*run, found->second, stages_of_run(run->base)));
  }
  return result;
}

std::string without_diverged(std::vector<std::unique_ptr<RunStages>>& stages,
                             const std::function<void(RunStages&)>& work) {
  std::vector<std::unique_ptr<RunStages>> finished;
  std::string diverged;
  for (auto& run : stages) {
    try {
      work(*run);
      finished.push_back(std::move(run));
    } catch (const core::NumericalError& error) {
      diverged += fmt::format("{}: {}\n", run->label(), error.what());
    }
  }
  stages = std::move(finished);
  return diverged;
}

void throw_if_diverged(const std::string& diverged) {
  if (!diverged.empty()) throw core::NumericalError(diverged);
}

void prepare_output(const RecipeFile& file, bool overwrite) {
  const fs::path output = file.first().run.output, copy = output / kRecipeCopy;
  if (!overwrite) refuse_foreign(output, file.text);
  make_folder(output);
  Json record = {{"format_version", core::kFormatVersion},
                 {"program", fmt::format("exactmamba {}", core::version())},
                 {"recipe", file.name},
                 {kRecipeHash, core::hash_hex(file.text)},
                 {"set", file.sets}};
  if (fs::exists(copy)) {
    const Json replaced = core::hash_file_hex(copy);
    if (replaced != record[kRecipeHash]) record[kReplacedHash] = replaced;
  }
  core::write_json(output / kRecord, record);
  core::write_file(copy, file.text);
}

}  // namespace exactmamba::cli
