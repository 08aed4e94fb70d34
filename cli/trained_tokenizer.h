// The tokenizer that a recipe has made from its training text (data.tokenizer = "bpe"): a stage of its own,
// which all runs with that text share.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/recipe.h"
#include "core/stage.h"
#include "data/tokenizers/bpe_spec.h"

namespace exactmamba::cli {

struct TrainedTokenizer {
  core::Stage stage;
  data::BpeSpec spec;
};

/// Keys of what decides on it, beside the content of the files.
const std::vector<std::string>& tokenizer_options();

/// What is done about a tokenizer that no finished stage has: makes it, throws, or gives nothing.
using MissingTokenizer =
    std::function<std::optional<data::BpeSpec>(const RecipeRun& run, const core::Stage& stage)>;

/// Makes it, with a progress line, and finishes the stage. @throws as data::train_tokenizer() and
/// core::Stage; Interrupted when a stop was asked for
std::optional<data::BpeSpec> make_and_keep(const RecipeRun& run, const core::Stage& stage);
/// The same without writing anything.
std::optional<data::BpeSpec> make_in_memory(const RecipeRun& run, const core::Stage& stage);
/// What to do first, in a line.
std::string not_made(const RecipeRun& run, const core::Stage& stage);
/// @throws InputError that says so
std::optional<data::BpeSpec> refuse_to_make(const RecipeRun& run, const core::Stage& stage);

/// Of a run that has one made. [nullable]: there is none, and `missing` gave nothing.
/// @throws InputError, IoError, saying what to delete, for a damaged stage; as `missing`
std::shared_ptr<const TrainedTokenizer> trained_tokenizer(const RecipeRun& run,
                                                          const MissingTokenizer& missing);

}  // namespace exactmamba::cli
