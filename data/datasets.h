// The data sets that [data] of a recipe describes, and their tokenizer.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/data_options.h"
#include "data/dataset.h"
#include "data/tokenizers/bpe_spec.h"

namespace exactmamba::data {

struct Datasets {
  std::shared_ptr<Dataset> train;  // [not null]
  std::shared_ptr<Dataset>
      valid;  // [nullable] when data.valid is empty; copy and translation: one example a row, never packed
  /// What the folder of a model that is trained with the tokenizer carries of it, by names of files.
  std::map<std::string, std::string> tokenizer_files = {};
};

/// Makes the data of a key, "data.train" or "data.valid", so that its caller may say where what is thrown
/// belongs.
using MakePart = std::function<void(const std::string& key, const std::function<void()>& make)>;

/// File names are relative to the current folder; a leading $NAME or ${NAME} is taken from the environment.
/// `trained`: of train_tokenizer(), which is asked where it is needed and not given. [nullable]
/// @throws InputError, IoError: unset variables, missing, malformed or empty files.
Datasets make_datasets(const DataOptions& options, uint64_t seed, const BpeSpec* trained = nullptr,
                       const MakePart& make_part = {});

/// Of all tasks but copy: what make_datasets() would refuse in the pairs or token ids of data.train or of
/// data.valid, or that there is no text in them, without making rows. @throws as make_datasets
void check_training_files(const DataOptions& options);
void check_validation_files(const DataOptions& options);

/// How many texts are read and, when all are, how many tokens there are.
using TokenizerProgress = std::function<void(int64_t texts, int64_t tokens)>;

/// Token ids are below it; with data.tokenizer = "bpe" there may be fewer. @throws as open_tokenizer
int64_t vocabulary_of(const DataOptions& options);

/// Byte-level BPE of data.vocab_size tokens, the special ones of the task included, made from what
/// data.exclude, data.min_characters and data.max_characters leave of the files of data.train: documents,
/// or both sides of pairs. `told`: of how far it is, again and again; what it throws ends the work.
/// @throws as the readers of these files; InputError when no text is left
BpeSpec train_tokenizer(const DataOptions& options, const TokenizerProgress& told = {});

/// What its result depends on beside options: (name, hash) of the content of the files of data.train and
/// data.exclude. @throws IoError, InputError
std::vector<std::pair<std::string, std::string>> tokenizer_inputs(const DataOptions& options);

}  // namespace exactmamba::data
