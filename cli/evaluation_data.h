// What evaluations read beside the model and the validation data.
#pragma once

#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/alignment.h"
#include "cli/recipe.h"
#include "eval/translation_scores.h"

namespace exactmamba::cli {

/// evaluate.comet_model.
struct CometFolder {
  std::filesystem::path path;
  std::shared_future<std::string> fingerprint;  // of its content, which is large: read when it is asked for
};

struct EvaluationData {
  std::vector<eval::TestSet> test_sets;    // of evaluate.test
  std::optional<AlignmentData> alignment;  // of evaluate.alignment
  std::optional<CometFolder> comet;
};

/// @throws IoError, InputError for files that cannot be used
std::shared_ptr<const EvaluationData> read_evaluation_data(const RecipeRun& run);

}  // namespace exactmamba::cli
