#include "cli/evaluation_data.h"

#include "core/environment.h"
#include "eval/comet/comet_config.h"

namespace exactmamba::cli {
namespace {

std::optional<CometFolder> read_comet_folder(const eval::EvaluateOptions& options) {
  if (options.comet_model.empty()) return std::nullopt;
  const std::filesystem::path folder = core::expand_environment(options.comet_model);
  return CometFolder{folder, std::async(std::launch::deferred, [folder] {
                               return eval::fingerprint(eval::CometFiles(folder));
                             }).share()};
}

}  // namespace

std::shared_ptr<const EvaluationData> read_evaluation_data(const RecipeRun& run) {
  const Recipe& recipe = run.recipe;
  return std::make_shared<const EvaluationData>(EvaluationData{
      eval::read_test_sets(recipe.evaluate.test, data::on_invalid_utf8(recipe.data.on_invalid_utf8)),
      read_alignment_data(run), read_comet_folder(recipe.evaluate)});
}

}  // namespace exactmamba::cli
