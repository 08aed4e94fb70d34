// [evaluate.alignment] of a recipe: what it reads, the links of both directions, and their scores.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/recipe.h"
#include "core/json.h"
#include "data/translation_tokenizer.h"
#include "eval/alignment/model_alignment.h"
#include "models/mamba_lm.h"

namespace exactmamba::cli {

inline bool aligns(const RecipeRun& run) { return run.schema.applies("evaluate.alignment.gold"); }

/// The options that links depend on, for Schema::canonical().
inline const std::vector<std::string> kLinkOptions = {"evaluate.alignment.methods", "evaluate.alignment.rows",
                                                      "decompose.approximations", "decompose.bias",
                                                      "decompose.dtype"};

/// What alignments read beside the model.
struct AlignmentData {
  eval::AlignmentTask task;
  std::vector<std::pair<std::string, std::string>>
      reverse_model;  // (name, fingerprint); empty: there is none
};

/// Nothing for a run that does not align. @throws InputError, IoError for files that cannot be used
std::optional<AlignmentData> read_alignment_data(const RecipeRun& run);

/// By the maps of `model`, which is converted to decompose.dtype. `parts`: of eval::align().
std::vector<eval::MapLinks> forward_links(const Recipe& recipe, const models::MambaLM& model,
                                          const data::TranslationTokenizer& tokenizer,
                                          const eval::AlignmentTask& task,
                                          const std::filesystem::path& parts = {});
/// By those of evaluate.alignment.reverse_model.
std::vector<eval::MapLinks> reverse_links(const Recipe& recipe, const eval::AlignmentTask& task,
                                          const std::filesystem::path& parts = {});

/// eval::heat_maps() of `model`, whose forward_links() are `links`.
core::Json alignment_heat_maps(const Recipe& recipe, const models::MambaLM& model,
                               const data::TranslationTokenizer& tokenizer, const eval::AlignmentTask& task,
                               const std::vector<eval::MapLinks>& links);

/// As eval::alignment_markdown() takes them. `reverse`: empty without a reverse model.
core::Json alignment_scores(const Recipe& recipe, const eval::AlignmentTask& task,
                            const std::vector<eval::MapLinks>& forward,
                            const std::vector<eval::MapLinks>& reverse);

}  // namespace exactmamba::cli
