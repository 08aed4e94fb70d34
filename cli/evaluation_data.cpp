#include "cli/evaluation_data.h"

namespace exactmamba::cli {

std::shared_ptr<const EvaluationData> read_evaluation_data(const RecipeRun& run) {
  const Recipe& recipe = run.recipe;
  return std::make_shared<const EvaluationData>(EvaluationData{
      eval::read_test_sets(recipe.evaluate.test, data::on_invalid_utf8(recipe.data.on_invalid_utf8)),
      read_alignment_data(run)});
}

}  // namespace exactmamba::cli
