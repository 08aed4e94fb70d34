#include "cli/alignment.h"

#include <optional>

#include <fmt/format.h>

#include "cli/model_origin.h"
#include "core/environment.h"
#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "data/translation.h"
#include "eval/alignment/model_alignment.h"
#include "models/checkpoint.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using core::Json;

decomp::DecomposeOptions map_options(const Recipe& recipe) {
  decomp::DecomposeOptions options = recipe.decompose;
  options.methods = recipe.evaluate.alignment.methods;
  options.layers.clear();
  return options;
}

std::vector<eval::MapLinks> links_of(const Recipe& recipe, const models::MambaLM& model,
                                     const data::TranslationTokenizer& tokenizer,
                                     const eval::AlignmentTask& task, eval::Direction direction) {
  const auto rows = core::enum_from_name<eval::AlignmentRows>(
      eval::kAlignmentRowsNames, recipe.evaluate.alignment.rows, "evaluate.alignment.rows");
  return eval::align({model, *tokenizer.tokenizer(), tokenizer.separator(), tokenizer.end()}, task, direction,
                     map_options(recipe), rows);
}

std::string about(const eval::AlignmentOptions& options, const eval::AlignmentTask& task) {
  return fmt::format(
      "{} pairs of {} against {}; layers chosen by {}; rows {}; bias and approximations as [decompose] has "
      "them.",
      task.size() - task.development, options.sentences, options.gold,
      task.development > 0 ? fmt::format("{} other pairs", task.development) : "nothing: no development part",
      options.rows);
}

fs::path reverse_folder(const Recipe& recipe) {
  return core::expand_environment(recipe.evaluate.alignment.reverse_model);
}

void add_reverse(Json& result, const Recipe& recipe, const eval::AlignmentTask& task,
                 const std::vector<eval::MapLinks>& forward, const fs::path& folder) {
  models::LoadOptions options;
  options.dtype = recipe.decompose.scalar_type();
  const fs::path model = reverse_folder(recipe);
  const std::vector<eval::MapLinks> reverse =
      links_of(recipe, models::load_model(model, options), data::TranslationTokenizer::load(model), task,
               eval::Direction::kReverse);
  result["reverse_maps"] = eval::map_scores(task, reverse);
  result["symmetrised"] =
      eval::symmetrised_scores(task, forward, reverse, recipe.evaluate.alignment.symmetrise);
  if (!folder.empty()) eval::write_alignments(folder / "reverse_alignments", task, reverse);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> alignment_inputs(const RecipeRun& run) {
  if (!aligns(run)) return {};
  const eval::AlignmentOptions& options = run.recipe.evaluate.alignment;
  std::vector<std::pair<std::string, std::string>> inputs = {
      {"gold alignments", eval::fingerprint(eval::read_alignment_task(options))}};
  if (!options.reverse_model.empty()) {
    const fs::path reverse = reverse_folder(run.recipe);
    inputs.emplace_back("reverse model", model_fingerprint(reverse));
    for (const auto& [name, content] : data::TranslationTokenizer::load(reverse).files())
      inputs.emplace_back("reverse " + name, core::hash_hex(content));
  }
  for (const char* key : {"decompose.approximations", "decompose.bias", "decompose.dtype"})
    inputs.emplace_back(key, run.schema.at(key).text());
  return inputs;
}

Json align_model(const RecipeRun& run, const models::MambaLM& model, const data::Dataset& data,
                 const fs::path& folder) {
  const Recipe& recipe = run.recipe;
  const auto& rows = dynamic_cast<const data::TranslationRows&>(data);
  const eval::AlignmentTask task = eval::read_alignment_task(recipe.evaluate.alignment);
  const std::vector<eval::MapLinks> links = links_of(recipe, model.to(recipe.decompose.scalar_type()),
                                                     rows.tokenizer(), task, eval::Direction::kForward);
  Json result = {{"about", about(recipe.evaluate.alignment, task)},
                 {"sanity", eval::sanity_scores(task)},
                 {"maps", eval::map_scores(task, links)}};
  if (!folder.empty()) eval::write_alignments(folder / "alignments", task, links);
  if (!recipe.evaluate.alignment.reverse_model.empty()) add_reverse(result, recipe, task, links, folder);
  if (!folder.empty()) core::write_file(folder / "alignment.md", eval::alignment_markdown(result));
  return result;
}

}  // namespace exactmamba::cli
