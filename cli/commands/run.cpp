// The commands that work on a recipe's stages.
#include <algorithm>
#include <filesystem>
#include <optional>
#include <unistd.h>

#include <fmt/format.h>

#include "cli/agreement.h"
#include "cli/alignment.h"
#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/launch.h"
#include "cli/model_origin.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/recipe_files.h"
#include "cli/report_document.h"
#include "cli/run_folder.h"
#include "core/distributed/job.h"
#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "data/tokenizers/open_tokenizer.h"
#include "eval/alignment/alignment_values.h"
#include "eval/alignment/model_alignment.h"
#include "eval/report.h"
#include "models/checkpoint.h"

namespace exactmamba::cli {
namespace {

using core::Json;
constexpr const char* kNotRun = "not run";

using Stages = std::vector<std::shared_ptr<RunStages>>;

void require_validation_data(const RecipeFile& file) {
  for (const auto& run : file.runs) {
    const data::DataOptions& options = run->recipe.data;
    core::require(options.task == "copy" || !options.valid.empty(),
                  "data.valid is empty, but decomposition and evaluation need validation data");
  }
}

void write_report(const RecipeFile& file, const Stages& stages, const Unfinished& unfinished, bool json) {
  const Json document = report_document(file, stages, unfinished);
  const std::filesystem::path output = file.first().run.output;
  eval::write_report(output, document);
  if (json) return write_json_result(document);
  const size_t columns = core::terminal_columns(STDOUT_FILENO);
  const std::string table =
      columns > 0 ? eval::report_table(document, columns) : eval::report_table(document);
  write_result(table + "\n" + (output / "report.html").string() + "\n");
}

/// The options that a measured model's numbers depend on.
Json ways_to_measure(const RecipeRun& run) {
  std::vector<std::string> names = {"evaluate", "train.dtype"};
  if (aligns(run)) names.insert(names.end(), kLinkOptions.begin(), kLinkOptions.end());
  return run.schema.canonical(names);
}

/// A model that no run made is measured once: on what data, and how, must not depend on the run.
void require_one_measure(const RecipeFile& file, const Stages& stages) {
  const RunStages& first = *stages.front();
  for (const auto& run : stages) {
    const bool same_data = run->datasets().valid->fingerprint() == first.datasets().valid->fingerprint();
    const bool same_way = ways_to_measure(run->run()) == ways_to_measure(first.run());
    core::require(
        same_data && same_way,
        "{}: the runs '{}' and '{}' differ in {}, and --model is measured once; leave that out of the "
        "sweep",
        file.name, first.label(), run->label(),
        same_data ? "[evaluate], train.dtype or what alignments are made by" : "their validation data");
  }
}

/// [nullable]: a model may carry none, or one that cannot be read, of which a warning says that nothing is
/// known.
std::shared_ptr<const data::Tokenizer> tokenizer_known_of(const std::string& model) {
  try {
    return data::carried_tokenizer(model);
  } catch (const core::InputError& error) {
    core::log_warning(fmt::format("{}; whether this model's tokens are those of data.tokenizer is not known",
                                  error.what()));
    return nullptr;
  }
}

/// A model that carries a tokenizer is measured on ids of the same. It may have further tokens that stand for
/// no text, as are appended for chats.
void require_its_tokenizer(const std::string& model, const RecipeRun& run, const data::Dataset& valid) {
  const auto own = run.schema.applies("data.tokenizer") ? tokenizer_known_of(model) : nullptr;
  if (!own) return;
  const auto require_same = [&](bool same, int64_t id) {
    core::require(same,
                  "{}: {} has a tokenizer of its own, of {} tokens, and not this one, of {}: token {} is "
                  "'{}' there, and '{}' here; set data.tokenizer to {}",
                  place_of(run, "data.tokenizer"), model, own->vocab_size(), valid.vocab_size(), id,
                  own->token_text(id), valid.token_text(id), model);
  };
  for (int64_t id = 0; id < valid.vocab_size(); ++id)
    require_same(own->token_text(id) == valid.token_text(id), id);
  for (int64_t id = valid.vocab_size(); id < own->vocab_size(); ++id)
    require_same(own->text_bytes(id) == 0, id);
}

/// A line a measure; the tables of alignments.
std::string measures_text(const Json& measures) {
  std::string text;
  for (const auto& [name, value] : measures.items()) {
    if (name != eval::kAlignmentKey)
      text += fmt::format("  {:<26} {:.4g}\n", name, core::json_number(value, name));
  }
  return measures.contains(eval::kAlignmentKey)
             ? text + "\n" + eval::alignment_markdown(measures[eval::kAlignmentKey])
             : text;
}

void write_measures(const Stages& stages, bool json) {
  Json all = Json::array();
  std::string text;
  for (const auto& run : stages) {
    const Json measures = run->measures();
    all.push_back({{"label", run->label()}, {"result", measures}});
    text += run->label() + "\n" + measures_text(measures);
  }
  json ? write_json_result(all) : write_result(text);
}

/// The checkpoint that is the result, and the best one where the training chose one.
void write_trained(const Stages& stages, bool json) {
  Json all = Json::array();
  std::string text;
  for (const auto& run : stages) {
    const std::string checkpoint = run->checkpoint().string();
    Json result = {{"checkpoint", checkpoint}, {"best", nullptr}};
    text += fmt::format("{}: {}\n", run->label(), checkpoint);
    if (const auto best = run->best_checkpoint()) {
      const std::string folder = best->folder.string(), measure = run->run().recipe.train.best_measure;
      result["best"] = {
          {"checkpoint", folder}, {"step", best->step}, {"measure", measure}, {"value", best->value}};
      text += fmt::format("{}: best {}, {:.4g} after update {}: {}\n", run->label(), measure, best->value,
                          best->step, folder);
    }
    all.push_back({{"label", run->label()}, {"result", result}});
  }
  json ? write_json_result(all) : write_result(text);
}

void warn_of_memory(const Stages& stages) {
  for (const auto& run : stages) {
    const std::string problem =
        run->train_stage().done() ? "" : memory_problem(run->run(), need_of(run->run()));
    if (!problem.empty()) core::log_warning(fmt::format("'{}': {}", run->label(), problem));
  }
}

/// For runs that are trained now: the first process keeps a tokenizer as soon as it is made, in an output
/// folder that is its own.
MissingTokenizer tokenizer_maker(const RecipeFile& file, bool overwrite) {
  if (core::job_of_this_process().rank > 0) return make_in_memory;
  return [&file, overwrite](const RecipeRun& run, const core::Stage& stage) {
    const std::string problem = device_problem(run);
    core::require(problem.empty(), "{}", problem);
    prepare_output(file, overwrite);
    return make_and_keep(run, stage);
  };
}

/// Trains all runs, together with the other processes of the job if there are any; a line about each run that
/// diverged. What follows is the work of the first process: nothing for the others.
std::optional<std::string> train_runs(const RecipeFile& file, Stages& stages, bool overwrite) {
  for (const auto& run : stages) run->require_a_batch(core::job_of_this_process().size);
  // What devices there are may differ from process to process.
  tell_failures_of(core::job_of_this_process(), /*alike=*/false);
  for (const auto& run : stages) run->require_trainable();
  const auto communicator = join_job(file.first());
  const bool is_first = communicator->rank() == 0;
  if (is_first) warn_of_memory(stages);
  require_agreement(stages, *communicator);
  if (is_first) prepare_output(file, overwrite);
  std::string diverged =
      without_diverged(stages, [&communicator](RunStages& run) { run.train(*communicator); });
  if (!is_first) return {};
  return diverged;
}

void evaluate_runs(Stages stages, bool json) {
  std::string diverged = without_diverged(stages, [](RunStages& run) { run.require_trained(); });
  diverged += without_diverged(stages, [](RunStages& run) { run.evaluate(); });
  if (!stages.empty()) write_measures(stages, json);
  throw_if_diverged(diverged);
}

/// Adds `run` to `unfinished`, unless all its stages are done. @throws as RunStages::finished()
void note_unfinished(const RunStages& run, Unfinished& unfinished) {
  const bool waits = unfinished.contains(run.run().base) && !run.has_start();
  if (!waits && run.finished()) return;
  unfinished[&run.run()] = std::filesystem::exists(run.train_stage().folder()) ? "unfinished" : kNotRun;
}

/// Those whose tokenizer is not made.
Unfinished without_stages(const RecipeFile& file, const Stages& stages) {
  Unfinished result;
  for (const auto& run : file.runs) result[run.get()] = kNotRun;
  for (const auto& run : stages) result.erase(&run->run());
  return result;
}

/// Nothing was begun: there is no stage, and the data may not be here.
bool is_untouched(const RecipeFile& file) {
  return !std::filesystem::exists(std::filesystem::path(file.first().run.output) / core::kStagesFolder);
}

/// Of a recipe that was never run: what is published.
void report_published(const RecipeFile& file, const RecipeArguments& arguments) {
  Unfinished all;
  for (const auto& run : file.runs) all[run.get()] = kNotRun;
  prepare_output(file, arguments.overwrite);
  write_report(file, {}, all, arguments.common.json);
}

}  // namespace

void run(const TrainingArguments& arguments) {
  if (launched(arguments)) return;
  const RecipeFile file = checked_recipe(arguments.recipe);
  eval::refuse_newer_report(file.first().run.output);
  require_validation_data(file);
  Stages stages = stages_of(file, tokenizer_maker(file, arguments.recipe.overwrite));
  std::optional<std::string> diverged = train_runs(file, stages, arguments.recipe.overwrite);
  if (!diverged) return;
  *diverged += without_diverged(stages, [](RunStages& run) {
    run.decompose();
    run.evaluate();
  });
  if (!stages.empty()) write_report(file, stages, {}, arguments.recipe.common.json);
  throw_if_diverged(*diverged);
}

void train(const TrainingArguments& arguments) {
  if (launched(arguments)) return;
  const RecipeFile file = checked_recipe(arguments.recipe);
  Stages stages = stages_of(file, tokenizer_maker(file, arguments.recipe.overwrite));
  const std::optional<std::string> diverged = train_runs(file, stages, arguments.recipe.overwrite);
  if (!diverged) return;
  if (!stages.empty()) write_trained(stages, arguments.recipe.common.json);
  throw_if_diverged(*diverged);
}

void report(const RecipeArguments& arguments) {
  const RecipeFile file = load_recipe(arguments.file, arguments.sets);
  const bool has_published = !file.first().published.runs.empty();
  eval::refuse_newer_report(file.first().run.output);
  if (has_published && is_untouched(file)) return report_published(file, arguments);
  check_needs(file, arguments);
  require_validation_data(file);
  std::string no_tokenizer;
  Stages stages = stages_of(file, [&no_tokenizer](const RecipeRun& run, const core::Stage& stage) {
    no_tokenizer = not_made(run, stage);
    return std::nullopt;
  });
  Unfinished unfinished = without_stages(file, stages);
  const std::string diverged =
      without_diverged(stages, [&unfinished](const RunStages& run) { note_unfinished(run, unfinished); });
  if (unfinished.size() == file.runs.size() && !has_published) {
    core::require(!stages.empty(), "{}", no_tokenizer);
    stages.front()->require_finished();
  }
  std::erase_if(stages, [&](const auto& run) { return unfinished.contains(&run->run()); });
  if (!stages.empty() || has_published) write_report(file, stages, unfinished, arguments.common.json);
  throw_if_diverged(diverged);
}

void evaluate(const EvaluateArguments& arguments) {
  const RecipeFile file = checked_recipe(arguments.recipe);
  require_validation_data(file);
  if (arguments.model.empty())
    return evaluate_runs(stages_of(file, refuse_to_make), arguments.recipe.common.json);
  const std::string folder = model_of(arguments.model).string();
  const Stages stages = stages_of(file, make_in_memory);
  require_one_measure(file, stages);
  const data::Dataset& valid = *stages.front()->datasets().valid;
  require_its_tokenizer(folder, *file.runs.front(), valid);
  models::LoadOptions options;
  options.dtype = train::training_dtype(file.first().train);
  models::MambaLM model = models::load_model(folder, options);
  core::require(valid.vocab_size() <= model.config().vocab_size,
                "{}: has a vocabulary of {} tokens, but the data has {}", folder, model.config().vocab_size,
                valid.vocab_size());
  model.set_vocab_size(valid.vocab_size());  // rows of padding are no predictions
  const Json measures = stages.front()->measures_of(model);
  arguments.recipe.common.json ? write_json_result(measures)
                               : write_result(folder + "\n" + measures_text(measures));
}

}  // namespace exactmamba::cli
