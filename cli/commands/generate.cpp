#include <algorithm>
#include <cmath>
#include <unistd.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/model_device.h"
#include "cli/model_origin.h"
#include "cli/output.h"
#include "cli/tokens.h"
#include "core/error.h"
#include "core/json.h"
#include "data/line_reader.h"
#include "data/tokenizers/stream_decoder.h"
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

/// Tokens that may follow a prompt.
int64_t longest(const GenerateArguments& arguments, const Ids& prompt) {
  if (!arguments.max_ratio) return arguments.max_new_tokens;
  const double most = std::ceil(*arguments.max_ratio * static_cast<double>(prompt.size()));
  return static_cast<int64_t>(std::clamp(most, 1.0, static_cast<double>(arguments.max_new_tokens)));
}

/// Prompts and what is written for them.
class Continuation {
 public:
  Continuation(const GenerateArguments& arguments, const std::filesystem::path& folder, Tokens tokens)
      : arguments_(arguments),
        tokens_(std::move(tokens)),
        model_(load_model_on_device(arguments.model, folder)) {
    fit_vocabulary(model_, tokens_);
    stop_ = stop_token(arguments, tokens_.tokenizer.get(), model_.config());
  }

  /// That of the arguments.
  void of_one_prompt() {
    const int64_t* ids = tokens_.input_ids.const_data_ptr<int64_t>();
    const Ids prompt(ids, ids + tokens_.input_ids.numel());
    const bool json = arguments_.model.common.json, text = tokens_.tokenizer && !json;
    if (text && !arguments_.beam && arguments_.n_best == 1 && ::isatty(STDOUT_FILENO) == 1)
      return stream(prompt);
    const std::vector<Result> results = results_of({prompt}).at(0);
    if (json) return write_json_result(json_of(prompt, results));
    std::string lines;
    for (const Result& result : results) {
      if (arguments_.n_best > 1 && result.score) lines += fmt::format("{:.6f}\t", *result.score);
      lines += text_of(result) + '\n';
    }
    write_result(lines);
  }

  /// Those in a file, a line each.
  void of_lines(data::LineReader& reader) {
    const bool typed = arguments_.prompts == data::kStdin && ::isatty(STDIN_FILENO) == 1;
    const size_t batch = typed ? 1 : static_cast<size_t>(arguments_.batch);
    for (auto lines = reader.next_lines(batch); !lines.empty(); lines = reader.next_lines(batch))
      write_result(output_of(lines, reader));
  }

 private:
  void stream(const Ids& prompt) {
    data::StreamDecoder decoder(*tokens_.tokenizer, data::SpecialTokens::kSkip);
    models::generate(model_, {prompt}, options_for(longest(arguments_, prompt)),
                     [&](size_t, int64_t token) { write_result(decoder.push(token)); });
    write_result(decoder.finish() + '\n');
  }

  models::GenerationOptions options_for(int64_t max_new_tokens) const {
    models::GenerationOptions options{max_new_tokens, stop_, arguments_.bfloat16_states,
                                      sampling_of(arguments_)};
    if (options.sampling) options.sampling->first_sample = samples_;
    return options;
  }

  /// Of each prompt. What is drawn for it depends on the number of prompts before it.
  std::vector<std::vector<Result>> results_of(const std::vector<Ids>& prompts) {
    std::vector<int64_t> most;
    for (const Ids& prompt : prompts) most.push_back(longest(arguments_, prompt));
    std::vector<std::vector<Result>> results(prompts.size());
    if (prompts.empty()) return results;
    if (arguments_.beam) {
      auto found = models::beam_search(model_, prompts, most, beam_options(arguments_, stop_));
      for (size_t i = 0; i < prompts.size(); ++i)
        for (models::Hypothesis& each : found[i]) results[i].push_back({std::move(each.tokens), each.score});
      return results;
    }
    const auto each = static_cast<size_t>(arguments_.n_best);
    std::vector<Ids> rows;
    for (const Ids& prompt : prompts) rows.insert(rows.end(), each, prompt);
    const int64_t longest_of_all = *std::max_element(most.begin(), most.end());
    std::vector<Ids> made = models::generate(model_, rows, options_for(longest_of_all));
    samples_ += rows.size();
    for (size_t row = 0; row < made.size(); ++row) {
      made[row].resize(std::min(made[row].size(), static_cast<size_t>(most[row / each])));
      results[row / each].push_back({std::move(made[row]), std::nullopt});
    }
    return results;
  }

  /// An empty line is continued by nothing. `reader` has just read `lines`.
  std::string output_of(const std::vector<std::string>& lines, const data::LineReader& reader) {
    const int64_t first = reader.line_number() - static_cast<int64_t>(lines.size());
    std::vector<Ids> prompts;
    for (size_t i = 0; i < lines.size(); ++i) {
      if (lines[i].empty()) continue;
      try {
        prompts.push_back(ids_of_text(lines[i], *tokens_.tokenizer, model_.config()));
      } catch (const core::InputError& error) {
        throw core::InputError(
            fmt::format("{}:{}: {}", reader.file(), first + static_cast<int64_t>(i) + 1, error.what()));
      }
    }
    const std::vector<std::vector<Result>> results = results_of(prompts);
    std::string output;
    size_t next = 0;
    for (size_t i = 0; i < lines.size(); ++i) {
      const bool empty = lines[i].empty();
      output += output_of(first + static_cast<int64_t>(i), empty ? Ids() : prompts[next],
                          empty ? std::vector<Result>(1) : results[next]);
      next += empty ? 0 : 1;
    }
    return output;
  }

  /// Of the prompt with this number, from 0.
  std::string output_of(int64_t number, const Ids& prompt, const std::vector<Result>& results) const {
    if (arguments_.model.common.json) return json_line(json_of(prompt, results));
    std::string lines;
    for (const Result& result : results) {
      std::string text = text_of(result);
      std::replace_if(
          text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
      if (arguments_.n_best > 1) lines += fmt::format("{} ||| ", number);
      lines += text;
      if (arguments_.n_best > 1 && result.score) lines += fmt::format(" ||| {:.6f}", *result.score);
      lines += '\n';
    }
    return lines;
  }

  core::Json json_of(const Ids& prompt, const std::vector<Result>& results) const {
    core::Json json = {{"prompt_ids", prompt}};
    if (arguments_.n_best == 1) json.update(json_of(results.at(0)));
    for (const Result& result : results)
      if (arguments_.n_best > 1) json["results"].push_back(json_of(result));
    return json;
  }

  core::Json json_of(const Result& result) const {
    core::Json json = {{"ids", result.ids}};
    if (result.score) json["score"] = *result.score;
    if (tokens_.tokenizer) json["text"] = text_of(result);
    return json;
  }

  std::string text_of(const Result& result) const {
    return tokens_.tokenizer ? tokens_.tokenizer->decode(result.ids)
                             : fmt::format("{}", fmt::join(result.ids, ","));
  }

  const GenerateArguments& arguments_;
  Tokens tokens_;
  models::MambaLM model_;
  int64_t stop_ = -1;
  uint64_t samples_ = 0;  // that were drawn
};

}  // namespace

void generate(const GenerateArguments& arguments) {
  check_choices(arguments);
  const TokenArguments& in = arguments.model.tokens;
  core::require<core::UsageError>(!arguments.prompts.empty() || !in.ids.empty() || !in.text.empty(),
                                  "give a prompt with --ids or --text, or many with --prompts");
  std::optional<data::LineReader> prompts;  // a missing file is told before anything of the model
  if (!arguments.prompts.empty())
    prompts.emplace(arguments.prompts, data::on_invalid_utf8(arguments.on_invalid_utf8));
  const std::filesystem::path folder = model_of(arguments.model.model);
  const models::ModelConfig config = models::load_config(folder);
  if (!prompts) {
    Continuation(arguments, folder, read_tokens(in, folder, config)).of_one_prompt();
    return;
  }
  Tokens tokens;
  tokens.tokenizer = tokenizer_of(in.tokenizer, folder, config);
  Continuation(arguments, folder, std::move(tokens)).of_lines(*prompts);
}

}  // namespace exactmamba::cli
