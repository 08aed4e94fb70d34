#include "cli/stages.h"

#include <algorithm>
#include <optional>

#include <ATen/ops/full.h>
#include <fmt/format.h>

#include "cli/model_origin.h"
#include "cli/plan.h"
#include "cli/problems.h"
#include "cli/recipe_files.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/stop_signal.h"
#include "models/checkpoint.h"
#include "train/trainer.h"
#include "train/training_checkpoint.h"

namespace exactmamba::cli {
namespace fs = std::filesystem;
using core::Json;

namespace {

constexpr const char* kFailure = "failure.json";  // in a stage's folder: why it ended with a NumericalError

// Versions of what the stages compute. To be raised with every change after which the same recipe and data
// give other weights, maps or measures, rounding included, so that no old result is taken for a new one.
constexpr int kTrainAlgorithm = 11;
constexpr int kDecomposeAlgorithm = 2;

std::vector<std::pair<std::string, std::string>> training_inputs(const RecipeRun& run,
                                                                 const data::Datasets& datasets) {
  std::vector<std::pair<std::string, std::string>> inputs = {{kTrainingData, datasets.train->fingerprint()}};
  if (datasets.valid) inputs.emplace_back(kValidationData, datasets.valid->fingerprint());
  if (!run.recipe.model.from.empty())
    inputs.emplace_back("starting model", model_fingerprint(run.recipe.model.checkpoint()));
  if (const auto names = run.recipe.model.names_file())
    inputs.emplace_back("tensor names", core::hash_file_hex(*names));
  if (run.recipe.train.eval_error) {  // its curve is a result of the training
    for (const char* key : {"decompose.approximations", "decompose.bias", "decompose.dtype"})
      inputs.emplace_back(key, run.schema.at(key).text());
  }
  return inputs;
}

/// Of the weights that a finished training ended with.
std::string trained_checksum(const core::Stage& train) {
  return train.result().at("model_checksum").get<std::string>();
}

/// What rank 0 says, on every rank.
bool agreed(bool value, core::Communicator& communicator) {
  const at::Tensor shared = at::full({}, value ? 1 : 0, at::kLong);
  communicator.broadcast(shared, 0);
  return shared.item<int64_t>() != 0;
}

}  // namespace

RunStages::RunStages(const RecipeRun& run, std::shared_ptr<const TrainedTokenizer> tokenizer,
                     data::Datasets datasets, std::shared_ptr<const EvaluationData> evaluation,
                     std::shared_ptr<const RunStages> base)
    : run_(run),
      tokenizer_(std::move(tokenizer)),
      datasets_(std::move(datasets)),
      base_(std::move(base)),
      train_inputs_(training_inputs(run, datasets_)),
      evaluation_(std::move(evaluation)),
      sets_(translated_sets(run.recipe, datasets_, *evaluation_)) {}

core::Stage RunStages::train_stage() const {
  Inputs inputs = train_inputs_;
  if (base_) {
    const core::Stage base = base_->train_stage();
    inputs.push_back(base.done() ? Inputs::value_type{"starting weights", trained_checksum(base)}
                                 : Inputs::value_type{"starting run", base.name()});
  }
  return {run_.recipe.run.output, "train", kTrainAlgorithm,
          run_.schema.canonical({"run", "data", "model", "train"}), std::move(inputs)};
}

std::string RunStages::label() const { return run_.name(); }

void RunStages::complete(const core::Stage& stage, const std::function<Json()>& work) const {
  const core::StopHandler handler;
  if (stage.done()) return core::log_info(fmt::format("{}: {} is done", label(), stage.name()));
  core::log_info(fmt::format("{}: {}", label(), stage.name()));
  const core::FileLock lock = stage.prepare();
  if (!stage.done()) stage.finish(work());    // another process may have ended it just now
  core::stop_if_asked("between two stages");  // the signal that came too late for the work itself
}

void RunStages::complete_later(const core::Stage& stage, const std::function<Json()>& work) const {
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
                "'{}': there is no finished stage {} of these settings; run exactmamba run with them first",
                label(), stage.folder().string());
}

bool RunStages::finished() const {
  require_not_diverged();
  if (!is_done(train_stage()) || !is_done(decompose_stage())) return false;
  const std::vector<core::Stage> parts = evaluation_stages();
  return std::all_of(parts.begin(), parts.end(), [this](const core::Stage& part) { return is_done(part); });
}

void RunStages::require_finished() const {
  require_trained();
  require_done(decompose_stage());
  for (const core::Stage& stage : evaluation_stages()) require_done(stage);
}

void RunStages::require_trainable() const {
  const std::string problem = train_stage().done() ? "" : device_problem(run_);
  core::require(problem.empty(), "{}", problem);
}

void RunStages::require_a_batch(int processes) const {
  const Recipe& recipe = run_.recipe;
  const int64_t rows = datasets_.train->size(), each = recipe.train.batch_size;
  if (rows >= each * processes || train_stage().done()) return;
  const std::vector<std::string> keys = {"train.batch_size", "data.context", "data.train"};
  const core::Option& option = run_.schema.decisive(keys);
  throw core::InputError(fmt::format(
      "{}: {}: '{}' is trained with {} rows at a time{}, and {} gives {}; make the batch or the context "
      "smaller, or give more data [{}]",
      option.origin(), option.key(), label(), each,
      processes > 1 ? fmt::format(" in each of {} processes", processes) : "", datasets_.train->name(),
      rows == 1 ? "one" : fmt::format("{}", rows), run_.schema.values_text(keys)));
}

void RunStages::require_not_diverged() const {
  core::require<core::NumericalError>(has_start(), "it continues '{}', which diverged",
                                      run_.recipe.run.continues);
  const core::Stage train = train_stage();
  const auto newest = train.done() ? std::nullopt : train::last_checkpoint(train.folder());
  if (newest)
    train::require_not_diverged(train::load_train_state(*newest), run_.recipe.train, train.folder());
}

void RunStages::require_trained() const {
  require_not_diverged();
  require_done(train_stage());
}

/// Named by the training and by its weights: the same training on another machine rounds differently.
core::Stage RunStages::later_stage(const std::string& kind, int algorithm,
                                   const std::vector<std::string>& options, const Inputs& more) const {
  const core::Stage train = train_stage();
  require_done(train);
  Inputs inputs = {{"train", train.name()}, {"trained weights", trained_checksum(train)}};
  inputs.insert(inputs.end(), more.begin(), more.end());
  return {run_.recipe.run.output, kind, algorithm, run_.schema.canonical(options), std::move(inputs)};
}

core::Stage RunStages::decompose_stage() const {
  return later_stage("decompose", kDecomposeAlgorithm, {"decompose"});
}

namespace {

/// To have the weights again. Without its record a training goes on from its last checkpoint that is whole,
/// which makes the last weights, but no earlier ones.
fs::path what_to_delete(const core::Stage& train) {
  const Json result = train.result();
  return result.at("step") == result.at("training").at("step") ? train.record() : train.folder();
}

}  // namespace

fs::path RunStages::checkpoint() const {
  const core::Stage train = train_stage();
  return train.reading(what_to_delete(train),
                       [&train] { return resulting_checkpoint(train.folder(), train.result()); });
}

std::optional<RunStages::BestCheckpoint> RunStages::best_checkpoint() const {
  const core::Stage train = train_stage();
  const Json best = train.result().at("training").at("best");
  if (best.is_null()) return {};
  const auto step = best.at("step").get<int64_t>();
  return BestCheckpoint{train::checkpoint_path(train.folder(), step), step, best.at("value").get<double>()};
}

models::MambaLM RunStages::trained_model(at::ScalarType dtype) const {
  const core::Stage train = train_stage();
  require_done(train);
  const fs::path folder = checkpoint();
  return train.reading(what_to_delete(train), [&] {
    models::LoadOptions options;
    options.dtype = train::training_dtype(run_.recipe.train);
    const models::MambaLM model = models::load_model(folder, options);
    const std::string found = model.parameters().checksum(), expected = trained_checksum(train);
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
  if (tokenizer_) core::log_info(fmt::format("{}: {} is done", label(), tokenizer_->stage.name()));
  bool told = false;
  complete(train_stage(), [&] {
    told = agreed(true, communicator);
    return run_training(communicator);
  });
  if (!told) agreed(false, communicator);
}

void RunStages::decompose() {
  const core::Stage stage = decompose_stage();
  complete_later(stage, [this, &stage] { return run_decomposition(stage); });
}

namespace {

/// What `read` gives, once for every key.
template <class Value, class Read>
Value read_once(std::map<std::string, Value>& known, const std::string& key, const Read& read) {
  auto found = known.find(key);
  if (found == known.end()) found = known.emplace(key, read()).first;
  return found->second;
}

std::string key_of(const RecipeRun& run, const std::vector<std::string>& names) {
  return run.schema.canonical(names).dump();
}

/// What is wrong is said with its place in the recipe.
data::Datasets datasets_of(const RecipeRun& run, const TrainedTokenizer* tokenizer) {
  return with_places(run, [&] {
    return data::make_datasets(run.recipe.data, static_cast<uint64_t>(run.recipe.run.seed),
                               tokenizer ? &tokenizer->spec : nullptr,
                               [&run](const std::string& part, const std::function<void()>& make) {
                                 at_place(place_of(run, part), make);
                               });
  });
}

/// What runs share of what they read, and the faults in it.
class SharedData {
 public:
  using Tokenizer = std::shared_ptr<const TrainedTokenizer>;
  explicit SharedData(const MissingTokenizer& missing) : missing_(missing) {}

  std::shared_ptr<const EvaluationData> evaluation(const RecipeRun& run) {
    return read_once(evaluations_, key_of(run, {"evaluate", "data.on_invalid_utf8"}),
                     [&run] { return read_evaluation_data(run); });
  }

  /// [nullable]: there is none, and none is made, as when there are faults: what it takes would be in vain.
  Tokenizer tokenizer(const RecipeRun& run) {
    const std::string key = key_of(run, tokenizer_options());
    if (const auto known = tokenizers_.find(key); known != tokenizers_.end()) return known->second;
    const MissingTokenizer none = [](const RecipeRun&, const core::Stage&) { return std::nullopt; };
    Tokenizer found;
    faults_.attempt([&] { found = trained_tokenizer(run, faults_.empty() ? missing_ : none); });
    if (found || faults_.empty()) tokenizers_[key] = found;
    return found;
  }

  /// None where they are faulty.
  std::optional<data::Datasets> datasets(const RecipeRun& run, const TrainedTokenizer* tokenizer) {
    std::vector<std::string> decisive = {"data"};
    if (data::depends_on_seed(run.recipe.data)) decisive.push_back("run.seed");
    return read_once(datasets_, key_of(run, decisive), [&] {
      std::optional<data::Datasets> made;
      faults_.attempt([&] { made = datasets_of(run, tokenizer); });
      return made;
    });
  }

  void throw_if_faulty() const { faults_.throw_if_any(); }

 private:
  const MissingTokenizer& missing_;
  std::map<std::string, Tokenizer> tokenizers_;
  std::map<std::string, std::optional<data::Datasets>> datasets_;
  std::map<std::string, std::shared_ptr<const EvaluationData>> evaluations_;
  Problems faults_;
};

}  // namespace

std::vector<std::shared_ptr<RunStages>> stages_of(const RecipeFile& file, const MissingTokenizer& missing) {
  SharedData shared(missing);
  std::vector<std::shared_ptr<RunStages>> result;
  const auto stages_of_run = [&result](const RecipeRun* run) {
    const auto found = std::find_if(result.begin(), result.end(),
                                    [run](const auto& stages) { return &stages->run() == run; });
    return found == result.end() ? nullptr : *found;
  };
  for (const auto& run : file.runs) shared.evaluation(*run);
  for (const auto& run : file.runs) {
    const bool makes = data::trains_tokenizer(run->recipe.data);
    const auto tokenizer = makes ? shared.tokenizer(*run) : nullptr;
    if (makes && !tokenizer) continue;
    if (const auto datasets = shared.datasets(*run, tokenizer.get()))
      result.push_back(std::make_shared<RunStages>(*run, tokenizer, *datasets, shared.evaluation(*run),
                                                   stages_of_run(run->base)));
  }
  shared.throw_if_faulty();
  return result;
}

std::string without_diverged(std::vector<std::shared_ptr<RunStages>>& stages,
                             const std::function<void(RunStages&)>& work) {
  std::vector<std::shared_ptr<RunStages>> finished;
  std::string diverged;
  for (auto& run : stages) {
    try {
      work(*run);
      finished.push_back(std::move(run));
    } catch (const core::NumericalError& error) {
      diverged += fmt::format("'{}': {}\n", run->label(), error.what());
    }
  }
  stages = std::move(finished);
  return diverged;
}

void throw_if_diverged(const std::string& diverged) {
  if (!diverged.empty()) throw core::NumericalError(diverged);
}

}  // namespace exactmamba::cli
