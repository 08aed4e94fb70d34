// What evaluations read beside the model and the validation data.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "cli/alignment.h"
#include "cli/recipe.h"
#include "eval/translation_scores.h"

namespace exactmamba::cli {

struct EvaluationData {
  std::vector<eval::TestSet> test_sets;    // of evaluate.test
  std::optional<AlignmentData> alignment;  // of evaluate.alignment
};

/// @throws IoError, InputError for files that cannot be used
std::shared_ptr<const EvaluationData> read_evaluation_data(const RecipeRun& run);

}  // namespace exactmamba::cli
