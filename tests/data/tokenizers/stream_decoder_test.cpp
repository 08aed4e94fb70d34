// Pieces against the golden texts of whole decodings.
#include "data/tokenizers/stream_decoder.h"

#include <gtest/gtest.h>

#include "core/files.h"
#include "core/json.h"
#include "core/utf8.h"
#include "data/byte_tokenizer.h"
#include "data/tokenizers/bpe_tokenizer.h"
#include "data/tokenizers/sentencepiece_tokenizer.h"
#include "tests/support/golden_json.h"

namespace exactmamba::data {
namespace {

using core::Json;
using testing::golden;

using Pieces = std::vector<std::string>;

/// Of each id, and of the end.
Pieces pieces_of(const Tokenizer& tokenizer, const std::vector<int64_t>& ids,
                 SpecialTokens special = SpecialTokens::kSkip) {
  StreamDecoder decoder(tokenizer, special);
  Pieces pieces;
  for (const int64_t id : ids) pieces.push_back(decoder.push(id));
  pieces.push_back(decoder.finish());
  return pieces;
}

/// All pieces, and each of them valid UTF-8.
std::string streamed(const Tokenizer& tokenizer, const Json& ids, SpecialTokens special) {
  std::string text;
  for (const std::string& piece : pieces_of(tokenizer, ids, special)) {
    EXPECT_EQ(core::find_invalid_utf8(piece), std::nullopt);
    text += piece;
  }
  return text;
}

TEST(StreamDecoder, PiecesOfByteLevelBpeAreTheText) {
  const auto tokenizer = BpeTokenizer::load(golden("tokenizers/neox/tokenizer.json"));
  const Json cases = core::read_json(golden("tokenizers/neox/decode.json"))["cases"];
  EXPECT_EQ(cases.size(), 138u);
  for (const Json& row : cases) {
    EXPECT_EQ(streamed(*tokenizer, row["ids"], SpecialTokens::kKeep), row["decoded"]);
    EXPECT_EQ(streamed(*tokenizer, row["ids"], SpecialTokens::kSkip), row["decoded_skip_special"]);
  }
}

TEST(StreamDecoder, PiecesOfSentencePieceAreTheText) {
  for (const std::string model :
       {"sp_unigram_1000_en.model", "sp_unigram_8000_ja.model", "opus-mt-tc-big-fr-en.source.spm"}) {
    const SentencePieceTokenizer tokenizer(golden("tokenizers/sentencepiece/" + model));
    for (const Json& row : testing::golden_json("tokenizers/sentencepiece/" + model + ".json")["cases"])
      EXPECT_EQ(streamed(tokenizer, row["ids"], SpecialTokens::kSkip), row["decoded"])
          << model << row["name"];
  }
}

TEST(StreamDecoder, GivesACharacterWhenItIsWhole) {
  const auto tokenizer = BpeTokenizer::load(golden("tokenizers/neox/tokenizer.json"));
  const std::vector<int64_t> ids = tokenizer->encode("a\U0001F468");  // more than one token
  ASSERT_GT(ids.size(), 2u);
  Pieces expected(ids.size() + 1);
  expected.front() = "a";
  expected[ids.size() - 1] = "\U0001F468";
  EXPECT_EQ(pieces_of(*tokenizer, ids), expected);
}

/// Bytes that are no UTF-8 stay as they are.
TEST(StreamDecoder, OfBytes) {
  EXPECT_EQ(pieces_of(ByteTokenizer(), {'a', 0xC3, 0xA9, 0xE2, 0x82, 'b', 256, 0xE2}),
            (Pieces{"a", "", "é", "", "",
                    "\xE2\x82"
                    "b",
                    "", "", "\xE2"}));
}

}  // namespace
}  // namespace exactmamba::data
