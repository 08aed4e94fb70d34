// The evaluation of a trained model: parts that are stages of their own, so that what one of them finished is
// kept when a later one is stopped, and another beam aligns nothing anew.
#include "eval/evaluation.h"

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "cli/alignment.h"
#include "cli/stages.h"
#include "core/device.h"
#include "core/error.h"
#include "core/files.h"
#include "data/translation.h"
#include "eval/alignment/alignment_values.h"
#include "eval/translation_comet.h"
#include "train/annealing.h"

namespace exactmamba::cli {
namespace fs = std::filesystem;
using core::Json;

namespace {

// Versions of what the parts compute (stages.cpp).
constexpr int kEvaluateAlgorithm = 3;
constexpr int kTranslateAlgorithm = 1;
constexpr int kCometAlgorithm = 2;
constexpr int kAlignAlgorithm = 1;
constexpr int kAerAlgorithm = 1;

/// [nullable]: of other tasks
const data::TranslationRows* translation_rows(const data::Datasets& datasets) {
  return dynamic_cast<const data::TranslationRows*>(datasets.valid.get());
}

eval::TestSet validation_set(const data::TranslationRows& rows, const eval::EvaluateOptions& options) {
  eval::TestSet set{.name = eval::kValidationSet, .pairs = rows.pairs()};
  const auto most = static_cast<size_t>(options.max_rows);
  if (most > 0 && most < set.pairs.size()) set.pairs.resize(most);
  return set;
}

/// A model in float32 translates where it was trained.
eval::TranslatedSet translated_set(const models::MambaLM& model, const data::TranslationRows& rows,
                                   const eval::TestSet& set, const Recipe& recipe,
                                   const fs::path& parts = {}) {
  const bool movable = model.placement().dtype == at::kFloat && model.placement().device.is_cpu();
  const at::Device device = core::device_from_name(movable ? recipe.run.device : "cpu");
  const std::optional<models::MambaLM> moved =
      device.is_cpu() ? std::nullopt : std::optional(model.to({at::kFloat, device, at::kFloat}));
  const eval::TranslateOptions options = {.beam = recipe.evaluate.beam,
                                          .length_penalty = recipe.evaluate.length_penalty,
                                          .max_ratio = recipe.evaluate.max_ratio};
  return eval::translated(moved ? *moved : model, rows.tokenizer(), set, options, parts);
}

/// Loaded when it is first asked for.
class LazyComet {
 public:
  LazyComet(const EvaluationData& data, const Recipe& recipe) : data_(data), recipe_(recipe) {}
  const eval::CometModel& operator()() {
    if (!model_)
      model_.emplace(data_.comet.value().path, core::device_from_name(recipe_.run.device),
                     eval::kRecipeCometDtype);
    return *model_;
  }

 private:
  const EvaluationData& data_;
  const Recipe& recipe_;
  std::optional<eval::CometModel> model_;
};

using NoLinks = std::vector<eval::MapLinks>;

/// Where an unfinished stage keeps what it has done, for lines_by_parts().
fs::path parts_of(const core::Stage& stage) { return stage.folder() / "parts"; }

/// Keeps the links of one direction.
EvaluationPart link_part(
    const core::Stage& stage, const eval::AlignmentTask& task,
    std::function<std::vector<eval::MapLinks>(const TrainedModel&, const fs::path& parts)> links) {
  return {stage,
          [&task, links = std::move(links)](const core::Stage& own, const TrainedModel& model) {
            return Json{{"maps", eval::save_links(own.folder(), task, links(model, parts_of(own)))}};
          },
          /*measures=*/false};
}

std::vector<eval::MapLinks> kept_links(const core::Stage& stage, const eval::AlignmentTask& task) {
  return stage.reading([&] { return eval::load_links(stage.folder(), task, stage.result().at("maps")); });
}

}  // namespace

std::vector<eval::TestSet> translated_sets(const Recipe& recipe, const data::Datasets& datasets,
                                           const EvaluationData& data) {
  const data::TranslationRows* rows = translation_rows(datasets);
  if (rows == nullptr || !recipe.evaluate.bleu) return {};
  std::vector<eval::TestSet> sets = {validation_set(*rows, recipe.evaluate)};
  sets.insert(sets.end(), data.test_sets.begin(), data.test_sets.end());
  return sets;
}

core::Stage RunStages::translate_stage(const eval::TestSet& set) const {
  return later_stage("translate", kTranslateAlgorithm,
                     {"evaluate.beam", "evaluate.length_penalty", "evaluate.max_ratio"},
                     {{"pairs", fingerprint(set)}});
}

Json RunStages::measures_before() const {
  if (!base_ && run_.recipe.model.from.empty()) return Json::object();
  const train::TrainOptions& training = run_.recipe.train;
  models::MambaLM model = starting_model();
  models::ConvActivation activation = model.config().activation;
  activation.alpha =
      train::annealing_alpha(train::annealing_from_name(training.annealing), 0, training.steps);
  model.set_activation(activation);
  return {{"perplexity_before", eval::perplexity(model, *datasets_.valid, run_.recipe.evaluate)}};
}

std::vector<EvaluationPart> RunStages::evaluation_parts() const {
  std::vector<EvaluationPart> parts = {
      {later_stage("evaluate", kEvaluateAlgorithm, {"evaluate.max_rows", "evaluate.free_running"}),
       [this](const core::Stage&, const TrainedModel& model) {
         const Json before = measures_before();  // one model in memory at a time
         Json measures = eval::model_measures(model(), *datasets_.valid, run_.recipe.evaluate);
         measures.update(before);
         return measures;
       }}};
  for (const eval::TestSet& set : sets_) {
    parts.push_back({translate_stage(set), [this, &set](const core::Stage& stage, const TrainedModel& model) {
                       const auto found = translated_set(model(), *translation_rows(datasets_), set,
                                                         run_.recipe, parts_of(stage));
                       eval::save_translations(stage.folder(), found);
                       return eval::translation_measures(found);
                     }});
  }
  if (evaluation_->comet) add_comet_parts(parts);
  if (evaluation_->alignment) add_alignment_parts(*evaluation_->alignment, parts);
  return parts;
}

bool RunStages::scored_by_comet(const eval::TestSet& set) const {
  return evaluation_->comet && set.name != eval::kValidationSet;
}

core::Stage RunStages::comet_stage(const eval::TestSet& set) const {
  return later_stage("comet", kCometAlgorithm, {},
                     {{"translations", translate_stage(set).name()},
                      {"COMET model", evaluation_->comet->fingerprint.get()}});
}

void RunStages::add_comet_parts(std::vector<EvaluationPart>& parts) const {
  const auto comet = std::make_shared<LazyComet>(*evaluation_, run_.recipe);
  for (const eval::TestSet& set : sets_) {
    if (!scored_by_comet(set)) continue;
    parts.push_back({comet_stage(set), [this, &set, comet](const core::Stage& stage, const TrainedModel&) {
                       eval::TranslatedSet found = kept_translations(set);
                       found.comet = eval::comet_scores((*comet)(), set, found.translations, parts_of(stage));
                       eval::save_comet(stage.folder(), set.name, found.comet);
                       return eval::comet_measures(found);
                     }});
  }
}

void RunStages::add_alignment_parts(const AlignmentData& data, std::vector<EvaluationPart>& parts) const {
  const eval::AlignmentTask& task = data.task;
  const Inputs sentences = {{"sentences", sentence_fingerprint(task)}};
  const core::Stage forward = later_stage("align", kAlignAlgorithm, kLinkOptions, sentences);
  parts.push_back(link_part(forward, task, [this, &task](const TrainedModel& model, const fs::path& kept) {
    return forward_links(run_.recipe, model(), translation_rows(datasets_)->tokenizer(), task, kept);
  }));
  Inputs inputs = {{"forward", forward.name()}, {"gold", gold_fingerprint(task)}};
  std::optional<core::Stage> reverse;
  if (!data.reverse_model.empty()) {
    Inputs of_reverse = sentences;  // and no training: the runs of a sweep share the stage
    of_reverse.insert(of_reverse.end(), data.reverse_model.begin(), data.reverse_model.end());
    reverse.emplace(run_.recipe.run.output, "align_reverse", kAlignAlgorithm,
                    run_.schema.canonical(kLinkOptions), std::move(of_reverse));
    parts.push_back(link_part(*reverse, task, [this, &task](const TrainedModel&, const fs::path& kept) {
      return reverse_links(run_.recipe, task, kept);
    }));
    inputs.emplace_back("reverse", reverse->name());
  }
  parts.push_back({later_stage("aer", kAerAlgorithm, {"evaluate.alignment"}, inputs),
                   [this, &task, forward, reverse](const core::Stage& stage, const TrainedModel& model) {
                     const std::vector<eval::MapLinks> links = kept_links(forward, task);
                     Json scores = alignment_scores(run_.recipe, task, links,
                                                    reverse ? kept_links(*reverse, task) : NoLinks());
                     core::write_file(stage.folder() / "alignment.md", eval::alignment_markdown(scores));
                     scores["heat_maps"] = alignment_heat_maps(
                         run_.recipe, model(), translation_rows(datasets_)->tokenizer(), task, links);
                     return Json{{eval::kAlignmentKey, scores}};
                   }});
}

void RunStages::evaluate() {
  core::require(datasets_.valid != nullptr, "evaluate reads validation data, and data.valid is empty");
  std::optional<models::MambaLM> loaded;  // by the first part that is not done
  const TrainedModel model = [this, &loaded]() -> const models::MambaLM& {
    if (!loaded) loaded.emplace(trained_model(train::training_dtype(run_.recipe.train)));
    return *loaded;
  };
  for (const EvaluationPart& part : evaluation_parts())
    complete_later(part.stage, [&] {
      Json result = part.work(part.stage, model);
      core::remove_tree(parts_of(part.stage));
      return result;
    });
}

std::vector<core::Stage> RunStages::evaluation_stages() const {
  std::vector<core::Stage> stages;
  for (EvaluationPart& part : evaluation_parts()) stages.push_back(std::move(part.stage));
  return stages;
}

Json RunStages::measures() const {
  Json measures = Json::object();
  for (const EvaluationPart& part : evaluation_parts())
    if (part.measures) measures.update(part.stage.result());
  return measures;
}

Json RunStages::measures_of(const models::MambaLM& model) const {
  const Recipe& recipe = run_.recipe;
  Json measures = eval::model_measures(model, *datasets_.valid, recipe.evaluate);
  const data::TranslationRows* rows = translation_rows(datasets_);
  LazyComet comet(*evaluation_, recipe);
  for (const eval::TestSet& set : sets_) {
    eval::TranslatedSet found = translated_set(model, *rows, set, recipe);
    measures.update(eval::translation_measures(found));
    if (!scored_by_comet(set)) continue;
    found.comet = eval::comet_scores(comet(), set, found.translations);
    measures.update(eval::comet_measures(found));
  }
  if (!evaluation_->alignment) return measures;
  const auto& [task, reverse_model] = *evaluation_->alignment;
  measures[eval::kAlignmentKey] =
      alignment_scores(recipe, task, forward_links(recipe, model, rows->tokenizer(), task),
                       reverse_model.empty() ? NoLinks() : reverse_links(recipe, task));
  return measures;
}

eval::TranslatedSet RunStages::kept_translations(const eval::TestSet& set) const {
  const core::Stage stage = translate_stage(set);
  return stage.reading([&] { return eval::load_translations(stage.folder(), set.name); });
}

std::vector<eval::TranslatedSet> RunStages::translations() const {
  std::vector<eval::TranslatedSet> translations;
  for (const eval::TestSet& set : sets_) {
    translations.push_back(kept_translations(set));
    if (!scored_by_comet(set)) continue;
    const core::Stage stage = comet_stage(set);
    stage.reading([&] { eval::load_comet(stage.folder(), translations.back()); });
    translations.back().comet_model = evaluation_->comet->fingerprint.get();
  }
  return translations;
}

}  // namespace exactmamba::cli
