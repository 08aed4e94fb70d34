// Translation: examples `source <SEP> target <EOS>`, predicted after <SEP> only.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/example_rows.h"
#include "data/parallel_text.h"
#include "data/tolerance.h"
#include "data/translation_tokenizer.h"

namespace exactmamba::data {

/// A pair that is longer than a row.
enum class OnLongPair { kFail, kDrop };
inline constexpr core::Names<2> kOnLongPairNames = {"fail", "drop"};

struct TranslationSource {
  std::vector<std::filesystem::path> files;  // as read_pairs()
  std::vector<std::filesystem::path>
      exclude;  // too: pairs of which a side stands in them (sentence_key) are left out
  OnInvalidUtf8 on_invalid = OnInvalidUtf8::kFail;
  OnBadRecord on_bad_record = OnBadRecord::kFail;  // of `files`
  OnLongPair on_long = OnLongPair::kFail;
  LengthLimits lengths = {};  // of either side; other pairs are left out
  double max_ratio = 0;       // of the tokens of the longer side to the other's; 0: no limit
};

/// Pairs that read_wanted() leaves out, of how many.
struct PairCounts {
  int64_t pairs = 0, unfit = 0;
  std::vector<int64_t> excluded;  // [file of `exclude`] those that stand in none before it
};

/// Calls `take` with the pairs that stand in no file of `exclude` and have a wanted length.
/// @throws as read_pairs
PairCounts read_wanted(const TranslationSource& source, const Tolerance& tolerance, const TakePair& take);

/// @throws InputError, which says what was left out of `source`, unless there is `any` pair
void require_pairs(bool any, const TranslationSource& source, const PairCounts& counts,
                   const LeftOut& left_out);

/// Reads the pairs without keeping them, as TranslationRows does. `tokenizer`: nullptr when it is still to be
/// made, so that lengths in tokens are not known. [nullable] @throws as TranslationRows
void check_rows(const TranslationSource& source, const TranslationTokenizer* tokenizer, int64_t context);

class TranslationRows final : public Dataset {
 public:
  /// Reads all files, and says how many pairs it left out. Of kOneExample the sentences stay in memory.
  /// @throws as read_pairs and BpeTokenizer::encode; InputError ("file:line: …") for a pair that has no room
  /// in `context`, unless `on_long` drops it, and when there is no pair
  TranslationRows(const TranslationSource& source, const TranslationTokenizer& tokenizer, int64_t context,
                  RowLayout layout);

  std::string name() const override { return name_; }
  int64_t size() const override { return rows_.size(); }
  Row row(int64_t index) const override { return rows_.row(index, name_); }
  int64_t vocab_size() const override { return rows_.vocab_size(); }
  std::string token_text(int64_t id) const override { return tokenizer_.tokenizer()->token_text(id); }
  std::string fingerprint() const override;

  const TranslationTokenizer& tokenizer() const { return tokenizer_; }
  /// [row] of kOneExample; empty of kPacked.
  const std::vector<SentencePair>& pairs() const { return pairs_; }

 private:
  class Maker;

  std::string name_;
  TranslationTokenizer tokenizer_;
  ExampleRows rows_;
  std::vector<SentencePair> pairs_;
};

}  // namespace exactmamba::data
