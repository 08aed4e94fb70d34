#include <filesystem>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/recipe.h"
#include "core/error.h"
#include "core/json.h"
#include "core/log.h"

namespace exactmamba::cli {
namespace {

using core::Json;

Json options_json(const core::Schema& schema) {
  Json options = Json::object();
  for (const core::Option& option : schema.options())
    options[option.key()] = {
        {"value", option.value()}, {"origin", option.origin()}, {"applies", schema.applies(option.key())}};
  return options;
}

Json need_json(const RecipeRun& run) {
  const Need need = need_of(run.recipe);
  return {{"label", run.label},  {"parameters", need.parameters}, {"vocabulary", need.vocabulary},
          {"steps", need.steps}, {"tokens", need.tokens},         {"memory_bytes", need.memory_bytes}};
}

std::string as_text(const RecipeFile& file, const Json& runs) {
  std::string text = file.runs.front()->schema.listing();
  text += fmt::format("\n{} {}\n", runs.size(), runs.size() == 1 ? "run" : "runs");
  for (const Json& run : runs) {
    const std::string label = run["label"].get<std::string>();
    text += fmt::format(
        "  {}{}{} parameters, {} token ids, {} steps of together at most {} tokens, about {} of memory to "
        "train\n",
        label, label.empty() ? "" : ": ", core::human_count(run["parameters"].get<double>()),
        run["vocabulary"].dump(), run["steps"].dump(), core::human_count(run["tokens"].get<double>()),
        core::human_bytes(run["memory_bytes"].get<double>()));
  }
  return text;
}

}  // namespace

void validate(const ValidateArguments& arguments) {
  if (arguments.reference) return write_result(recipe_reference());
  core::require<core::UsageError>(!arguments.recipe.file.empty(),
                                  "validate needs a recipe; see exactmamba validate --help");
  const RecipeFile file = load_recipe(arguments.recipe.file, arguments.recipe.sets);
  Json runs = Json::array();
  for (const auto& run : file.runs) runs.push_back(need_json(*run));
  if (!arguments.recipe.common.json) return write_result(as_text(file, runs));
  write_json_result({{"options", options_json(file.runs.front()->schema)}, {"runs", runs}});
}

}  // namespace exactmamba::cli
