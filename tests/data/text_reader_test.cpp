#include "data/text_reader.h"

#include <zstd.h>

#include <gtest/gtest.h>
#include <zlib.h>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::data {
namespace {

using testing::error_of;
using testing::golden;
using testing::TemporaryFolder;

using Texts = std::vector<std::string>;

Texts read(const std::filesystem::path& file, const std::string& key = "text") {
  Texts texts;
  read_documents(file, key, OnInvalidUtf8::kFail,
                 [&](const std::string& text, const std::string&) { texts.push_back(text); });
  return texts;
}

void write_gzip(const std::filesystem::path& file, const std::string& text) {
  const gzFile out = gzopen(file.c_str(), "wb");
  ASSERT_EQ(gzwrite(out, text.data(), static_cast<unsigned>(text.size())), static_cast<int>(text.size()));
  ASSERT_EQ(gzclose(out), Z_OK);
}

TEST(JsonLines, GoldenFilesHaveTheirTexts) {
  const core::Json expected = core::read_json(golden("data/jsonl_expected.json"));
  const auto same = expected["text"].get<Texts>();
  int files = 0;
  for (const core::Json& entry : expected["files"]) {
    const std::string name = entry["file"].get<std::string>();
    const Texts texts = entry["text"].is_string() ? same : entry["text"].get<Texts>();
    EXPECT_EQ(read(golden("data/jsonl/" + name), expected["key"].get<std::string>()), texts) << name;
    ++files;
  }
  EXPECT_EQ(files, 19);
}

TEST(JsonLines, GoldenMalformedFilesAreRefusedAtTheirLine) {
  const core::Json expected = core::read_json(golden("data/malformed_expected.json"));
  int files = 0;
  for (const core::Json& entry : expected["files"]) {
    const std::string name = entry["file"].get<std::string>();
    if (name.find(".jsonl") == std::string::npos || name.find("deep") != std::string::npos) continue;
    const std::string message = error_of<core::InputError>([&] { read(golden("data/" + name)); });
    const bool line_known = entry.contains("line") && entry["line"].is_number();
    const std::string line = line_known ? fmt::format(":{}:", entry["line"].get<int>()) : ": ";
    EXPECT_TRUE(message.starts_with(golden("data/" + name).string() + line)) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    ++files;
  }
  EXPECT_EQ(files, 17);
}

TEST(JsonLines, DeepNestingIsRefusedWithoutACrash) {
  const auto file = golden("data/malformed/deep-line-2.jsonl");
  EXPECT_CONTAINS(error_of<core::InputError>([&] { read(file); }), file.string() + ":2:");
}

TEST(JsonLines, MessagesSayWhatIsWrong) {
  const auto message = [](const std::string& name) {
    return error_of<core::InputError>([&] { read(golden("data/malformed/" + name)); });
  };
  EXPECT_CONTAINS(message("invalid-utf8-line-3.jsonl"), "byte 13 of the line is 0xe9");
  EXPECT_CONTAINS(message("utf16.jsonl"), "UTF-16");
  EXPECT_CONTAINS(message("text-missing-line-2.jsonl"), "no key 'text'");
  EXPECT_CONTAINS(message("text-null-line-4.jsonl"), "of type null");
  EXPECT_CONTAINS(message("cut-short.jsonl.gz"), "byte 321");  // the whole of it
  EXPECT_CONTAINS(message("cut-short.jsonl.gz"), "cut short");
  EXPECT_CONTAINS(message("cut-short.jsonl.xz"), "cut short");
  EXPECT_CONTAINS(message("no-trailer.jsonl.gz"), "cut short");
  EXPECT_CONTAINS(message("bad-crc.jsonl.gz"), "incorrect data check");
  EXPECT_CONTAINS(message("not-gzip.jsonl.gz"), "incorrect header check");
  EXPECT_CONTAINS(message("cut-short.jsonl.zst"), "byte 300");  // the whole of it
  EXPECT_CONTAINS(message("cut-short.jsonl.zst"), "cut short");
}

TEST(JsonLines, TheKeyCanBeChosen) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.jsonl", "{\"body\": \"x\", \"text\": 1}\n{\"body\": \"y\"}\n");
  EXPECT_EQ(read(folder / "a.jsonl", "body"), (Texts{"x", "y"}));
  EXPECT_CONTAINS(error_of<core::InputError>([&] { read(folder / "a.jsonl", "title"); }),
                  "'body', 'text'; name the one with the text");
}

TEST(PlainText, IsOneDocumentWithLineFeeds) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.txt", "\xEF\xBB\xBFone\r\n\r\ntwo\xE2\x80\xA8still\n\nend \r");
  EXPECT_EQ(read(folder / "a.txt"), (Texts{"one\n\ntwo\xE2\x80\xA8still\n\nend \r"}));
  core::write_file(folder / "b.text", "x\n");
  EXPECT_EQ(read(folder / "b.text"), (Texts{"x\n"}));
  core::write_file(folder / "c.txt", "");
  EXPECT_EQ(read(folder / "c.txt"), (Texts{""}));
}

TEST(PlainText, InvalidUtf8IsRefusedAtItsLine) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.txt",
                   "good\nb\xE4"
                   "d\n");
  EXPECT_CONTAINS(error_of<core::InputError>([&] { read(folder / "a.txt"); }), "a.txt:2: ");
}

TEST(PlainText, LongLinesAndBoundariesOfChunksSurviveCompression) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; text.size() < 400'000; ++i) text += fmt::format("{} é\n", i * 7919 % 104729);
  text += std::string(200'000, 'x') + "😀\n";
  write_gzip(folder / "a.txt.gz", text);
  EXPECT_EQ(read(folder / "a.txt.gz"), (Texts{text}));
  for (const size_t size : {65535, 65536, 65537, 131072}) {
    const std::string lines = std::string(size - 1, 'y') + "\nz";
    core::write_file(folder / "b.txt", lines);
    EXPECT_EQ(read(folder / "b.txt"), (Texts{lines})) << size;
  }
}

TEST(Gzip, AllowsZerosAfterTheLastMemberAndNothingElse) {
  const TemporaryFolder folder;
  write_gzip(folder / "a.txt.gz", "hello\n");
  const std::string member = core::read_file(folder / "a.txt.gz");
  core::write_file(folder / "zeros.txt.gz", member + member + std::string(600, '\0'));
  EXPECT_EQ(read(folder / "zeros.txt.gz"), (Texts{"hello\nhello\n"}));
  core::write_file(folder / "more.txt.gz", member + "more");
  EXPECT_CONTAINS(error_of<core::InputError>([&] { read(folder / "more.txt.gz"); }), "no valid gzip data");
  core::write_file(folder / "empty.txt.gz", "");
  EXPECT_CONTAINS(error_of<core::InputError>([&] { read(folder / "empty.txt.gz"); }), "cut short");
}

std::string zstd(const std::string& text) {
  std::string frame(ZSTD_compressBound(text.size()), '\0');
  frame.resize(ZSTD_compress(frame.data(), frame.size(), text.data(), text.size(), 1));
  return frame;
}

TEST(Zstd, LargeFilesAreReadInPieces) {
  const TemporaryFolder folder;
  std::string text(3'000'000, 'x');  // a frame of few bytes gives many pieces
  for (int i = 0; text.size() < 4'000'000; ++i) text += fmt::format("{} é\n", i * 7919 % 104729);
  core::write_file(folder / "a.txt.zst", zstd(text) + zstd("") + zstd("end"));
  EXPECT_EQ(read(folder / "a.txt.zst"), (Texts{text + "end"}));
  core::write_file(folder / "a.txt.zst", zstd("hello") + "more");
  EXPECT_CONTAINS(error_of<core::InputError>([&] { read(folder / "a.txt.zst"); }), "no valid zstd data");
}

TEST(BadRecords, AreSkippedAndToldOf) {
  const TemporaryFolder folder;
  core::write_file(folder / "a.jsonl",
                   "{\"text\": \"one\"}\n{\"text\": 2}\n{\n[]\n{\"x\": 1}\n\xFF\n{\"text\": \"two\"}");
  Texts texts, problems;
  const Tolerance tolerance(OnInvalidUtf8::kFail,
                            [&](const std::string& problem) { problems.push_back(problem); });
  const auto take = [&](const std::string& text, const std::string&) { texts.push_back(text); };
  read_documents(folder / "a.jsonl", "text", tolerance, take);
  EXPECT_EQ(texts, (Texts{"one", "two"}));
  ASSERT_EQ(problems.size(), 5u);
  for (size_t i = 0; i < problems.size(); ++i)
    EXPECT_TRUE(problems[i].starts_with(fmt::format("{}:{}:", (folder / "a.jsonl").string(), i + 2)))
        << problems[i];
  core::write_file(folder / "a.txt", "a\n\xFF\nb\n");
  texts.clear();
  read_documents(folder / "a.txt", "text", tolerance, take);  // the document
  EXPECT_EQ(texts, Texts{});
  read_texts(folder / "a.txt", "text", tolerance, take);  // a line
  EXPECT_EQ(texts, (Texts{"a", "b"}));
  EXPECT_EQ(problems.size(), 7u);
  // Not a record: nothing behind the place can be read.
  EXPECT_THROW(read_documents(golden("data/malformed/cut-short.jsonl.gz"), "text", tolerance, take),
               core::InputError);
}

TEST(Compression, EveryTruncationIsRefused) {
  const TemporaryFolder folder;
  for (const std::string name : {"lf.jsonl.gz", "lf.jsonl.xz", "lf.jsonl.zst"}) {
    const std::string whole = core::read_file(golden("data/jsonl/" + name));
    for (size_t size = 0; size < whole.size(); size += 7) {
      core::write_file(folder / name, whole.substr(0, size));
      EXPECT_THROW(read(folder / name), core::InputError) << name << " cut to " << size;
    }
  }
}

TEST(TextReader, FilesThatAreNotThereAreNamed) {
  const TemporaryFolder folder;
  for (const std::string name : {"a.txt", "a.jsonl.gz", "a.jsonl.xz", "a.jsonl"}) {
    const std::string message = error_of<core::IoError>([&] { read(folder / name); });
    EXPECT_TRUE(message.starts_with((folder / name).string())) << message;
  }
  std::filesystem::create_directory(folder / "folder.txt");
  EXPECT_CONTAINS(error_of<core::IoError>([&] { read(folder / "folder.txt"); }), "folder.txt");
}

TEST(TextReader, OtherKindsOfFilesAreRefused) {
  const TemporaryFolder folder;
  for (const std::string name : {"a.parquet.gz", "a.csv", "a.json", "a.txt.bz2", "plain"}) {
    core::write_file(folder / name, "{\"text\": \"x\"}\n");
    EXPECT_CONTAINS(error_of<core::InputError>([&] { read(folder / name); }), "are not read");
  }
}

}  // namespace
}  // namespace exactmamba::data
