#include "cli/model_origin.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/run_folder.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/log.h"
#include "core/stage.h"
#include "models/checkpoint.h"
#include "models/stored_weights.h"
#include "train/training_checkpoint.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;

core::InputError malformed_record(const fs::path& file, const Json::exception& error) {
  return core::InputError(fmt::format("{}: not the record of a stage: {}", file.string(), error.what()));
}

/// What is in `file` of a stage of this kind; nothing when it is none.
std::optional<Json> stage_record(const fs::path& file, const std::string& kind) {
  if (!fs::is_regular_file(file)) return std::nullopt;
  Json record = core::read_json(file);
  if (!record.is_object() || record.value("kind", Json()) != kind) return std::nullopt;
  return record;
}

void describe_training(const Json& training, models::ModelCard& card) {
  for (const auto& [key, value] : training.at("options").items())
    card.recipe += fmt::format("{} = {}\n", key, value.dump());
  const Json names = training.at("result").value("data", Json::object());
  for (const auto& [input, fingerprint] : training.at("inputs").items()) {
    const std::string name = names.value(input, "");
    card.data.push_back(fmt::format("{}: {}fingerprint {}", input, name.empty() ? "" : name + ", ",
                                    fingerprint.get<std::string>()));
  }
}

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> entries;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) entries.push_back(entry.path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

/// Of a checkpoint of a training.
std::optional<int64_t> step_of(const fs::path& checkpoint) {
  const fs::path file = checkpoint / "trainer.json";
  if (!fs::is_regular_file(file)) return std::nullopt;
  return core::read_json(file).at("step").get<int64_t>();
}

/// Says how far the weights in `checkpoint` are trained; true when they are the training's result.
bool describe_progress(const fs::path& checkpoint, const Json& result, models::ModelCard& card) {
  const std::optional<int64_t> step = step_of(checkpoint);
  if (!step) return false;
  const auto last = result.at("training").at("step").get<int64_t>();
  card.progress = fmt::format("Weights after update {} of {}.", *step, last);
  return *step == result.value("step", last);  // of before train.result: the last
}

void describe_unfinished(const fs::path& checkpoint, models::ModelCard& card) {
  if (const std::optional<int64_t> step = step_of(checkpoint))
    card.progress = fmt::format("Weights after update {} of a training that is not finished.", *step);
}

/// The errors of every decomposition of those weights, which lie beside the training.
void describe_errors(const fs::path& stage, const Json& checksum, models::ModelCard& card) {
  for (const fs::path& folder : sorted_entries(stage.parent_path())) {
    const std::optional<Json> record = stage_record(folder / core::kStageFile, "decompose");
    if (!record || record->at("inputs").value("trained weights", Json()) != checksum) continue;
    const Json& errors = record->at("result");
    for (const auto& [measure, table] : errors.at("measures").items()) {
      for (const auto& [approximation, layers] : table.items()) {
        std::vector<std::string> values;
        for (const Json& error : layers) values.push_back(fmt::format("{:.3g}", error.get<double>()));
        card.error_table.push_back({approximation, measure, errors.at("bias"), errors.at("dtype"),
                                    errors.at("rows").dump(), fmt::format("{}", fmt::join(values, ", "))});
      }
    }
  }
  if (card.error_table.empty()) return;
  card.error_table.insert(card.error_table.begin(),
                          {"approximation", "measure", "bias", "dtype", "texts", "layers from the bottom"});
  card.error_note =
      "Difference between each layer's own output and the sum of its contributions, on validation texts; 0 "
      "is exact.";
}

using Values = std::map<std::string, std::string>;  // by their names

/// The version of what the training computes is one of them.
Values options_of(const Json& record) {
  Values values = {{"algorithm", record.value("algorithm", Json()).dump()}};
  const Json options = record.value("options", Json());
  for (const auto& [key, value] : options.items()) values[key] = value.dump();
  return values;
}

/// "training data": "a.txt 0123456789abcdef01"
Values inputs_of(const Json& record) {
  constexpr size_t kMost = 18;  // of a fingerprint: the name of a stage is as long
  Values values;
  const Json inputs = record.value("inputs", Json()),
             names = record.value("result", Json()).value("data", Json::object());
  for (const auto& [input, fingerprint] : inputs.items()) {
    const std::string name = names.value(input, "");
    values[input] = (name.empty() ? "" : name + " ") + fingerprint.get<std::string>().substr(0, kMost);
  }
  return values;
}

/// What a training that has not ended says of itself; nothing where that is damaged, since nothing depends on
/// it.
std::optional<Json> begun_record(const fs::path& training) {
  try {
    std::optional<Json> record = stage_record(training / core::kBegunFile, "train");
    if (record) options_of(*record), inputs_of(*record);
    return record;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace

void describe_origin(const fs::path& folder, models::ModelCard& card) {
  const fs::path stage = fs::weakly_canonical(folder).parent_path().parent_path(),
                 file = stage / core::kStageFile;
  const std::optional<Json> training = stage_record(file, "train");
  try {
    if (!training) return describe_unfinished(folder, card);
    describe_training(*training, card);
    const Json& result = training->at("result");  // its weights alone are decomposed
    if (describe_progress(folder, result, card)) describe_errors(stage, result.at("model_checksum"), card);
  } catch (const Json::exception& error) {
    throw malformed_record(file, error);
  }
}

std::string task_of(const fs::path& checkpoint) {
  const fs::path stage = fs::weakly_canonical(checkpoint).parent_path().parent_path();
  std::optional<Json> record = stage_record(stage / core::kStageFile, "train");
  if (!record) record = begun_record(stage);
  const Json options = record ? record->value("options", Json()) : Json();
  const Json task = options.is_object() ? options.value("data.task", Json()) : Json();
  return task.is_string() ? task.get<std::string>() : "";
}

fs::path resulting_checkpoint(const fs::path& training, const Json& result) {
  const Json step = result.is_object() ? result.value("step", Json()) : Json();
  core::require(step.is_number_integer(), "{}: does not say which checkpoint is the training's result",
                (training / core::kStageFile).string());
  fs::path checkpoint = train::checkpoint_path(training, step.get<int64_t>());
  core::require(fs::is_directory(checkpoint), "{}: the training's result is gone", checkpoint.string());
  return checkpoint;
}

namespace {

struct FoundModel {
  fs::path training, folder = {};
  bool finished = false;
  std::string label = {};            // of the run; "" where nothing says so
  Values options = {}, inputs = {};  // what names the training's stage
  fs::file_time_type time = {};      // of the checkpoint's folder, which may go at any time
};

/// The checkpoint that stands for a training: its result, or before its end the last.
std::optional<FoundModel> model_of_training(const fs::path& training) {
  const fs::path file = training / core::kStageFile;
  const bool finished = fs::exists(file);
  try {
    const std::optional<Json> record = finished ? stage_record(file, "train") : begun_record(training);
    const Json result = record ? record->value("result", Json()) : Json();
    const auto folder =
        record && finished ? resulting_checkpoint(training, result) : train::last_checkpoint(training);
    if (!folder) return std::nullopt;
    FoundModel model = {.training = training, .folder = *folder, .finished = finished && record};
    if (!record) return model;
    model.label = result.value(kRunLabel, "");
    model.options = options_of(*record);
    model.inputs = inputs_of(*record);
    return model;
  } catch (const Json::exception& error) {
    throw malformed_record(file, error);
  }
}

/// Those of the trainings in the folder of a run, the newest first, or of one training. @throws IoError when
/// it is such a folder, but without a checkpoint yet
std::vector<FoundModel> trained_models(const fs::path& folder) {
  std::vector<fs::path> trainings = {folder};
  if (const fs::path stages = folder / core::kStagesFolder; fs::is_directory(stages))
    trainings = sorted_entries(stages);
  std::vector<FoundModel> found;
  for (const fs::path& training : trainings) {
    if (!fs::is_directory(training)) continue;
    if (auto model = model_of_training(training)) found.push_back(std::move(*model));
  }
  const bool begun = std::any_of(trainings.begin(), trainings.end(), [](const fs::path& training) {
    return fs::exists(training / core::kBegunFile);
  });
  core::require<core::IoError>(
      !found.empty() || !begun,
      "{}: there is no checkpoint yet; run its recipe again, which continues the training", folder.string());
  for (FoundModel& model : found) {
    std::error_code gone;
    model.time = fs::last_write_time(model.folder, gone);
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const FoundModel& a, const FoundModel& b) { return a.time > b.time; });
  return found;
}

/// Adds "train.lr = 0.1", of what is not so in `other`.
void add_differing(const Values& values, const Values& other, std::set<std::string>& found) {
  for (const auto& [name, value] : values) {
    const auto its = other.find(name);
    if (its == other.end() || its->second != value) found.insert(fmt::format("{} = {}", name, value));
  }
}

/// " ('silu', train.lr = 0.1)": of versions of one run, which have one label, also what they differ in:
/// options, or without such a difference inputs.
std::string description(const FoundModel& model, const std::vector<FoundModel>& all) {
  std::set<std::string> differing;
  for (const FoundModel& other : all) {
    if (other.options.empty() || other.label != model.label) continue;
    add_differing(model.options, other.options, differing);
    if (model.options == other.options) add_differing(model.inputs, other.inputs, differing);
  }
  std::vector<std::string> parts(differing.begin(), differing.end());
  if (!model.label.empty()) parts.insert(parts.begin(), fmt::format("'{}'", model.label));
  if (!model.finished) parts.emplace_back("not finished");
  return parts.empty() ? "" : fmt::format(" ({})", fmt::join(parts, ", "));
}

/// The first of them: "A ('silu'), B ('relu') and 3 more", by their `folder`.
std::string listed(const std::vector<FoundModel>& found, fs::path FoundModel::*folder) {
  constexpr size_t kMost = 4;
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(kMost, found.size()); ++i)
    names.push_back((found[i].*folder).string() + description(found[i], found));
  const size_t more = found.size() - names.size();
  return fmt::format("{}{}", fmt::join(names, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
}

bool is_model(const fs::path& folder) {
  return !fs::is_directory(folder) || fs::exists(folder / "config.json");
}

}  // namespace

models::ModelConfig config_of_named_model(const fs::path& folder) {
  if (is_model(folder)) return models::load_config(folder);
  const std::vector<FoundModel> found = trained_models(folder);
  core::require<core::IoError>(found.empty(), "{}: is no model itself; name a checkpoint of it: {}",
                               folder.string(), listed(found, &FoundModel::folder));
  return models::load_config(folder);
}

fs::path model_of(const fs::path& folder) {
  core::require<core::IoError>(fs::is_directory(folder), "{} is not a folder with a model or a run: {}",
                               folder.string(),
                               fs::exists(folder) ? "it is a file" : "there is nothing of this name");
  if (is_model(folder)) return folder;
  const std::vector<FoundModel> found = trained_models(folder);
  core::require<core::IoError>(!found.empty(),
                               "{}: is no model, which has config.json, and no run with a training in it",
                               folder.string());
  core::require<core::IoError>(found.size() == 1,
                               "{}: holds several trainings; give the folder of one, the newest first: {}",
                               folder.string(), listed(found, &FoundModel::training));
  const FoundModel& model = found.front();
  core::log_info(fmt::format("model: {}", model.folder.string()));
  if (!model.finished)
    core::log_warning(fmt::format("{}: this training is not finished; its last checkpoint is used",
                                  model.training.string()));
  return model.folder;
}

std::string model_fingerprint(const fs::path& folder) {
  std::vector<fs::path> files = models::weight_files(folder);
  files.insert(files.begin(), folder / "config.json");
  std::string hashes;
  for (const fs::path& file : files)
    hashes += file.filename().string() + ' ' + core::hash_file_hex(file) + '\n';
  return core::hash_hex(hashes);
}

}  // namespace exactmamba::cli
