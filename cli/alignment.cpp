#include "cli/alignment.h"

#include <optional>

#include <fmt/format.h>

#include "cli/model_origin.h"
#include "core/environment.h"
#include "core/error.h"
#include "core/hash.h"
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

eval::AlignmentRows rows_of(const Recipe& recipe) {
  return core::enum_from_name<eval::AlignmentRows>(eval::kAlignmentRowsNames, recipe.evaluate.alignment.rows,
                                                   "evaluate.alignment.rows");
}

eval::AlignmentModel with_tokenizer(const models::MambaLM& model,
                                    const data::TranslationTokenizer& tokenizer) {
  return {model, *tokenizer.tokenizer(), tokenizer.separator(), tokenizer.end()};
}

std::vector<eval::MapLinks> links_of(const Recipe& recipe, const models::MambaLM& model,
                                     const data::TranslationTokenizer& tokenizer,
                                     const eval::AlignmentTask& task, eval::Direction direction,
                                     const fs::path& parts) {
  return eval::align(with_tokenizer(model, tokenizer), task, direction, map_options(recipe), rows_of(recipe),
                     parts);
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

/// Its tokenizer and weights, by their content. @throws InputError when they do not belong together
std::vector<std::pair<std::string, std::string>> reverse_model(const Recipe& recipe) {
  const fs::path folder = reverse_folder(recipe);
  const auto tokenizer = data::TranslationTokenizer::load(folder);
  const int64_t tokens = tokenizer.tokenizer()->vocab_size(), there = models::load_config(folder).vocab_size;
  core::require(
      tokens <= there,
      "evaluate.alignment.reverse_model: {}: its tokenizer has {} tokens, but the model {}; use the "
      "tokenizer that it was trained with",
      folder.string(), tokens, there);
  std::vector<std::pair<std::string, std::string>> inputs = {{"reverse model", model_fingerprint(folder)}};
  for (const auto& [name, content] : tokenizer.files())
    inputs.emplace_back("reverse " + name, core::hash_hex(content));
  return inputs;
}

}  // namespace

std::optional<AlignmentData> read_alignment_data(const RecipeRun& run) {
  if (!aligns(run)) return std::nullopt;
  const eval::AlignmentOptions& options = run.recipe.evaluate.alignment;
  AlignmentData data{eval::read_alignment_task(options), {}};
  if (!options.reverse_model.empty()) data.reverse_model = reverse_model(run.recipe);
  return data;
}

std::vector<eval::MapLinks> forward_links(const Recipe& recipe, const models::MambaLM& model,
                                          const data::TranslationTokenizer& tokenizer,
                                          const eval::AlignmentTask& task, const fs::path& parts) {
  return links_of(recipe, model.to(recipe.decompose.scalar_type()), tokenizer, task,
                  eval::Direction::kForward, parts);
}

std::vector<eval::MapLinks> reverse_links(const Recipe& recipe, const eval::AlignmentTask& task,
                                          const fs::path& parts) {
  models::LoadOptions options;
  options.dtype = recipe.decompose.scalar_type();
  const fs::path folder = reverse_folder(recipe);
  const auto tokenizer = data::TranslationTokenizer::load(folder);
  return links_of(recipe, models::load_model(folder, options), tokenizer, task, eval::Direction::kReverse,
                  parts);
}

Json alignment_heat_maps(const Recipe& recipe, const models::MambaLM& model,
                         const data::TranslationTokenizer& tokenizer, const eval::AlignmentTask& task,
                         const std::vector<eval::MapLinks>& links) {
  const models::MambaLM converted = model.to(recipe.decompose.scalar_type());
  return eval::heat_maps(with_tokenizer(converted, tokenizer), task, links, map_options(recipe),
                         rows_of(recipe));
}

Json alignment_scores(const Recipe& recipe, const eval::AlignmentTask& task,
                      const std::vector<eval::MapLinks>& forward,
                      const std::vector<eval::MapLinks>& reverse) {
  const eval::AlignmentOptions& options = recipe.evaluate.alignment;
  Json scores = {{"about", about(options, task)},
                 {"sanity", eval::sanity_scores(task)},
                 {"maps", eval::map_scores(task, forward)}};
  if (reverse.empty()) return scores;
  scores["reverse_maps"] = eval::map_scores(task, reverse);
  scores["symmetrised"] = eval::symmetrised_scores(task, forward, reverse, options.symmetrise);
  return scores;
}

}  // namespace exactmamba::cli
