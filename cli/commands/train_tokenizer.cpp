#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "core/environment.h"
#include "core/error.h"
#include "core/log.h"
#include "data/parallel_text.h"
#include "data/tokenizers/bpe_trainer.h"

namespace exactmamba::cli {
namespace {

/// Names as a recipe's: $NAME at the start is a variable, which the shell does not see in quotes.
std::vector<std::string> expanded(std::vector<std::string> names) {
  for (std::string& name : names) name = core::expand_environment(name).string();
  return names;
}

/// Before any text is read, by the names of the options.
void check_options(const TrainTokenizerArguments& arguments) {
  const std::string special = data::special_tokens_problem(arguments.special);
  core::require<core::UsageError>(special.empty(), "--special: {}", special);
  const std::string size = data::vocab_size_problem(arguments.vocab_size, arguments.special);
  core::require<core::UsageError>(size.empty(), "--vocab-size: {}", size);
}

void refuse_to_replace(const std::string& text, const std::string& output) {
  for (const std::string& file : data::names_pairs(text) ? data::pair_files(text) : std::vector{text}) {
    std::error_code missing;  // of either: not the same file
    core::require<core::UsageError>(!std::filesystem::equivalent(file, output, missing),
                                    "--output {} is the text {}, which it would replace; choose another name",
                                    output, file);
  }
}

}  // namespace

void train_tokenizer(const TrainTokenizerArguments& arguments) {
  refuse_existing(arguments.output, arguments.overwrite);
  refuse_place_in_run(arguments.output);
  const std::vector<std::string> files = expanded(arguments.in.files);
  for (const std::string& file : files) refuse_to_replace(file, arguments.output);
  refuse_two_results(arguments.output, arguments.common.json);
  check_options(arguments);
  const auto on_invalid = data::on_invalid_utf8(arguments.in.on_invalid_utf8);
  const auto on_bad_record = data::on_bad_record(arguments.in.on_bad_record);
  data::BpeTrainer trainer({arguments.vocab_size, arguments.min_frequency, arguments.special, arguments.nfc});
  bool any = false;
  for (const std::string& file : files) {
    data::LeftOut left_out;
    data::read_all_texts(file, arguments.in.text_key, data::counting(left_out, on_invalid, on_bad_record),
                         [&](const std::string& text, const std::string&) {
                           any = any || !text.empty();
                           trainer.add(text);
                         });
    data::log_left_out(left_out, file);
  }
  core::require(any, "there is no text in {}", data::file_names({files.begin(), files.end()}));
  const data::BpeSpec spec = trainer.train();
  const auto tokens = static_cast<int64_t>(spec.vocab.size());
  if (tokens < arguments.vocab_size)
    core::log_warning(fmt::format(
        "{} tokens instead of --vocab-size {}: the text has no further pair of tokens{}; give more "
        "text or ask for fewer",
        tokens, arguments.vocab_size,
        arguments.min_frequency > 1
            ? fmt::format(" that occurs --min-frequency {} times", arguments.min_frequency)
            : ""));
  const core::Json json = json_of(spec);
  if (arguments.output == "-") return write_result(core::json_text(json, 2) + "\n");
  core::write_json(arguments.output, json);
  const core::Json result = {
      {"output", arguments.output}, {"tokens", tokens}, {"merges", spec.merges.size()}};
  arguments.common.json
      ? write_json_result(result)
      : write_result(fmt::format("{}: {} tokens, {} merges\n", arguments.output, tokens, spec.merges.size()));
}

}  // namespace exactmamba::cli
