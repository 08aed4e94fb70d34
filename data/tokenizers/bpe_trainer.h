// Trains byte-level BPE (Sennrich et al. 2016): the most frequent pair of neighbours becomes a token, again
// and again. The same merges as Hugging Face's BpeTrainer with the whole byte alphabet; they do not depend on
// the order of the texts.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizers/bpe_spec.h"
#include "data/tokenizers/word_map.h"
#include "data/tokenizers/word_pattern.h"

namespace exactmamba::data {

struct BpeTrainingOptions {
  int64_t vocab_size = 8000;                     // special tokens and the 256 bytes included
  int64_t min_frequency = 0;                     // of a pair that becomes a token
  std::vector<std::string> special_tokens = {};  // ids from 0
  bool nfc = false;
};

/// Special tokens that are empty, given twice, no UTF-8 or the tokens of bytes, in a line; "" for none.
std::string special_tokens_problem(const std::vector<std::string>& tokens);
/// A vocabulary that does not hold these and the bytes, or is larger than kMostTokens; "" otherwise.
std::string vocab_size_problem(int64_t vocab_size, const std::vector<std::string>& special_tokens);

class BpeTrainer {
 public:
  /// @throws InputError for the problems above
  explicit BpeTrainer(BpeTrainingOptions options);

  /// Counts the words of `text`. @throws InputError when it is not UTF-8
  void add(std::string_view text);

  /// Smaller than vocab_size when no pair is left that is frequent enough. Of pairs of one frequency the one
  /// with the smaller ids comes first, the left id counting more. `told`: of how many tokens there are, again
  /// and again; what it throws ends the training.
  BpeSpec train(const std::function<void(int64_t tokens)>& told = {}) const;

 private:
  BpeTrainingOptions options_;
  WordPattern pattern_;
  WordSplitter splitter_;
  WordMap<int64_t> counts_;  // [word]
};

}  // namespace exactmamba::data
