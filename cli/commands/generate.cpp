#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/model_device.h"
#include "cli/model_origin.h"
#include "cli/output.h"
#include "cli/tokens.h"
#include "core/error.h"
#include "core/json.h"
#include "models/checkpoint.h"
#include "models/generation.h"

namespace exactmamba::cli {
namespace {

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

}  // namespace

void generate(const GenerateArguments& arguments) {
  const ModelArguments& in = arguments.model;
  refuse_run_folder(in.model);
  const Tokens tokens = read_tokens(in.tokens, models::load_config(in.model));
  const data::Tokenizer* tokenizer = tokens.tokenizer.get();
  models::MambaLM model = load_model_on_device(in);
  fit_vocabulary(model, tokens);

  const int64_t* ids = tokens.input_ids.const_data_ptr<int64_t>();
  const std::vector<int64_t> prompt(ids, ids + tokens.input_ids.numel());
  const models::GenerationOptions options{
      arguments.max_new_tokens, stop_token(arguments, tokenizer, model.config()), arguments.bfloat16_states};
  const std::vector<int64_t> added = models::generate(model, {prompt}, options).at(0);

  if (in.common.json) {
    core::Json result = {{"prompt_ids", prompt}, {"ids", added}};
    if (tokenizer != nullptr) result["text"] = tokenizer->decode(added);
    return write_json_result(result);
  }
  write_result((tokenizer != nullptr ? tokenizer->decode(added) : fmt::format("{}", fmt::join(added, ","))) +
               "\n");
}

}  // namespace exactmamba::cli
