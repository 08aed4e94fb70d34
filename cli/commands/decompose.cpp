#include "decomp/decompose.h"

#include <filesystem>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/stages.h"
#include "cli/tokens.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "decomp/map_files.h"
#include "eval/evaluation.h"
#include "models/checkpoint.h"

namespace exactmamba::cli {
namespace {

using core::Json;

/// "layer 0 0.123  layer 1 0.456" of every approximation.
std::string error_text(const std::string& label, const Json& errors, const std::string& measure) {
  std::string text;
  for (const auto& [approximation, layers] : errors.at("measures").at(measure).items()) {
    text += fmt::format("{}: error of {} ({}, bias {}, {}, {} rows), layer by layer: {}\n", label,
                        approximation, measure, errors.at("bias").get<std::string>(),
                        errors.at("dtype").get<std::string>(), errors.at("rows").dump(), layers.dump());
  }
  return text;
}

void decompose_recipe(const RecipeArguments& arguments) {
  const RecipeFile file = checked_recipe(arguments);
  const auto stages = stages_of(file);
  for (const auto& run : stages) run->require_done(run->train_stage());
  Json all = Json::array();
  std::string text;
  for (const auto& run : stages) {
    run->decompose();
    const Json errors = run->decompose_stage().result();
    const std::string maps = (run->decompose_stage().folder() / "maps").string();
    all.push_back({{"label", run->label()}, {"maps", maps}, {"errors", errors}});
    text += error_text(run->label(), errors, run->run().recipe.decompose.error) +
            fmt::format("{}: maps in {}\n", run->label(), maps);
  }
  arguments.common.json ? write_json_result(all) : write_result(text);
}

decomp::DecomposeOptions options_from(const std::vector<std::string>& sets) {
  decomp::DecomposeOptions options;
  core::Schema schema;
  decomp::bind(schema, options);
  std::vector<core::Schema::Assignment> assignments;
  for (const std::string& set : sets) assignments.push_back(core::command_line_assignment(set));
  schema.load("", "command line", assignments);
  return options;
}

void decompose_model(const DecomposeArguments& arguments) {
  const std::string& folder = arguments.recipe.file;
  const ModelArguments& in = arguments.model;
  core::require<core::UsageError>(!in.output.empty(), "give --output for the result");
  refuse_existing(in.output, in.overwrite);
  const decomp::DecomposeOptions options = options_from(arguments.recipe.sets);
  const Tokens tokens = read_tokens(in.tokens, models::load_config(folder));
  models::LoadOptions load;
  load.dtype = options.scalar_type();
  const models::MambaLM model = models::load_model(folder, load);
  const decomp::Row row{
      .input_ids = tokens.input_ids[0], .cu_seqlens = tokens.cu_seqlens, .targets = {}, .index = 0};
  if (arguments.full) {
    return save_tensors(in.output, in.overwrite, decomp::full_contributions(model, row, options),
                        {{"model_checksum", model.parameters().checksum()},
                         {"dtype", options.dtype},
                         {"bias", options.bias}});
  }
  core::require<core::UsageError>(in.output != "-",
                                  "maps are a folder of two files; --output - goes with --full only");
  core::AtomicFolder output(in.output, in.overwrite ? decomp::map_files() : std::vector<std::string>{});
  const decomp::Decomposition decomposition = decomp::decompose(model, {row}, options);
  decomp::save_maps(decomposition.maps, output.path());
  output.commit();
  const Json errors = eval::error_json(decomposition.errors, 1);
  arguments.recipe.common.json ? write_json_result(errors)
                               : write_result(error_text(folder, errors, options.error));
}

}  // namespace

void decompose(const DecomposeArguments& arguments) {
  if (std::filesystem::is_directory(arguments.recipe.file)) return decompose_model(arguments);
  const TokenArguments& tokens = arguments.model.tokens;
  const bool for_model =
      arguments.full || !arguments.model.output.empty() || !tokens.ids.empty() || !tokens.text.empty();
  core::require<core::UsageError>(!for_model,
                                  "--full, --ids, --text and --output go with a model folder, and {} is none",
                                  arguments.recipe.file);
  decompose_recipe(arguments.recipe);
}

}  // namespace exactmamba::cli
