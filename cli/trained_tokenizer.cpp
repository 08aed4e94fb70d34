#include "cli/trained_tokenizer.h"

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/log.h"
#include "data/datasets.h"
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

TrainedTokenizer::TrainedTokenizer(const RecipeRun& run)
    : stage_(stage_of(run)),
      spec_(stage_.done() ? finished_spec(stage_) : data::train_tokenizer(run.recipe.data)) {}

std::shared_ptr<const TrainedTokenizer> trained_tokenizer(const RecipeRun& run) {
  return data::trains_tokenizer(run.recipe.data) ? std::make_shared<TrainedTokenizer>(run) : nullptr;
}

void TrainedTokenizer::keep() const {
  if (stage_.done()) return;
  const core::FileLock lock = stage_.prepare();
  const std::string content = core::json_text(json_of(spec_), 2) + "\n";
  core::write_file(file_of(stage_), content);
  stage_.finish({{"tokens", spec_.vocab.size()}, {kContent, core::hash_hex(content)}});
}

}  // namespace exactmamba::cli
