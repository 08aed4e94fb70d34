// [evaluate.alignment] of a recipe: the alignments of its translation model.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "cli/recipe.h"
#include "core/json.h"
#include "data/dataset.h"
#include "models/mamba_lm.h"

namespace exactmamba::cli {

inline bool aligns(const RecipeRun& run) { return run.schema.applies("evaluate.alignment.gold"); }

/// What the alignments depend on beside the model and [evaluate]: (name, fingerprint). Empty without
/// sentences. @throws InputError, IoError for files that cannot be used
std::vector<std::pair<std::string, std::string>> alignment_inputs(const RecipeRun& run);

/// The scores of `model`, which is converted to decompose.dtype, as eval::alignment_markdown() takes them.
/// Into `folder`, unless it is empty: alignment.md, alignments/*.pharaoh and reverse_alignments/*.pharaoh.
/// `data`: whose tokenizer the model has.
core::Json align_model(const RecipeRun& run, const models::MambaLM& model, const data::Dataset& data,
                       const std::filesystem::path& folder);

}  // namespace exactmamba::cli
