#include <filesystem>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/contents.h"
#include "cli/model_origin.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/stages.h"
#include "cli/tokens.h"
#include "core/error.h"
#include "core/json.h"
#include "decomp/row_file.h"
#include "eval/evaluation.h"
#include "models/checkpoint.h"

namespace exactmamba::cli {
namespace {

using core::Json;

/// A line a layer, a column an approximation.
std::string error_text(const std::string& label, const Json& errors, const std::string& measure) {
  const Json& by_approximation = errors.at("measures").at(measure);
  std::string text = fmt::format("{}: approximation error {}, bias {}, {}, rows: {}\n  layer", label, measure,
                                 errors.at("bias").get<std::string>(), errors.at("dtype").get<std::string>(),
                                 errors.at("rows").dump());
  for (const auto& [approximation, layers] : by_approximation.items())
    text += fmt::format("  {:>10}", approximation);
  for (size_t layer = 0; layer < by_approximation.front().size(); ++layer) {
    text += fmt::format("\n  {:>5}", layer);
    for (const Json& layers : by_approximation)
      text += fmt::format("  {:>10.4g}", layers.at(layer).get<double>());
  }
  return text + "\n";
}

void write_decompositions(const std::vector<std::shared_ptr<RunStages>>& stages, bool json) {
  Json all = Json::array();
  std::string text;
  for (const auto& run : stages) {
    const core::Stage stage = run->decompose_stage();
    const Json errors = stage.result();
    const std::string maps = row_folder(stage).string();
    all.push_back({{"label", run->label()}, {"maps", maps}, {"errors", errors}});
    text += error_text(run->label(), errors, run->run().recipe.decompose.error) +
            fmt::format("  maps in {}\n", maps);
  }
  json ? write_json_result(all) : write_result(text);
}

void decompose_recipe(const RecipeArguments& arguments) {
  const RecipeFile file = checked_recipe(arguments);
  auto stages = stages_of(file);
  std::string diverged = without_diverged(stages, [](RunStages& run) { run.require_trained(); });
  diverged += without_diverged(stages, [](RunStages& run) { run.decompose(); });
  if (!stages.empty()) write_decompositions(stages, arguments.common.json);
  throw_if_diverged(diverged);
}

/// [decompose] as --set has it; what this form of the command does not use is refused.
decomp::DecomposeOptions options_from(const std::vector<std::string>& sets, bool full) {
  decomp::DecomposeOptions options;
  core::Schema schema;
  decomp::bind(schema, options);
  std::vector<core::Schema::Assignment> assignments;
  for (const std::string& set : sets) assignments.push_back(core::command_line_assignment(set));
  schema.load("", "command line", assignments);
  std::vector<std::pair<const char*, const char*>> idle = {{"decompose.max_rows", "with a recipe"}};
  if (full)
    idle.insert(idle.end(), {{"decompose.methods", "without --full"}, {"decompose.error", "without --full"}});
  for (const auto& [key, condition] : idle) {
    const core::Option& option = schema.at(key);
    core::require<core::UsageError>(!option.is_set(), "{}: '{}' has a meaning only {}; remove it",
                                    option.origin(), key, condition);
  }
  return options;
}

/// Of --targets: undefined for "predicted".
at::Tensor targets_from(const std::string& targets, const decomp::Row& row,
                        const models::ModelConfig& config) {
  if (targets == "predicted") return {};
  return targets == "next" ? decomp::next_tokens(row) : read_targets(targets, row.input_ids.size(0), config);
}

void check_arguments(const DecomposeArguments& arguments, const decomp::DecomposeOptions& options) {
  core::require<core::UsageError>(!arguments.model.output.empty(), "give --output for the result");
  const bool splits_logits = options.wants("alti_logit") && !arguments.full;
  core::require<core::UsageError>(
      arguments.targets == "predicted" || splits_logits,
      "--targets says whose logit alti_logit splits; ask for it: --set 'decompose.methods=[\"alti_logit\"]', "
      "without --full");
  refuse_two_results(arguments.model.output, arguments.recipe.common.json);
  refuse_existing(arguments.model.output, arguments.model.overwrite);
  refuse_kept_place(arguments.model.output, arguments.recipe.file);
}

/// All maps are kept until then: the file's header names every one of them.
void write_maps(const ModelArguments& out, const decomp::DecomposedRow& row) {
  const decomp::RowFile file = decomp::row_file(row);
  save_tensors(out.output, out.overwrite, file.tensors, file.metadata);
}

void write_contributions(const DecomposeArguments& arguments, const models::MambaLM& model,
                         const decomp::Row& row, const decomp::DecomposeOptions& options,
                         const decomp::RowOrigin& origin) {
  const ModelArguments& out = arguments.model;
  const decomp::RowFile file =
      decomp::contributions_file(origin, decomp::full_contributions(model, row, options), options);
  save_tensors(out.output, out.overwrite, file.tensors, file.metadata);
  if (!arguments.recipe.common.json) return;
  write_json_result({{"output", out.output},
                     {"tensors", tensors_json(file.tensors)},
                     {"model_checksum", origin.model_checksum},
                     {"dtype", options.dtype},
                     {"bias", options.bias}});
}

void decompose_model(const DecomposeArguments& arguments) {
  const ModelArguments& in = arguments.model;
  const decomp::DecomposeOptions options = options_from(arguments.recipe.sets, arguments.full);
  check_arguments(arguments, options);
  const std::filesystem::path folder = model_of(arguments.recipe.file);
  const models::ModelConfig config = models::load_config(folder);
  const Tokens tokens = read_tokens(in.tokens, folder, config);
  decomp::Row row{
      .input_ids = tokens.input_ids[0], .cu_seqlens = tokens.cu_seqlens, .targets = {}, .index = 0};
  row.targets = targets_from(arguments.targets, row, config);
  models::LoadOptions load;
  load.dtype = options.scalar_type();
  models::MambaLM model = models::load_model(folder, load);
  fit_vocabulary(model, tokens);
  const std::string checksum = model.parameters().checksum();
  const decomp::RowOrigin origin = decomp::origin_of(row, checksum);
  if (arguments.full) return write_contributions(arguments, model, row, options, origin);
  decomp::DecomposedRow result{.origin = origin, .maps = {}, .errors = {}};
  result.errors =
      decomp::decompose_row(model, checksum, row, options,
                            [&result](const decomp::InteractionMap& map) { result.maps.push_back(map); });
  write_maps(in, result);
  if (in.output == "-") return;  // stdout is taken
  Json errors = eval::error_json(result.errors, 1);
  if (!arguments.recipe.common.json) return write_result(error_text(folder.string(), errors, options.error));
  errors["output"] = in.output;
  write_json_result(errors);
}

/// Those that were given of the options that go with a model folder only.
std::vector<std::string> options_for_model(const DecomposeArguments& arguments) {
  const TokenArguments& tokens = arguments.model.tokens;
  const std::pair<const char*, bool> all[] = {
      {"--full", arguments.full},
      {"--ids", !tokens.ids.empty()},
      {"--text", !tokens.text.empty()},
      {"--tokenizer", !tokens.tokenizer.empty()},
      {"--cu-seqlens", !tokens.cu_seqlens.empty()},
      {"--targets", arguments.targets != DecomposeArguments{}.targets},
      {"--output", !arguments.model.output.empty()},
      {"--overwrite", arguments.model.overwrite}};
  std::vector<std::string> given;
  for (const auto& [name, is_given] : all)
    if (is_given) given.emplace_back(name);
  return given;
}

}  // namespace

void decompose(const DecomposeArguments& arguments) {
  const std::string& place = arguments.recipe.file;
  if (std::filesystem::is_directory(place)) return decompose_model(arguments);
  const std::vector<std::string> idle = options_for_model(arguments);
  core::require<core::IoError>(idle.empty() || std::filesystem::exists(place), "{}: no such model folder",
                               place);
  core::require<core::UsageError>(idle.empty(), "{}: is a file; these go with a model folder only: {}", place,
                                  fmt::join(idle, ", "));
  decompose_recipe(arguments.recipe);
}

}  // namespace exactmamba::cli
