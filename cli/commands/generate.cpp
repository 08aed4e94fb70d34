#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/model_device.h"
#include "cli/model_origin.h"
#include "cli/output.h"
#include "cli/tokens.h"
#include "core/error.h"
#include "core/json.h"
#include "models/beam_search.h"
#include "models/checkpoint.h"
#include "models/generation.h"

namespace exactmamba::cli {
namespace {

using Ids = std::vector<int64_t>;

/// A continuation of the prompt.
struct Result {
  Ids ids;
  std::optional<double> score;  // of beam search
};

int64_t stop_token(const GenerateArguments& arguments, const data::Tokenizer* tokenizer,
                   const models::ModelConfig& config) {
  const int64_t given = arguments.stop.value_or(-1);
  core::require(
      given < config.vocab_size,
      "--stop: {} is no token of the model, which has ids 0 to {}; give one of them, or -1 for none", given,
      config.vocab_size - 1);
  if (arguments.stop) return given;
  return tokenizer != nullptr ? tokenizer->eos_id() : config.eos_token_id;
}

std::optional<models::Sampling> sampling_of(const GenerateArguments& arguments) {
  if (!arguments.temperature && !arguments.top_k && !arguments.top_p) return std::nullopt;
  models::Sampling sampling;
  sampling.temperature = arguments.temperature.value_or(1);
  sampling.top_k = arguments.top_k.value_or(0);
  sampling.top_p = arguments.top_p.value_or(1);
  sampling.seed = static_cast<uint64_t>(arguments.seed.value_or(0));
  return sampling;
}

models::BeamOptions beam_options(const GenerateArguments& arguments, int64_t stop) {
  return {*arguments.beam, arguments.n_best, arguments.length_penalty.value_or(1), stop};
}

void check_choices(const GenerateArguments& arguments) {
  const auto sampling = sampling_of(arguments);
  core::require<core::UsageError>(
      !arguments.seed || sampling,
      "--seed is of tokens that are drawn; give --temperature, --top-k or --top-p");
  core::require<core::UsageError>(arguments.n_best == 1 || sampling || arguments.beam,
                                  "--n-best: there is one most likely continuation; give --beam or, for "
                                  "samples, --temperature, --top-k or --top-p");
  if (arguments.beam) models::check(beam_options(arguments, -1));
  if (sampling) models::check(*sampling);
}

std::vector<Result> results_of(const GenerateArguments& arguments, const models::MambaLM& model,
                               const Ids& prompt, int64_t stop) {
  std::vector<Result> results;
  if (arguments.beam) {
    auto found =
        models::beam_search(model, {prompt}, {arguments.max_new_tokens}, beam_options(arguments, stop));
    for (models::Hypothesis& each : found[0]) results.push_back({std::move(each.tokens), each.score});
    return results;
  }
  const models::GenerationOptions options{arguments.max_new_tokens, stop, arguments.bfloat16_states,
                                          sampling_of(arguments)};
  const std::vector<Ids> prompts(static_cast<size_t>(arguments.n_best), prompt);
  for (Ids& ids : models::generate(model, prompts, options))
    results.push_back({std::move(ids), std::nullopt});
  return results;
}

core::Json json_of(const Result& result, const data::Tokenizer* tokenizer) {
  core::Json json = {{"ids", result.ids}};
  if (result.score) json["score"] = *result.score;
  if (tokenizer != nullptr) json["text"] = tokenizer->decode(result.ids);
  return json;
}

}  // namespace

void generate(const GenerateArguments& arguments) {
  const ModelArguments& in = arguments.model;
  check_choices(arguments);
  const std::filesystem::path folder = model_of(in.model);
  const Tokens tokens = read_tokens(in.tokens, folder, models::load_config(folder));
  const data::Tokenizer* tokenizer = tokens.tokenizer.get();
  models::MambaLM model = load_model_on_device(in, folder);
  fit_vocabulary(model, tokens);

  const int64_t* ids = tokens.input_ids.const_data_ptr<int64_t>();
  const Ids prompt(ids, ids + tokens.input_ids.numel());
  const std::vector<Result> results =
      results_of(arguments, model, prompt, stop_token(arguments, tokenizer, model.config()));

  if (in.common.json) {
    core::Json json = {{"prompt_ids", prompt}};
    if (arguments.n_best == 1) json.update(json_of(results.at(0), tokenizer));
    for (const Result& result : results)
      if (arguments.n_best > 1) json["results"].push_back(json_of(result, tokenizer));
    return write_json_result(json);
  }
  std::string lines;
  for (const Result& result : results) {
    if (arguments.n_best > 1 && result.score) lines += fmt::format("{:.6f}\t", *result.score);
    lines +=
        tokenizer != nullptr ? tokenizer->decode(result.ids) : fmt::format("{}", fmt::join(result.ids, ","));
    lines += '\n';
  }
  write_result(lines);
}

}  // namespace exactmamba::cli
