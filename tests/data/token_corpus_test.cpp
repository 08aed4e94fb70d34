#include "data/token_corpus.h"

#include <atomic>
#include <latch>
#include <thread>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "data/byte_tokenizer.h"
#include "data/copy_tokenizer.h"
#include "data/tokenizers/bpe_tokenizer.h"
#include "tests/support/files.h"
#include "tests/support/golden_json.h"
#include "tests/support/tensors.h"

namespace exactmamba::data {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using testing::golden;
using testing::put_file;
using testing::TemporaryFolder;
using Ids = std::vector<int64_t>;

/// But for locks.
std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() != ".lock") files.push_back(entry.path());
  return files;
}

Ids all_of(const TokenCorpus& corpus) { return corpus.slice(0, corpus.size()); }

/// Texts of the golden encodings, more than one batch of them, and their ids with `end` behind each.
Ids golden_corpus(const fs::path& file, const std::string& tokenizer, int64_t end) {
  const core::Json cases = testing::golden_json("tokenizers/" + tokenizer + "/encodings.json")["cases"];
  std::string texts;
  Ids ids;
  while (texts.size() < (size_t{10} << 20)) {
    for (const core::Json& row : cases) {
      texts += core::Json{{"text", row["text"]}}.dump() + "\n";
      for (const core::Json& id : row["ids"]) ids.push_back(id);
      if (!row["ids"].empty()) ids.push_back(end);
    }
  }
  put_file(file, texts);
  return ids;
}

TEST(TokenCorpus, HoldsTheGoldenIdsWhateverTheThreadsAndThePlace) {
  const TemporaryFolder folder;
  const auto tokenizer = BpeTokenizer::load(golden("tokenizers/tiny_nfc"));
  const Ids expected = golden_corpus(folder / "a.jsonl", "tiny_nfc", tokenizer->eos_id());
  const TextSource source{{folder / "a.jsonl"}};
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const TokenCorpus memory(source, *tokenizer);
  at::set_num_threads(2);
  const TokenCorpus made(source, *tokenizer, folder / "cache");
  at::set_num_threads(threads);
  const TokenCorpus found(source, *tokenizer, folder / "cache");
  for (const TokenCorpus* corpus : {&memory, &made, &found}) {
    EXPECT_EQ(all_of(*corpus), expected);
    EXPECT_EQ(corpus->hash(), memory.hash());
    EXPECT_TRUE(std::equal(corpus->document_begins().begin(), corpus->document_begins().end(),
                           memory.document_begins().begin(), memory.document_begins().end()));
  }
  EXPECT_EQ(files_in(folder / "cache").size(), 1u);
}

TEST(TokenCorpus, LargeVocabulariesTakeFourBytes) {
  class Large final : public Tokenizer {
   public:
    std::string name() const override { return "large"; }
    Ids encode(std::string_view text) const override { return Ids(text.size(), 70'000); }
    Encoding encode_with_offsets(std::string_view) const override { return {}; }
    std::string decode(const Ids&, SpecialTokens) const override { return ""; }
    std::string token_text(int64_t) const override { return ""; }
    int64_t vocab_size() const override { return 70'002; }
    int64_t eos_id() const override { return 70'001; }
  };
  const TemporaryFolder folder;
  put_file(folder / "a.txt", "ab");
  const TokenCorpus corpus({{folder / "a.txt"}}, Large());
  EXPECT_EQ(all_of(corpus), (Ids{70'000, 70'000, 70'001}));
}

TEST(TokenCorpus, IsFoundByContentOnly) {
  const TemporaryFolder folder;
  const fs::path cache = folder / "cache";
  const ByteTokenizer byte;
  const auto make = [&](const std::string& name, const std::string& text, const Tokenizer& tokenizer) {
    put_file(folder / name, text);
    return all_of(TokenCorpus({{folder / name}}, tokenizer, cache));
  };
  EXPECT_EQ(make("a.txt", "ab", byte), (Ids{'a', 'b', 256}));
  const auto made = fs::last_write_time(files_in(cache).at(0));
  EXPECT_EQ(make("b.txt", "ab", byte), (Ids{'a', 'b', 256}));  // another name, the same content
  EXPECT_EQ(files_in(cache).size(), 1u);
  EXPECT_EQ(fs::last_write_time(files_in(cache).at(0)), made);
  EXPECT_EQ(make("a.txt", "cd", byte), (Ids{'c', 'd', 256}));
  EXPECT_EQ(make("a.txt", "cd", CopyTokenizer()), (Ids{6, 7, 3}));
  EXPECT_EQ(files_in(cache).size(), 3u);
}

TEST(TokenCorpus, IsMadeByOneOfThoseThatWantIt) {
  class Counting final : public Tokenizer {
   public:
    std::string name() const override { return "counting"; }
    Ids encode(std::string_view text) const override {
      ++encoded;
      return Ids(text.size(), 1);
    }
    Encoding encode_with_offsets(std::string_view) const override { return {}; }
    std::string decode(const Ids&, SpecialTokens) const override { return ""; }
    std::string token_text(int64_t) const override { return ""; }
    int64_t vocab_size() const override { return 2; }
    int64_t eos_id() const override { return 0; }
    mutable std::atomic<int> encoded = 0;
  };
  const TemporaryFolder folder;
  constexpr int kLines = 20'000, kWanting = 4;
  std::string lines;
  for (int line = 0; line < kLines; ++line) lines += "{\"text\": \"abc\"}\n";
  put_file(folder / "a.jsonl", lines);
  const Counting tokenizer;
  std::atomic<int> wrong = 0;
  std::latch together(kWanting);
  std::vector<std::jthread> threads;
  for (int i = 0; i < kWanting; ++i)
    threads.emplace_back([&] {
      together.arrive_and_wait();
      const TokenCorpus corpus({{folder / "a.jsonl"}}, tokenizer, folder / "cache");
      if (corpus.size() != 4 * kLines) ++wrong;
    });
  threads.clear();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(tokenizer.encoded, kLines);
  EXPECT_EQ(files_in(folder / "cache").size(), 1u);
}

TEST(TokenCorpus, ADamagedFileIsMadeAnew) {
  const TemporaryFolder folder;
  put_file(folder / "a.txt", "some text");
  const TextSource source{{folder / "a.txt"}};
  const Ids expected = all_of(TokenCorpus(source, ByteTokenizer(), folder / "cache"));
  const fs::path file = files_in(folder / "cache").at(0);
  const std::string whole = core::read_file(file);
  std::string flipped = whole;
  flipped[3] ^= 1;
  std::string counts = whole;
  counts[counts.size() - 80] ^= 1;  // the number of tokens
  for (const std::string& damaged :
       {flipped, counts, whole.substr(0, whole.size() - 1), whole.substr(0, 10), std::string()}) {
    put_file(file, damaged);
    EXPECT_EQ(all_of(TokenCorpus(source, ByteTokenizer(), folder / "cache")), expected);
    EXPECT_EQ(core::read_file(file), whole);
  }
}

TEST(TokenCorpus, AFailureLeavesNothingAndSaysWhere) {
  const TemporaryFolder folder;
  put_file(folder / "a.jsonl", "{\"text\": \"abc\"}\n{\"text\": \"aBc\"}\n");
  const std::string message = error_of<core::InputError>(
      [&] { TokenCorpus({{folder / "a.jsonl"}}, CopyTokenizer(), folder / "cache"); });
  EXPECT_TRUE(message.starts_with((folder / "a.jsonl").string() + ":2: 'B'")) << message;
  EXPECT_TRUE(files_in(folder / "cache").empty());
}

TEST(TokenCorpus, InvalidUtf8MayBeReplaced) {
  const TemporaryFolder folder;
  put_file(folder / "a.txt", "a\xFF");
  EXPECT_THROW(TokenCorpus({{folder / "a.txt"}}, ByteTokenizer()), core::InputError);
  const TokenCorpus corpus({{folder / "a.txt"}, "text", OnInvalidUtf8::kReplace}, ByteTokenizer());
  EXPECT_EQ(all_of(corpus), (Ids{'a', 0xEF, 0xBF, 0xBD, 256}));
}

TEST(TokenCorpus, WhatIsLeftOutIsCountedAlsoWhenItIsFoundAgain) {
  const TemporaryFolder folder;
  put_file(folder / "a.jsonl",
           "{\"text\": \"ab\"}\n{\"text\": 1}\n{\"text\": \"\u00e4\u00f6\u00fc\"}\n{\"text\": "
           "\"abcd\"}\n{\n{\"text\": \"c\"}\n{\"text\": \"\"}\n");
  const TextSource source{{folder / "a.jsonl"}, "text", OnInvalidUtf8::kFail, OnBadRecord::kSkip, {2, 3}};
  for (const std::string cache : {"", "cache", "cache"}) {
    ::testing::internal::CaptureStderr();
    const TokenCorpus corpus(source, ByteTokenizer(), cache.empty() ? fs::path() : folder / cache);
    const std::string log = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(all_of(corpus), (Ids{'a', 'b', 256, 0xC3, 0xA4, 0xC3, 0xB6, 0xC3, 0xBC, 256}));
    EXPECT_CONTAINS(log, "a.jsonl: 2 bad records are left out");
    EXPECT_CONTAINS(log, "a.jsonl: 2 documents are left out, 2 are kept");
    EXPECT_CONTAINS(log, "a.jsonl: 1 empty documents are left out");
  }
  TextSource strict = source;
  strict.on_bad_record = OnBadRecord::kFail;
  EXPECT_THROW(TokenCorpus(strict, ByteTokenizer(), folder / "cache"), core::InputError);
}

TEST(TokenCorpus, OfNoTextNothingIsMadeAndTheCauseIsSaid) {
  const TemporaryFolder folder;
  const fs::path file = folder / "a.jsonl";
  put_file(file, "{\"text\": \"ab\"}\n{\"text\": 1}\n{\"text\": \"\"}\n{\n");
  const TextSource source{{file}, "text", OnInvalidUtf8::kFail, OnBadRecord::kSkip, {3, 0}};
  const std::string message = error_of<core::InputError>([&] { check_text(source); });
  EXPECT_EQ(message, fmt::format("there is no text in {0}: left out are 1 empty, 1 of other lengths "
                                 "(data.min_characters = 3, data.max_characters = 0), 2 bad, the first: "
                                 "{0}:2: the value of 'text' is of type number, not a string",
                                 file.string()));
  for (const std::string cache : {"", "cache", "cache"}) {
    const auto make = [&] { TokenCorpus(source, ByteTokenizer(), cache.empty() ? "" : folder / cache); };
    EXPECT_EQ(error_of<core::InputError>(make), message);
  }
  EXPECT_TRUE(files_in(folder / "cache").empty());
}

TEST(CheckText, LooksIntoEveryFile) {
  const TemporaryFolder folder;
  const fs::path first = folder / "a.jsonl", other = folder / "b.jsonl";
  put_file(first, "{\"text\": \"a\"}\n{");  // not read as far as that
  put_file(other, "{\"text\": \"abc\"}\n{");
  const TextSource source{{first, other}};
  check_text(source);
  put_file(other, "{\"body\": \"abc\"}\n");
  EXPECT_CONTAINS(error_of<core::InputError>([&] { check_text(source); }),
                  "b.jsonl:1: there is no key 'text' but 'body'");
  EXPECT_CONTAINS(error_of<core::InputError>([&] {
                    check_text({{first, folder / "b.md"}});
                  }),
                  "b.md: files ending in '.md' are not read");
  put_file(first, "{\"text\": \"a\"}\n");
  put_file(other, "{\"text\": \"ab\"}\n{\"text\": \"abc\"}\n{");
  check_text({{first, other}, "text", OnInvalidUtf8::kFail, OnBadRecord::kFail, {3, 0}});
}

TEST(TokenCorpus, RowsWithoutATextAreCounted) {
  const TemporaryFolder folder;
  const TextSource source{{testing::golden("data/parquet/none.page-v1.dict.parquet")}};
  for (int time = 0; time < 2; ++time) {
    ::testing::internal::CaptureStderr();
    TokenCorpus(source, ByteTokenizer(), folder / "cache");
    EXPECT_CONTAINS(::testing::internal::GetCapturedStderr(), ": 3 rows without a text (null) are left out");
  }
}

}  // namespace
}  // namespace exactmamba::data
