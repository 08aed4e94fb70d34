// The tokenizer that a recipe has made from its training text (data.tokenizer = "bpe"): a stage of its own,
// which all runs with that text share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/recipe.h"
#include "core/stage.h"
#include "data/tokenizers/bpe_spec.h"

namespace exactmamba::cli {

class TrainedTokenizer {
 public:
  /// Of the stage when it is finished, else made now, in memory: the output folder is not touched before all
  /// data is read. @throws as data::train_tokenizer(); InputError, IoError, saying what to delete, for a
  /// damaged stage
  explicit TrainedTokenizer(const RecipeRun& run);

  const data::BpeSpec& spec() const { return spec_; }
  /// Writes tokenizer.json and finishes the stage, unless that is done. @throws IoError
  void keep() const;

 private:
  core::Stage stage_;
  data::BpeSpec spec_;
};

/// Keys of what decides on it, beside the content of the files.
const std::vector<std::string>& tokenizer_options();

/// [nullable]: the run has none made. @throws as TrainedTokenizer
std::shared_ptr<const TrainedTokenizer> trained_tokenizer(const RecipeRun& run);

}  // namespace exactmamba::cli
