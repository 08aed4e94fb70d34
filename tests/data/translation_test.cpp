// Rows of translation, written out by hand, and the tokens that a tokenizer gets for them.
#include "data/translation.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "data/sentence_key.h"
#include "data/tokenizers/byte_characters.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::data {
namespace {

using testing::error_of;
using testing::golden;
using testing::put_file;
using testing::TemporaryFolder;

using Ids = std::vector<int64_t>;
constexpr int64_t kSeparator = 256, kEnd = 257, kNone = kIgnoredTarget;  // behind the bytes

TranslationTokenizer bytes() { return TranslationTokenizer::open("byte", "<SEP>", "<EOS>"); }

TEST(TranslationTokenizer, OfBytesHasTwoTokensBehindThem) {
  const TranslationTokenizer tokenizer = bytes();
  EXPECT_EQ(tokenizer.separator(), kSeparator);
  EXPECT_EQ(tokenizer.end(), kEnd);
  EXPECT_EQ(tokenizer.tokenizer()->vocab_size(), 258);
  EXPECT_EQ(tokenizer.tokenizer()->eos_id(), kEnd);
  EXPECT_EQ(tokenizer.prompt("aé"), (Ids{'a', 0xc3, 0xa9, kSeparator}));
  EXPECT_EQ(tokenizer.encode("a<SEP>b<EOS>"), (Ids{'a', 'b'}));
  EXPECT_EQ(tokenizer.decode({'a', 0xc3, 0xa9, '\n', 'b', kEnd}), "aé b");
  EXPECT_EQ(tokenizer.tokenizer()->token_text(kSeparator), "<SEP>");
}

TEST(TranslationTokenizer, AppendsOnlyWhatAVocabularyDoesNotHave) {
  const std::string neox = golden("tokenizers/neox/tokenizer.json").string();
  const TranslationTokenizer added = TranslationTokenizer::open(neox, "<SEP>", "<EOS>");
  const auto plain = BpeTokenizer::load(neox);
  EXPECT_EQ(added.separator(), plain->vocab_size());
  EXPECT_EQ(added.end(), plain->vocab_size() + 1);
  EXPECT_EQ(added.tokenizer()->vocab_size(), plain->vocab_size() + 2);
  EXPECT_EQ(added.encode("Guten Tag, äöü!"), plain->encode("Guten Tag, äöü!"));
  const TranslationTokenizer own = TranslationTokenizer::open(neox, "<SEP>", "<|endoftext|>");
  EXPECT_EQ(own.end(), 0);
  EXPECT_EQ(own.separator(), plain->vocab_size());
  EXPECT_EQ(own.tokenizer()->vocab_size(), plain->vocab_size() + 1);
}

TEST(TranslationTokenizer, OfAModelsFolderIsTheSame) {
  const TemporaryFolder folder;
  const TranslationTokenizer tokenizer = TranslationTokenizer::open("byte", "<to>", "<end>");
  for (const auto& [name, content] : tokenizer.files()) put_file(folder / name, content);
  const TranslationTokenizer loaded = TranslationTokenizer::load(folder.path());
  EXPECT_EQ(loaded.tokenizer()->name(), tokenizer.tokenizer()->name());
  EXPECT_EQ(loaded.separator(), tokenizer.separator());
  EXPECT_EQ(loaded.end(), tokenizer.end());
  EXPECT_EQ(loaded.prompt("x<to>"), (Ids{'x', kSeparator}));
  EXPECT_EQ(loaded.files(), tokenizer.files());
  EXPECT_EQ(BpeTokenizer::load(folder.path())->eos_id(), tokenizer.end());
}

TEST(TranslationTokenizer, SaysWhatAFolderLacks) {
  const TemporaryFolder folder;
  const auto refusal = [&] { TranslationTokenizer::load(folder.path()); };
  EXPECT_CONTAINS(error_of<core::IoError>(refusal), "tokenizer.json: no such file");
  const auto files = bytes().files();
  put_file(folder / "tokenizer.json", files.at("tokenizer.json"));
  EXPECT_CONTAINS(error_of<core::InputError>(refusal), "has no sep_token");
  put_file(folder / "tokenizer_config.json", "{\"sep_token\": \"<SEP>\"}");
  EXPECT_CONTAINS(error_of<core::InputError>(refusal), "has no eos_token");
  EXPECT_CONTAINS(error_of<core::InputError>([] { TranslationTokenizer::open("byte", "<X>", "<X>"); }),
                  "'<X>'");
  EXPECT_CONTAINS(error_of<core::InputError>([] { TranslationTokenizer::open("byte", "|", "<EOS>"); }),
                  "'|' is the token of a byte");
}

class TranslationRowsTest : public ::testing::Test {
 protected:
  TranslationRowsTest() {
    put_file(folder_ / "a.de", "ab\nc\n\ndef\n");
    put_file(folder_ / "a.en", "A\nCC\nX\nD\n");
  }
  TranslationRows rows(int64_t context, RowLayout layout, OnLongPair on_long = OnLongPair::kFail,
                       const std::vector<std::filesystem::path>& exclude = {},
                       OnBadRecord on_bad_record = OnBadRecord::kFail) const {
    return {{{folder_ / "a.{de,en}"}, exclude, OnInvalidUtf8::kFail, on_bad_record, on_long},
            bytes(),
            context,
            layout};
  }
  TemporaryFolder folder_;
};

TEST_F(TranslationRowsTest, PredictTheTargetAndItsEndOnly) {
  const TranslationRows data = rows(8, RowLayout::kOneExample);
  ASSERT_EQ(data.size(), 4);
  EXPECT_EQ(data.row(0).input_ids, (Ids{'a', 'b', kSeparator, 'A', kEnd}));
  EXPECT_EQ(data.row(0).targets, (Ids{kNone, kNone, 'A', kEnd, kNone}));
  EXPECT_EQ(data.row(1).input_ids, (Ids{'c', kSeparator, 'C', 'C', kEnd}));
  EXPECT_EQ(data.row(1).targets, (Ids{kNone, 'C', 'C', kEnd, kNone}));
  EXPECT_EQ(data.row(2).input_ids, (Ids{kSeparator, 'X', kEnd}));
  EXPECT_EQ(data.row(2).targets, (Ids{'X', kEnd, kNone}));
  EXPECT_EQ(data.row(3).starts, (Ids{0}));
  EXPECT_EQ(data.pairs().at(3).source, "def");
  EXPECT_EQ(data.pairs().at(3).target, "D");
  EXPECT_EQ(data.vocab_size(), 258);
  EXPECT_EQ(data.token_text('a'), "a");
}

TEST_F(TranslationRowsTest, WholePairsArePacked) {
  const TranslationRows data = rows(10, RowLayout::kPacked);
  ASSERT_EQ(data.size(), 2);
  EXPECT_EQ(data.row(0).input_ids, (Ids{'a', 'b', kSeparator, 'A', kEnd, 'c', kSeparator, 'C', 'C', kEnd}));
  EXPECT_EQ(data.row(0).starts, (Ids{0, 5}));
  EXPECT_EQ(data.row(1).starts, (Ids{0, 3}));
  EXPECT_TRUE(data.pairs().empty());
  EXPECT_NE(data.fingerprint(), rows(11, RowLayout::kPacked).fingerprint());
  EXPECT_EQ(data.fingerprint(), rows(10, RowLayout::kPacked).fingerprint());
}

TEST_F(TranslationRowsTest, LongPairsAreRefusedOrDropped) {
  EXPECT_CONTAINS(error_of<core::InputError>([&] { rows(5, RowLayout::kPacked); }),
                  "a.de:4: the pair has 6 tokens and does not fit into data.context = 5");
  const TranslationRows data = rows(5, RowLayout::kOneExample, OnLongPair::kDrop);
  EXPECT_EQ(data.size(), 3);
  EXPECT_EQ(data.pairs().size(), 3u);
}

/// Sources and targets by their tokens, which are bytes: 2:1, 1:2, 0:1, 3:1.
TEST_F(TranslationRowsTest, UnevenAndOverlongPairsAreLeftOutAndCounted) {
  const auto sources = [&](LengthLimits lengths, double max_ratio) {
    TranslationSource source;
    source.files = {folder_ / "a.{de,en}"};
    source.lengths = lengths;
    source.max_ratio = max_ratio;
    const TranslationRows data(source, bytes(), 8, RowLayout::kOneExample);
    std::string all;
    for (const SentencePair& pair : data.pairs()) all += pair.source + ",";
    return all;
  };
  EXPECT_EQ(sources({}, 0), "ab,c,,def,");
  EXPECT_EQ(sources({}, 3), "ab,c,def,");
  EXPECT_EQ(sources({}, 2.5), "ab,c,");
  EXPECT_EQ(sources({1, 0}, 0), "ab,c,def,");
  EXPECT_EQ(sources({0, 2}, 0), "ab,c,,");
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(sources({1, 0}, 2), "ab,c,");
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_CONTAINS(log, "1 of 4 pairs left out: a side of other lengths than data.min_characters = 1");
  EXPECT_CONTAINS(log, "1 of 4 pairs left out: one side has more than data.max_pair_ratio = 2 times");
  put_file(folder_ / "a.de", "\nab\n");
  put_file(folder_ / "a.en", "\nA\n");
  EXPECT_EQ(sources({}, 0), ",ab,");
  EXPECT_EQ(sources({}, 9), "ab,");  // two empty sides are no pair either
}

TEST(SentenceKey, KnowsNoWaysOfWriting) {
  EXPECT_EQ(sentence_key("I don't know - \"yes\" & no."), "idontknowyesno");
  EXPECT_EQ(sentence_key("I don &apos;t know @-@ &#91; &quot; YES &quot; &#93; &#124; &lt; &gt; no ."),
            "idontknowyesno");
  EXPECT_EQ(sentence_key("Stra\u00dfe"), sentence_key("STRASSE"));
  EXPECT_EQ(sentence_key("\u00c4pfel \u00bd"), sentence_key("a\u0308pfel 1\u20442"));  // NFC, NFKC
  EXPECT_NE(sentence_key("schon"), sentence_key("sch\u00f6n"));                        // marks count
  EXPECT_EQ(sentence_key("\uff21\u0663"), "a\u0663");
  EXPECT_EQ(sentence_key("... !"), "... !");
  EXPECT_EQ(sentence_key(""), "");
}

TEST_F(TranslationRowsTest, PairsThatStandInATestSetAreLeftOut) {
  const std::filesystem::path first = folder_ / "test.tsv", second = folder_ / "dev.tsv";
  put_file(first, "c\tsomething else\nanother\tD\nabc \tnot the same\n");
  const TranslationRows data = rows(8, RowLayout::kOneExample, OnLongPair::kFail, {first});
  ASSERT_EQ(data.size(), 2);
  EXPECT_EQ(data.pairs().at(0).source, "ab");
  EXPECT_EQ(data.pairs().at(1).target, "X");
  put_file(first, "c\tA\n\tD\n");
  EXPECT_CONTAINS(
      error_of<core::InputError>([&] { rows(8, RowLayout::kPacked, OnLongPair::kFail, {first}); }),
      "there is no pair of sentences in " + (folder_ / "a.{de,en}").string() +
          ": left out are 4 of which a side stands in data.exclude");
  put_file(first, "A B &quot;\tC .\n");
  put_file(second, "cc\tDEF\n");
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(rows(8, RowLayout::kOneExample, OnLongPair::kFail, {first, second}).pairs().size(), 1u);
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_CONTAINS(log, "2 of 4 pairs left out: a side of theirs stands in " + first.string() + " (data.excl");
  EXPECT_CONTAINS(
      log, "1 of 4 pairs left out: a side of theirs stands in " + second.string() + " and in none before it");
}

TEST_F(TranslationRowsTest, ProblemsAreToldWithTheirPlace) {
  put_file(folder_ / "a.en", "A\n\xff\nX\nD\n");
  EXPECT_CONTAINS(error_of<core::InputError>([&] { rows(8, RowLayout::kPacked); }), "a.en:2");
  EXPECT_EQ(rows(8, RowLayout::kOneExample, OnLongPair::kFail, {}, OnBadRecord::kSkip).size(), 3);
  put_file(folder_ / "a.en", "A\nCC\nX\n");
  EXPECT_THROW(rows(8, RowLayout::kPacked), core::InputError);
  put_file(folder_ / "a.de", "");
  put_file(folder_ / "a.en", "");
  EXPECT_CONTAINS(error_of<core::InputError>([&] { rows(8, RowLayout::kPacked); }),
                  "there is no pair of sentences in ");
}

}  // namespace
}  // namespace exactmamba::data
