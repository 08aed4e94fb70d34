#include "data/packed_text.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "data/byte_tokenizer.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::data {
namespace {

using testing::error_of;
using testing::TemporaryFolder;

using Ids = std::vector<int64_t>;

PackedText pack(const std::vector<std::filesystem::path>& files, int64_t context) {
  return PackedText({files}, std::make_shared<ByteTokenizer>(), context);
}

TEST(PackedText, CutsTheStreamOfDocumentsIntoRows) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.jsonl", "{\"text\":\"abcde\"}\n{\"text\":\"\"}\n{\"text\":\"fg\"}\n");
  core::write_file(folder / "b.txt", "h");
  const PackedText text = pack({folder / "a.jsonl", folder / "b.txt"}, 4);
  // a b c d | e E f g | E h E
  constexpr int64_t kEnd = 256;
  EXPECT_EQ(text.token_count(), 11);
  EXPECT_EQ(text.document_count(), 3);
  ASSERT_EQ(text.size(), 3);
  const Row first = text.row(0), second = text.row(1), third = text.row(2);
  EXPECT_EQ(first.input_ids, (Ids{'a', 'b', 'c', 'd'}));
  EXPECT_EQ(first.targets, (Ids{'b', 'c', 'd', 'e'}));
  EXPECT_EQ(first.starts, (Ids{0}));
  EXPECT_EQ(second.input_ids, (Ids{'e', kEnd, 'f', 'g'}));
  EXPECT_EQ(second.targets, (Ids{kEnd, -100, 'g', kEnd}));
  EXPECT_EQ(second.starts, (Ids{0, 2}));
  EXPECT_EQ(third.input_ids, (Ids{kEnd, 'h', kEnd}));
  EXPECT_EQ(third.targets, (Ids{-100, kEnd, -100}));
  EXPECT_EQ(third.starts, (Ids{0, 1}));
  EXPECT_THROW(text.row(3), core::InputError);
}

TEST(PackedText, TheEndOfADocumentAtTheEndOfARowHasNoTarget) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.jsonl", "{\"text\":\"abc\"}\n{\"text\":\"def\"}\n");
  const PackedText text = pack({folder / "a.jsonl"}, 4);
  ASSERT_EQ(text.size(), 2);
  EXPECT_EQ(text.row(0).targets, (Ids{'b', 'c', 256, -100}));
  EXPECT_EQ(text.row(1).starts, (Ids{0}));
  EXPECT_EQ(text.row(1).targets, (Ids{'e', 'f', 256, -100}));
}

TEST(PackedText, ALoneEndOfDocumentMakesNoRow) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.txt", "abcd");
  const PackedText text = pack({folder / "a.txt"}, 4);
  ASSERT_EQ(text.size(), 1);
  EXPECT_EQ(text.row(0).targets, (Ids{'b', 'c', 'd', 256}));
}

/// Conservation: with any context, every token but the first of each document is predicted exactly once, in
/// order.
TEST(PackedText, EveryTokenIsPredictedOnce) {
  const TemporaryFolder folder;
  std::string lines;
  Ids expected;
  for (int i = 0; i < 50; ++i) {
    const std::string document(static_cast<size_t>(1 + i * 37 % 23), static_cast<char>('a' + i % 26));
    lines += "{\"text\":\"" + document + "\"}\n";
    expected.insert(expected.end(), document.begin() + 1, document.end());
    expected.push_back(256);
  }
  core::write_file(folder / "a.jsonl", lines);
  for (const int64_t context : {2, 3, 7, 64, 129, 100000}) {
    const PackedText text = pack({folder / "a.jsonl"}, context);
    Ids predicted;
    for (int64_t r = 0; r < text.size(); ++r) {
      for (const int64_t target : text.row(r).targets) {
        if (target != kIgnoredTarget) predicted.push_back(target);
      }
    }
    EXPECT_EQ(predicted, expected) << "context " << context;
  }
}

TEST(PackedText, FingerprintFollowsContentAndContextNotTheFile) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.txt", "some text");
  core::write_file(folder / "b.jsonl", "{\"text\": \"some text\"}");
  core::write_file(folder / "c.jsonl", "{\"text\": \"some\"}\n{\"text\": \" text\"}");
  const std::string print = pack({folder / "a.txt"}, 8).fingerprint();
  EXPECT_EQ(pack({folder / "b.jsonl"}, 8).fingerprint(), print);
  EXPECT_NE(pack({folder / "c.jsonl"}, 8).fingerprint(), print);
  EXPECT_NE(pack({folder / "a.txt"}, 9).fingerprint(), print);
}

TEST(PackedText, NoTextIsRefused) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.txt", "");
  core::write_file(folder / "b.jsonl", "{\"text\": \"\"}\n\n");
  EXPECT_CONTAINS(error_of<core::InputError>([&] {
                    pack({folder / "a.txt", folder / "b.jsonl"}, 8);
                  }),
                  "a.txt and 1 more");
  EXPECT_CONTAINS(error_of<core::InputError>([&] { pack({}, 8); }), "no text");
  core::write_file(folder / "c.txt", "abc");
  EXPECT_THROW(pack({folder / "c.txt"}, 1), core::InputError);
}

TEST(PackedText, ReadsTheBooks) {
  const auto folder = testing::external_data();
  if (folder.empty()) GTEST_SKIP() << "EXACTMAMBA_DATA is not set";
  const PackedText text = pack({folder / "books-english/valid.jsonl.xz"}, 512);
  EXPECT_GT(text.size(), 1000);
  EXPECT_EQ(text.row(text.size() - 1).input_ids.back(), 256);
}

}  // namespace
}  // namespace exactmamba::data
