#include "cli/trained_tokenizer.h"

#include <functional>
#include <optional>

#include <fmt/format.h>

#include "cli/problems.h"
#include "cli/recipe_files.h"
#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/stop_signal.h"
#include "data/datasets.h"
#include "data/text_reader.h"
#include "data/tokenizers/bpe_tokenizer.h"

namespace exactmamba::cli {
namespace {

using core::Json;

/// To be raised when the same text gives another tokenizer.
constexpr int kAlgorithm = 2;
constexpr const char* kContent = "content";  // hash of the file

std::filesystem::path file_of(const core::Stage& stage) { return stage.folder() / data::kTokenizerFile; }

data::BpeSpec finished_spec(const core::Stage& stage) {
  return stage.reading([&stage] {
    const std::filesystem::path file = file_of(stage);
    core::require(stage.result().at(kContent) == core::hash_file_hex(file),
                  "{}: damaged: it is not as it was written", file.string());
    return data::read_bpe_spec(file);
  });
}

core::Stage stage_of(const RecipeRun& run) {
  return {run.recipe.run.output, "tokenizer", kAlgorithm, run.schema.canonical(tokenizer_options()),
          data::tokenizer_inputs(run.recipe.data)};
}

/// A line while texts are read, and one while tokens are made; looks whether a stop is asked for.
class Teller {
 public:
  explicit Teller(int64_t tokens) : total_(tokens) {}

  void operator()(int64_t texts, int64_t tokens) {
    if (const int signal = core::stop_requested(); signal != 0)
      throw core::Interrupted(
          signal, "stopped while making the tokenizer, of which nothing is kept; run again to make it anew");
    if (tokens > 0 && first_ == 0) {
      first_ = tokens;
      progress_.emplace("tokenizer", total_, "token", first_);
    }
    const int64_t done = tokens > 0 ? tokens : texts;
    if (done % kEvery == 0 || done == total_) progress_->update(done, static_cast<double>(done - first_));
  }

 private:
  static constexpr int64_t kEvery = 64;  // a line costs more than a text
  int64_t total_, first_ = 0;            // tokens
  std::optional<core::Progress> progress_{std::in_place, "reading for the tokenizer",
                                          core::Progress::kUnknownTotal, "text"};
};

}  // namespace

const std::vector<std::string>& tokenizer_options() {
  static const std::vector<std::string> options = {"data.task",
                                                   "data.tokenizer",
                                                   "data.vocab_size",
                                                   "data.train",
                                                   "data.exclude",
                                                   "data.separator",
                                                   "data.end",
                                                   "data.text_key",
                                                   "data.on_bad_record",
                                                   "data.on_invalid_utf8",
                                                   "data.min_characters",
                                                   "data.max_characters"};
  return options;
}

std::optional<data::BpeSpec> make_in_memory(const RecipeRun& run, const core::Stage&) {
  const core::StopHandler handler;
  const data::DataOptions& options = run.recipe.data;
  core::log_info(fmt::format("making a tokenizer of {} tokens from {}", options.vocab_size,
                             data::file_names({options.train.begin(), options.train.end()})));
  Teller teller(options.vocab_size);
  std::optional<data::BpeSpec> spec;
  with_places(run, [&] {
    at_place(place_of(run, "data.train"), [&] { spec = data::train_tokenizer(options, std::ref(teller)); });
  });
  return spec;
}

std::optional<data::BpeSpec> make_and_keep(const RecipeRun& run, const core::Stage& stage) {
  const core::StopHandler handler;  // until it is kept, which a signal must not end without a word
  const core::FileLock lock = stage.prepare();
  if (stage.done()) return finished_spec(stage);  // another process has just made it
  const std::optional<data::BpeSpec> spec = make_in_memory(run, stage);
  const std::string content = core::json_text(json_of(*spec), 2) + "\n";
  core::write_file(file_of(stage), content);
  stage.finish({{"tokens", spec->vocab.size()}, {kContent, core::hash_hex(content)}});
  if (const int signal = core::stop_requested(); signal != 0)
    throw core::Interrupted(signal,
                            "stopped when the tokenizer was made, which is kept; run again to continue");
  return spec;
}

std::string not_made(const RecipeRun& run, const core::Stage& stage) {
  return fmt::format(
      "'{}': its tokenizer is not made yet: there is no finished stage {} of these settings; run exactmamba "
      "run with them first",
      run.name(), stage.folder().string());
}

std::optional<data::BpeSpec> refuse_to_make(const RecipeRun& run, const core::Stage& stage) {
  throw core::InputError(not_made(run, stage));
}

std::shared_ptr<const TrainedTokenizer> trained_tokenizer(const RecipeRun& run,
                                                          const MissingTokenizer& missing) {
  core::Stage stage = stage_of(run);
  std::optional<data::BpeSpec> spec = stage.done() ? finished_spec(stage) : missing(run, stage);
  if (!spec) return nullptr;
  return std::make_shared<TrainedTokenizer>(TrainedTokenizer{std::move(stage), std::move(*spec)});
}

}  // namespace exactmamba::cli
