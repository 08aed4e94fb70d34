// From token maps to links against exact fractions (golden/decomposition/measures/words.json), and tokens to
// words for the tokenizers there are.
#include "eval/alignment/word_map.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "data/byte_tokenizer.h"
#include "data/tokenizers/bpe_tokenizer.h"
#include "data/tokenizers/sentencepiece_tokenizer.h"
#include "tests/eval/alignment/golden_links.h"
#include "tests/support/files.h"

namespace exactmamba::eval {
namespace {

using core::Json;
using testing::links_of;

at::Tensor tensor_of(const Json& rows) {
  at::Tensor tensor =
      at::empty({static_cast<int64_t>(rows.size()), static_cast<int64_t>(rows[0].size())}, at::kDouble);
  for (size_t i = 0; i < rows.size(); ++i)
    for (size_t j = 0; j < rows[i].size(); ++j)
      tensor[static_cast<int64_t>(i)][static_cast<int64_t>(j)] = rows[i][j].get<double>();
  return tensor;
}

/// The words that are numbered in `words`.
int64_t word_count(const std::vector<int64_t>& words) {
  return *std::max_element(words.begin(), words.end()) + 1;
}

void expect_words(const at::Tensor& words, int64_t source_words, const Json& expected) {
  ASSERT_EQ(words.size(1), static_cast<int64_t>(expected["word_map"][0].size()));
  EXPECT_LE(testing::absolute_difference(words, tensor_of(expected["word_map"])), 1e-12);
  EXPECT_EQ(best_links(words, source_words), links_of(expected["links"]));
}

TEST(WordMap, GoldenCases) {
  const Json file = core::read_json(testing::golden("decomposition/measures/words.json"));
  ASSERT_GT(file["cases"].size(), 10u);
  for (const Json& item : file["cases"]) {
    SCOPED_TRACE(item["name"].get<std::string>());
    const auto source = item["source_word"].get<std::vector<int64_t>>(),
               target = item["target_word"].get<std::vector<int64_t>>();
    const SentenceLengths lengths{word_count(source), word_count(target)};
    expect_words(word_map(tensor_of(item["token_map"]), source, target, lengths), lengths.source, item);
  }
}

TEST(WordMap, GoldenSequencesByEitherRow) {
  const Json file = core::read_json(testing::golden("decomposition/measures/words.json"));
  ASSERT_GT(file["sequences"].size(), 2u);
  for (const Json& item : file["sequences"]) {
    WordedRow row;
    row.source_words = item["source_word"].get<std::vector<int64_t>>();
    row.source_words.pop_back();  // <SEP>
    row.target_words = item["target_word"].get<std::vector<int64_t>>();
    row.lengths = {word_count(row.source_words), word_count(row.target_words)};
    for (const auto& [rows, name] : {std::pair{AlignmentRows::kAwo, "awo"}, {AlignmentRows::kAwi, "awi"}})
      expect_words(word_map(tensor_of(item["map"]), row, rows), row.lengths.source, item[name]);
  }
}

TEST(WordMap, WordsWithoutTokensHaveNoLinks) {
  // Source word 0 and target word 1 have no token; every value is negative.
  const at::Tensor words = word_map(-at::eye(2, at::kDouble) - 1, {1, 2}, {0, 2}, {3, 3});
  EXPECT_EQ(best_links(words, 3), (Links{{2, 0}, {1, 2}}));
  const WordedRow row{{0, 0}, {0, 1}, {1, 2}};
  EXPECT_CONTAINS(
      testing::error_of<core::InputError>([&] { word_map(at::eye(4), row, AlignmentRows::kAwi); }),
      "a map of 4 × 4 does not hold 2 source and 2 target tokens");
}

std::vector<int64_t> words_by(const data::Tokenizer& tokenizer, const std::string& text) {
  return words_of_tokens(text, tokenizer.encode_with_offsets(text).offsets);
}

TEST(TokenWords, OfBytes) {
  const data::ByteTokenizer bytes;
  // "ä" has two bytes; blanks belong to the word behind them, the last one to the word before it.
  EXPECT_EQ(words_by(bytes, "ä bc  d "), (std::vector<int64_t>{0, 0, 1, 1, 1, 2, 2, 2, 2}));
  EXPECT_EQ(words_by(bytes, "\ta"), (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(words_by(bytes, " "), (std::vector<int64_t>{-1}));
  EXPECT_TRUE(words_by(bytes, "").empty());
}

/// The tokens of a word spell it.
TEST(TokenWords, OfByteLevelBpe) {
  const std::string sentence = "Die  Prüfungs\xC2\xA0ordnung , \tnicht « wahr » 😀? 1,5 a\u0308b ";
  for (const std::string name : {"neox", "tiny_plain", "tiny_nfc"}) {
    SCOPED_TRACE(name);
    const auto tokenizer =
        data::BpeTokenizer::load(testing::golden("tokenizers/" + name + "/tokenizer.json"));
    const data::Encoding encoding = tokenizer->encode_with_offsets(sentence);
    const std::vector<int64_t> words = words_of_tokens(sentence, encoding.offsets);
    std::vector<std::vector<int64_t>> ids(words_of(sentence).size());
    for (size_t t = 0; t < words.size(); ++t)
      ids.at(static_cast<size_t>(words[t])).push_back(encoding.ids[t]);
    const std::string decoded = tokenizer->decode(encoding.ids);  // in normal form C where the file says so
    for (size_t w = 0; w < ids.size(); ++w) {
      const std::string text = tokenizer->decode(ids[w]);  // with blanks around it
      EXPECT_EQ(words_of(text), std::vector<std::string_view>{words_of(decoded).at(w)});
    }
  }
}

/// Its pieces, "▁" before a word's first one, spell each word; a no-break space is normalised to a blank, but
/// separates no words.
TEST(TokenWords, OfSentencePiece) {
  const std::string sentence = " Hello  world , the cat's  tails 100\xC2\xA0km ";
  for (const std::string model : {"sp_unigram_1000_en.model", "opus-mt-tc-big-fr-en.source.spm"}) {
    SCOPED_TRACE(model);
    const data::SentencePieceTokenizer tokenizer(testing::golden("tokenizers/sentencepiece/" + model));
    const data::Encoding encoding = tokenizer.encode_with_offsets(sentence);
    const std::vector<int64_t> words = words_of_tokens(sentence, encoding.offsets);
    std::vector<std::string> spelt(7);
    for (size_t t = 0; t < words.size(); ++t)
      spelt.at(static_cast<size_t>(words[t])) += tokenizer.token_text(encoding.ids[t]);
    for (std::string& word : spelt)
      for (size_t at = 0; (at = word.find("▁")) != std::string::npos;) word.erase(at, 3);
    EXPECT_EQ(spelt, (std::vector<std::string>{"Hello", "world", ",", "the", "cat's", "tails", "100km"}));
  }
}

}  // namespace
}  // namespace exactmamba::eval
