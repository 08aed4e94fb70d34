#include <filesystem>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/recipe.h"
#include "cli/recipe_files.h"
#include "core/error.h"
#include "core/json.h"
#include "core/log.h"

namespace exactmamba::cli {
namespace {

using core::Json;

Json options_json(const core::Schema& schema) {
  Json options = Json::object();
  for (const core::Option& option : schema.options()) {
    Json& json = options[option.key()] = {
        {"value", option.value()}, {"origin", option.origin()}, {"applies", schema.applies(option.key())}};
    if (!option.replaced().empty()) json["replaces"] = option.replaced();
  }
  return options;
}

Json sizes_json(const models::ModelConfig& config) {
  return {{"architecture", models::architecture_name(config.architecture)},
          {"n_layer", config.n_layer},
          {"d_model", config.d_model},
          {"d_state", config.d_state},
          {"vocab_rows", config.vocab_rows}};
}

/// What the sweep sets for this run.
Json swept_json(const RecipeRun& run) {
  Json values = Json::object();
  for (const core::Schema::Assignment& assignment : run.assignments)
    values[assignment.key] = run.schema.at(assignment.key).value();
  return values;
}

Json run_json(const RecipeRun& run, const Need& need) {
  const std::string device = device_problem(run);
  return {{"label", run.label},
          {"swept", swept_json(run)},
          {"model", sizes_json(need.config)},
          {"parameters", need.parameters},
          {"vocabulary", need.vocabulary},
          {"makes_tokenizer", data::trains_tokenizer(run.recipe.data)},
          {"steps", need.steps},
          {"tokens", need.tokens},
          {"memory_bytes", need.memory_bytes},
          {"problem_here", device.empty() ? memory_problem(run, need) : device}};
}

/// "KEY = VALUE" or "KEY VALUE", with commas between.
std::string members_text(const Json& object, const char* between) {
  std::vector<std::string> members;
  for (const auto& [key, value] : object.items()) members.push_back(key + between + value.dump());
  return fmt::format("{}", fmt::join(members, ", "));
}

std::string run_text(const Json& run) {
  const std::string label = run["label"].get<std::string>(), swept = members_text(run["swept"], " = ");
  Json sizes = run["model"];
  const std::string architecture = sizes["architecture"].get<std::string>();
  sizes.erase("architecture");
  const std::string problem = run["problem_here"].get<std::string>();
  return fmt::format(
      "  {}{}{}{} with {}: {} parameters, {} token ids{}, {} steps of together at most {} tokens, about {} "
      "of memory to train\n{}",
      label, swept.empty() ? "" : fmt::format(" ({})", swept), label.empty() ? "" : ": ", architecture,
      members_text(sizes, " "), core::human_count(run["parameters"].get<double>()), run["vocabulary"].dump(),
      run["makes_tokenizer"].get<bool>() ? " of a tokenizer that is made first" : "", run["steps"].dump(),
      core::human_count(run["tokens"].get<double>()), core::human_bytes(run["memory_bytes"].get<double>()),
      problem.empty() ? "" : fmt::format("    on this machine: {}\n", problem));
}

std::string as_text(const RecipeFile& file, const Json& runs) {
  std::string text = file.runs.front()->schema.listing();
  text += runs.size() == 1 ? "\n1 run\n" : fmt::format("\n{} runs; above: the first\n", runs.size());
  for (const Json& run : runs) text += run_text(run);
  return text;
}

}  // namespace

void validate(const ValidateArguments& arguments) {
  if (arguments.reference) return write_result(recipe_reference());
  core::require<core::UsageError>(!arguments.recipe.file.empty(),
                                  "validate needs a recipe; see exactmamba validate --help");
  const RecipeFile file = load_recipe(arguments.recipe.file, arguments.recipe.sets);
  check_files(file, ReadThrough::kAll);
  const std::vector<Need> needs = needs_of_runs(file);
  Json runs = Json::array();
  for (size_t i = 0; i < needs.size(); ++i) runs.push_back(run_json(*file.runs[i], needs[i]));
  if (!arguments.recipe.common.json) return write_result(as_text(file, runs));
  write_json_result({{"options", options_json(file.runs.front()->schema)}, {"runs", runs}});
}

}  // namespace exactmamba::cli
