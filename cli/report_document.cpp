#include "cli/report_document.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include <fmt/format.h>

#include "core/dtype.h"
#include "core/environment.h"
#include "core/error.h"
#include "core/log.h"
#include "core/metrics_log.h"
#include "core/version.h"
#include "eval/alignment/alignment_values.h"
#include "eval/evaluation.h"
#include "eval/row_values.h"
#include "eval/translation_comet.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;

constexpr size_t kCurvePoints = 500;
constexpr const char* kWithoutCurves = "; mend it, or delete it for a report without these curves";

/// x and y of the lines of one kind that have `key`, thinned to at most kCurvePoints.
Json curve(const std::vector<Json>& lines, const std::string& kind, const std::string& key) {
  std::vector<const Json*> points;
  for (const Json& line : lines) {
    if (line["kind"] == kind && line.contains(key) && line[key].is_number()) points.push_back(&line);
  }
  const size_t stride = (points.size() + kCurvePoints - 1) / kCurvePoints;
  Json x = Json::array(), y = Json::array();
  for (size_t i = 0; i < points.size(); i += stride) {
    x.push_back((*points[i])["step"]);
    y.push_back((*points[i])[key]);
  }
  return {{"x", x}, {"y", y}};
}

Json curves(const std::vector<Json>& lines) {
  Json result = Json::object();
  const auto add = [&](const std::string& name, const Json& points) {
    if (!points["x"].empty()) result[name] = points;
  };
  add("loss", curve(lines, "train", "loss"));
  add("validation loss", curve(lines, "evaluation", "validation_loss"));
  add("validation accuracy", curve(lines, "evaluation", "validation_accuracy"));
  add("validation BLEU", curve(lines, "evaluation", kBleuKey));
  add("character accuracy", curve(lines, "evaluation", "character_accuracy"));
  add("string accuracy", curve(lines, "evaluation", "string_accuracy"));
  return result;
}

/// The approximation error that the training's evaluations measured, by approximation.
Json error_curves(const std::vector<Json>& lines, const std::string& measure) {
  Json result = Json::object();
  for (const Json& line : lines) {
    if (!line.contains(kErrorKey)) continue;
    for (const auto& [approximation, errors] : line[kErrorKey].at(measure).items()) {
      Json& curves = result[approximation];
      curves["measure"] = measure;
      curves["steps"].push_back(line.at("step"));
      curves["alpha"].push_back(line.at("alpha"));
      for (size_t layer = 0; layer < errors.size(); ++layer) curves["layers"][layer].push_back(errors[layer]);
    }
  }
  return result;
}

/// Keys in which runs of the sweep differ.
std::vector<std::string> swept_keys(const RecipeFile& file) {
  std::vector<std::string> keys;
  for (const auto& run : file.runs) {
    for (const auto& assignment : run->assignments) {
      if (std::find(keys.begin(), keys.end(), assignment.key) == keys.end()) keys.push_back(assignment.key);
    }
  }
  return keys;
}

Json settings(const RecipeRun& run, const std::vector<std::string>& keys) {
  Json result = Json::object();
  for (const std::string& key : keys) {
    const core::Option& option = run.schema.at(key);
    const Json value = option.value();
    result[key] = value.is_string() ? value.get<std::string>() : option.text();
  }
  return result;
}

/// Of a line of metrics.jsonl, what is read without a further look. @throws Json::exception, InputError
void read_line(const Json& line, const std::string& measure) {
  line.at("kind").get<std::string>();
  line.at("step").get<int64_t>();
  if (!line.contains(kErrorKey)) return;
  line.at("alpha").get<double>();
  for (const auto& [approximation, layers] : line[kErrorKey].at(measure).items())
    core::require(layers.is_array() && !layers.empty(), "{} of '{}' is no list of layers", measure,
                  approximation);
}

/// @throws InputError with `place` unless the line can be drawn
void check_line(const Json& line, const std::string& measure, const std::string& place) {
  try {
    read_line(line, measure);
  } catch (const std::exception& error) {
    throw core::InputError(fmt::format("{}: not what a training writes: {}", place, error.what()));
  }
}

/// What the training said while it ran. None, with a warning, where the file is gone: the training is whole
/// all the same.
std::vector<Json> metrics_of(const RunStages& stages, const std::string& measure) {
  const fs::path file = stages.train_stage().folder() / "metrics.jsonl";
  if (!fs::exists(file)) {
    core::log_warning(
        fmt::format("{}: no such file; '{}' has no curves in the report", file.string(), stages.label()));
    return {};
  }
  try {
    std::vector<Json> lines = core::read_metrics(file);
    for (size_t i = 0; i < lines.size(); ++i)
      check_line(lines[i], measure, fmt::format("{}:{}", file.string(), i + 1));
    return lines;
  } catch (const core::InputError& error) {
    throw core::InputError(fmt::format("{}{}", error.what(), kWithoutCurves));
  }
}

Json row(const RunStages& stages, const std::vector<std::string>& keys) {
  const Recipe& recipe = stages.run().recipe;
  const core::Stage decompose = stages.decompose_stage();
  const eval::EvaluationParts parts = {
      .measures = stages.measures(), .errors = decompose.result(), .maps = [&decompose](int64_t row) {
        return decomposed_row(decompose, row).maps;
      }};
  Json result = eval::report_row(parts, *stages.datasets().valid, recipe.decompose.error, recipe.report);
  result["label"] = stages.label();
  result["settings"] = settings(stages.run(), keys);
  const std::vector<Json> metrics = metrics_of(stages, recipe.decompose.error);
  result["curves"] = curves(metrics);
  Json errors = error_curves(metrics, recipe.decompose.error);
  if (!errors.empty()) result["error_curves"] = std::move(errors);
  return result;
}

Json row_without_values(const RecipeRun& run, const std::string& state,
                        const std::vector<std::string>& keys) {
  return {
      {"label", run.name()}, {"settings", settings(run, keys)}, {"values", Json::object()}, {"state", state}};
}

bool is_measured(const Json& rows, const std::string& key) {
  return std::any_of(rows.begin(), rows.end(), [&](const Json& row) { return row["values"].contains(key); });
}

/// Keys of the columns that tables show, in their order; none: all. Those of a group (error) that no row has
/// are not among them: a checkpoint of unknown depth may have those of any depth.
std::vector<std::string> shown_columns(const RecipeFile& file, const Json& rows) {
  const std::vector<std::string> keys = value_keys(file.runs);
  std::vector<std::string> shown;
  const std::vector<std::string>& chosen = file.first().report.columns;
  for (const std::string& name : chosen.empty() ? file.first().published.columns : chosen) {
    for (const std::string& key : eval::keys_of_name(name, keys)) {
      const bool known = std::find(shown.begin(), shown.end(), key) != shown.end();
      if (!known && (key == name || is_measured(rows, key))) shown.push_back(key);
    }
  }
  return shown;
}

/// The values that runs have, each once: "float32", or "float32, float64".
template <class Value>
std::string distinct(const RecipeFile& file, const Value& value) {
  std::set<std::string> values;
  for (const auto& run : file.runs) values.insert(value(run->recipe));
  return fmt::format("{}", fmt::join(values, ", "));
}

/// The stages of `run`. [nullable]
const RunStages* find_stages(const std::vector<std::shared_ptr<RunStages>>& stages, const RecipeRun& run) {
  const auto found =
      std::find_if(stages.begin(), stages.end(), [&](const auto& each) { return &each->run() == &run; });
  return found == stages.end() ? nullptr : found->get();
}

/// Versions of the program that finished the stages, which may be older than this one.
std::string versions_of(const std::vector<std::shared_ptr<RunStages>>& stages) {
  std::set<std::string> versions;
  if (stages.empty()) versions.insert(core::version());
  for (const auto& run : stages) {
    versions.insert(run->train_stage().program_version());
    versions.insert(run->decompose_stage().program_version());
    for (const core::Stage& stage : run->evaluation_stages()) versions.insert(stage.program_version());
  }
  return fmt::format("{}", fmt::join(versions, ", "));
}

/// What the sentences give without a model; of runs with several golds, each with their labels.
std::string aer_without_model(const std::vector<std::shared_ptr<RunStages>>& stages) {
  std::map<std::string, std::vector<std::string>> labels;  // by text
  for (const auto& run : stages) {
    const Json measures = run->measures();
    if (measures.contains(eval::kAlignmentKey))
      labels[eval::sanity_text(measures[eval::kAlignmentKey])].push_back(run->label());
  }
  std::vector<std::string> texts;
  for (const auto& [text, runs] : labels)
    texts.push_back(labels.size() == 1 ? text : fmt::format("{} ('{}')", text, fmt::join(runs, "', '")));
  return fmt::format("{}", fmt::join(texts, "; "));
}

/// By what the test sets are scored.
std::string comet_text(const Recipe& recipe) {
  if (recipe.evaluate.comet_model.empty()) return "none: evaluate.comet_model is empty";
  return fmt::format("{}, {}", eval::comet_model_name(core::expand_environment(recipe.evaluate.comet_model)),
                     core::dtype_name(eval::kRecipeCometDtype));
}

size_t comet_models(const std::vector<std::vector<eval::TranslatedSet>>& translations) {
  std::set<std::string> models;
  for (const auto& row : translations)
    for (const eval::TranslatedSet& set : row)
      if (!set.comet.empty()) models.insert(set.comet_model);
  return models.size();
}

/// Of the weights, and of the products where it is another one.
std::string training_dtypes(const Recipe& recipe) {
  const train::TrainOptions& o = recipe.train;
  return o.compute_dtype == "float32" ? o.dtype : fmt::format("{}, products in {}", o.dtype, o.compute_dtype);
}

Json provenance(const RecipeFile& file, const std::vector<std::shared_ptr<RunStages>>& stages) {
  Json result = {{"program", fmt::format("exactmamba {}", versions_of(stages))},
                 {"LibTorch", core::torch_version()},
                 {"training dtype", distinct(file, training_dtypes)},
                 {"decomposition dtype", distinct(file, [](const Recipe& r) { return r.decompose.dtype; })},
                 {"approximation error", distinct(file, [](const Recipe& r) { return r.decompose.error; })},
                 {"convolution bias", distinct(file, [](const Recipe& r) { return r.decompose.bias; })},
                 {"seed", distinct(file, [](const Recipe& r) { return std::to_string(r.run.seed); })}};
  if (!file.sets.empty()) result["--set"] = fmt::format("{}", fmt::join(file.sets, ", "));
  const bool tested = std::any_of(file.runs.begin(), file.runs.end(),
                                  [](const auto& run) { return !run->recipe.evaluate.test.empty(); });
  if (tested) result["COMET"] = distinct(file, comet_text);
  const std::string without_model = aer_without_model(stages);
  if (!without_model.empty()) result["AER without a model"] = without_model;
  if (const std::string& source = file.first().published.source; !source.empty())
    result["published values"] = source;
  return result;
}

}  // namespace

Json report_document(const RecipeFile& file, const std::vector<std::shared_ptr<RunStages>>& stages,
                     const Unfinished& unfinished) {
  const Recipe& first = file.first();
  const std::vector<std::string> keys = swept_keys(file);
  Json rows = Json::array();
  std::vector<std::vector<eval::TranslatedSet>> translations;
  std::vector<std::string> diverged;
  for (const auto& run : file.runs) {
    const RunStages* done = find_stages(stages, *run);
    const auto open = unfinished.find(run.get());
    if (done == nullptr && open == unfinished.end()) {
      diverged.push_back("'" + run->label + "'");
      continue;
    }
    rows.push_back(done ? row(*done, keys) : row_without_values(*run, open->second, keys));
    const Json published = first.published.of_run(run->name());
    if (!published.empty()) rows.back()["published"] = published;
    translations.push_back(done ? done->translations() : std::vector<eval::TranslatedSet>());
  }
  eval::add_intervals(rows, translations);
  const std::vector<std::string> shown = shown_columns(file, rows);
  std::vector<std::string> named = shown;
  named.insert(named.end(), first.published.columns.begin(), first.published.columns.end());
  Json made_by = provenance(file, stages);
  if (comet_models(translations) > 1)
    made_by["COMET"] = made_by["COMET"].get<std::string>() + "; rows by different models are not compared";
  if (!diverged.empty()) made_by["diverged runs, not shown"] = fmt::format("{}", fmt::join(diverged, ", "));
  return {{"format_version", core::kFormatVersion},
          {"program", fmt::format("exactmamba {}", core::version())},
          {"title", first.report.title.empty() ? first.run.name : first.report.title},
          {"recipe", file.text},
          {"provenance", made_by},
          {"columns", eval::report_columns(rows, named)},
          {"shown", shown},
          {"rows", rows}};
}

}  // namespace exactmamba::cli
