#include "cli/report_document.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "cli/alignment.h"
#include "core/metrics_log.h"
#include "core/version.h"
#include "eval/alignment/alignment_values.h"
#include "eval/evaluation.h"

namespace exactmamba::cli {
namespace {

using core::Json;

constexpr size_t kCurvePoints = 500;

/// x and y of the lines of one kind that have `key`, thinned to at most kCurvePoints.
Json curve(const std::vector<Json>& lines, const std::string& kind, const std::string& key) {
  std::vector<const Json*> points;
  for (const Json& line : lines) {
    if (line.value("kind", "") == kind && line.contains(key) && line[key].is_number())
      points.push_back(&line);
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

/// Of a training that continued a checkpoint, by its evaluation before update 1.
void add_perplexity_before(const Recipe& recipe, const std::vector<Json>& lines, Json& values) {
  const Json losses = curve(lines, "evaluation", "validation_loss");
  if ((recipe.model.from.empty() && recipe.run.continues.empty()) || losses["x"].empty() ||
      losses["x"][0] != 0)
    return;
  values["perplexity_before"] = std::exp(losses["y"][0].get<double>());
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

Json row(const RunStages& stages, const std::vector<std::string>& keys) {
  const Recipe& recipe = stages.run().recipe;
  const core::Stage decompose = stages.decompose_stage(), evaluate = stages.evaluate_stage();
  const eval::EvaluationParts parts = {
      .measures = evaluate.result(), .errors = decompose.result(), .maps = [&decompose](int64_t row) {
        return decomposed_row(decompose, row).maps;
      }};
  Json result = eval::report_row(parts, *stages.datasets().valid, recipe.decompose.error, recipe.report);
  result["label"] = stages.label();
  result["settings"] = settings(stages.run(), keys);
  const core::Stage& train = stages.train_stage();
  const std::vector<Json> metrics =
      train.reading([&train] { return core::read_metrics(train.folder() / "metrics.jsonl"); });
  result["curves"] = curves(metrics);
  add_perplexity_before(recipe, metrics, result["values"]);
  Json errors = error_curves(metrics, recipe.decompose.error);
  if (!errors.empty()) result["error_curves"] = std::move(errors);
  return result;
}

/// The values that runs have, each once: "float32", or "float32, float64".
template <class Value>
std::string distinct(const RecipeFile& file, const Value& value) {
  std::set<std::string> values;
  for (const auto& run : file.runs) values.insert(value(run->recipe));
  return fmt::format("{}", fmt::join(values, ", "));
}

/// Labels of the runs of `file` that are not among `stages`.
std::string left_out(const RecipeFile& file, const std::vector<std::unique_ptr<RunStages>>& stages) {
  std::vector<std::string> labels;
  for (const auto& run : file.runs) {
    const bool there = std::any_of(stages.begin(), stages.end(),
                                   [&](const auto& finished) { return &finished->run() == run.get(); });
    if (!there) labels.push_back(run->label);
  }
  return fmt::format("{}", fmt::join(labels, ", "));
}

/// Versions of the program that finished the stages, which may be older than this one.
std::string versions_of(const std::vector<std::unique_ptr<RunStages>>& stages) {
  std::set<std::string> versions;
  for (const auto& run : stages) {
    versions.insert(run->train_stage().program_version());
    versions.insert(run->decompose_stage().program_version());
    versions.insert(run->evaluate_stage().program_version());
  }
  return fmt::format("{}", fmt::join(versions, ", "));
}

Json provenance(const RecipeFile& file, const std::vector<std::unique_ptr<RunStages>>& stages) {
  Json result = {{"program", fmt::format("exactmamba {}", versions_of(stages))},
                 {"LibTorch", core::torch_version()},
                 {"training dtype", distinct(file, [](const Recipe& r) { return r.train.dtype; })},
                 {"decomposition dtype", distinct(file, [](const Recipe& r) { return r.decompose.dtype; })},
                 {"approximation error", distinct(file, [](const Recipe& r) { return r.decompose.error; })},
                 {"convolution bias", distinct(file, [](const Recipe& r) { return r.decompose.bias; })},
                 {"seed", distinct(file, [](const Recipe& r) { return std::to_string(r.run.seed); })}};
  if (!file.sets.empty()) result["--set"] = fmt::format("{}", fmt::join(file.sets, ", "));
  for (const auto& run : stages) {
    const Json measures = run->evaluate_stage().result();
    if (measures.contains(eval::kAlignmentKey))
      result["AER without a model"] = eval::sanity_text(measures[eval::kAlignmentKey]);
  }
  const std::string diverged = left_out(file, stages);
  if (!diverged.empty()) result["diverged runs, not shown"] = diverged;
  return result;
}

}  // namespace

Json report_document(const RecipeFile& file, const std::vector<std::unique_ptr<RunStages>>& stages) {
  const Recipe& first = file.first();
  const std::vector<std::string> keys = swept_keys(file);
  Json rows = Json::array();
  std::vector<std::vector<eval::TranslatedSet>> translations;
  for (const auto& run : stages) {
    rows.push_back(row(*run, keys));
    const core::Stage evaluate = run->evaluate_stage();
    translations.push_back(evaluate.reading(
        [&evaluate] { return eval::load_translations(translation_folder(evaluate), evaluate.result()); }));
  }
  eval::add_bleu_intervals(rows, translations);
  return {{"format_version", core::kFormatVersion},
          {"program", fmt::format("exactmamba {}", core::version())},
          {"title", first.report.title.empty() ? first.run.name : first.report.title},
          {"recipe", file.text},
          {"provenance", provenance(file, stages)},
          {"columns", eval::report_columns(rows)},
          {"rows", rows}};
}

}  // namespace exactmamba::cli
