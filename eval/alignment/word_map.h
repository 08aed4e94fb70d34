// From a map over tokens to links of words (golden/decomposition/README.md, measures/words.json): sum over
// the tokens of a source word, mean over those of a target word, a link to the best source word.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "core/names.h"
#include "eval/alignment/links.h"

namespace exactmamba::eval {

/// Which row of a map speaks of a target token: that of the step that emits it, the token before it; or that
/// of the step that consumes it.
enum class AlignmentRows { kAwo, kAwi };
inline constexpr core::Names<2> kAlignmentRowsNames = {"awo", "awi"};

/// A row `source <SEP> target <EOS>` of tokens, as words.
struct WordedRow {
  std::vector<int64_t> source_words;  // [source token] its word
  std::vector<int64_t> target_words;  // [target token] its word
  SentenceLengths lengths;

  int64_t target_begin() const { return static_cast<int64_t>(source_words.size()) + 1; }
};

/// (target words, source words + special tokens), double: special tokens, whose word is −1, have columns of
/// their own behind the words, and their rows are dropped. −∞ where a word has no token.
at::Tensor word_map(const at::Tensor& token_map, const std::vector<int64_t>& source_words,
                    const std::vector<int64_t>& target_words, const SentenceLengths& lengths);

/// Of a map (L, L) or wider over the tokens of a whole row, by `rows`. @throws InputError when it is too
/// small
at::Tensor word_map(const at::Tensor& map, const WordedRow& row, AlignmentRows rows);

/// The best column of each target word, the lowest of equal ones; no link where that is a special token.
Links best_links(const at::Tensor& words, int64_t source_words);

}  // namespace exactmamba::eval
