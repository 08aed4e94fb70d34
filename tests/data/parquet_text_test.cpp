#include "data/parquet_text.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "data/text_reader.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::data {
namespace {

using testing::error_of;
using testing::external_data;
using testing::golden;
using testing::put_file;
using testing::TemporaryFolder;

using Texts = std::vector<std::string>;

Texts texts_of(const std::filesystem::path& file, const Tolerance& tolerance = {},
               const std::string& column = "text") {
  Texts texts;
  read_parquet(file, column, tolerance,
               [&](const std::string& text, const std::string&) { texts.push_back(text); });
  return texts;
}

Texts without_nulls(const core::Json& list) {
  Texts texts;
  for (const core::Json& text : list)
    if (!text.is_null()) texts.push_back(text);
  return texts;
}

std::string refusal_of(const std::string& name) {
  return error_of<core::InputError>([&] { texts_of(golden("data/malformed/" + name)); });
}

TEST(Parquet, GoldenFilesHaveTheirTexts) {
  const core::Json expected = core::read_json(golden("data/parquet_expected.json"));
  const Texts same = without_nulls(expected["text"]);
  int files = 0;
  for (const core::Json& entry : expected["files"]) {
    const std::string name = entry["file"].get<std::string>();
    const Texts texts = entry["text"].is_string() ? same : without_nulls(entry["text"]);
    EXPECT_EQ(texts_of(golden("data/parquet/" + name)), texts) << name;
    ++files;
  }
  EXPECT_EQ(files, 37);
}

TEST(Parquet, GoldenMalformedFilesAreRefused) {
  const core::Json expected = core::read_json(golden("data/malformed_expected.json"));
  int files = 0;
  for (const core::Json& entry : expected["files"]) {
    const std::filesystem::path file = golden("data/" + entry["file"].get<std::string>());
    if (file.extension() != ".parquet") continue;
    const std::string message = refusal_of(file.filename());
    EXPECT_TRUE(message.starts_with(file.string() + ": ")) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    ++files;
  }
  EXPECT_EQ(files, 11);
}

TEST(Parquet, MessagesSayWhatIsWrong) {
  EXPECT_CONTAINS(refusal_of("empty.parquet"), "0 bytes");
  EXPECT_CONTAINS(refusal_of("truncated.parquet"), "magic bytes not found");
  EXPECT_CONTAINS(refusal_of("no-text-column.parquet"), "there is no column 'text' but 'content', 'id'");
  EXPECT_CONTAINS(refusal_of("text-is-int.parquet"), "the column 'text' holds INT64, not strings");
  EXPECT_CONTAINS(refusal_of("text-is-list.parquet"), "the column 'text' holds a list or group, not strings");
  EXPECT_CONTAINS(refusal_of("text-invalid-utf8.parquet"),
                  "row group 0, row 1: this is not UTF-8: byte 4 of the text is 0xff");
  EXPECT_CONTAINS(refusal_of("page-corrupt.parquet"), "page-corrupt.parquet: row group 0: ");
}

TEST(Parquet, PlacesAreRowsOfRowGroups) {
  Texts places;
  read_parquet(golden("data/parquet/snappy.page-v1.dict.parquet"), "text", {},
               [&](const std::string&, const std::string& where) { places.push_back(where); });
  const std::string file = golden("data/parquet/snappy.page-v1.dict.parquet").string();
  EXPECT_EQ(places.at(4), file + ": row group 0, row 4");
  EXPECT_EQ(places.at(5), file + ": row group 0, row 6");  // row 5 is null
  EXPECT_EQ(places.back(), file + ": row group 2, row 12");
}

TEST(Parquet, BadRecordsMayBeSkipped) {
  Texts problems;
  const Tolerance tolerance(OnInvalidUtf8::kFail,
                            [&](const std::string& problem) { problems.push_back(problem); });
  EXPECT_EQ(texts_of(golden("data/malformed/text-invalid-utf8.parquet"), tolerance).size(), 2u);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_CONTAINS(problems[0], "row group 0, row 1: ");
  problems.clear();
  // Two of its three row groups are whole.
  const Texts rest = texts_of(golden("data/malformed/page-corrupt.parquet"), tolerance);
  const Texts all = without_nulls(core::read_json(golden("data/parquet_expected.json"))["text"]);
  EXPECT_EQ(problems.size(), 1u);
  ASSERT_LE(rest.size(), all.size());
  EXPECT_TRUE(std::equal(rest.rbegin(), rest.rend(), all.rbegin()));
  EXPECT_THROW(texts_of(golden("data/malformed/truncated.parquet"), tolerance), core::InputError);
}

TEST(Parquet, InvalidUtf8MayBeReplaced) {
  const Texts texts = texts_of(golden("data/malformed/text-invalid-utf8.parquet"), OnInvalidUtf8::kReplace);
  ASSERT_EQ(texts.size(), 3u);
  EXPECT_CONTAINS(texts[1], "\xEF\xBF\xBD");
}

TEST(Parquet, DamageIsRefusedOrHarmless) {
  const TemporaryFolder folder;
  for (const std::string name : {"snappy.page-v2.dict.parquet", "delta-byte-array.snappy.parquet"}) {
    const std::string whole = core::read_file(golden("data/parquet/" + name));
    for (size_t at = 0; at < whole.size(); at += 61) {
      for (const bool cut : {false, true}) {
        std::string damaged = cut ? whole.substr(0, at) : whole;
        if (!cut) damaged[at] = static_cast<char>(~damaged[at]);
        put_file(folder / name, damaged);
        try {
          texts_of(folder / name);
          EXPECT_FALSE(cut) << name << " cut to " << at;
        } catch (const core::InputError&) {
        }
      }
    }
  }
}

TEST(Parquet, MissingFilesAndFoldersAreNamed) {
  const TemporaryFolder folder;
  EXPECT_CONTAINS(error_of<core::IoError>([&] { texts_of(folder / "a.parquet"); }), "a.parquet: ");
  std::filesystem::create_directory(folder / "b.parquet");
  EXPECT_CONTAINS(error_of<core::IoError>([&] { texts_of(folder / "b.parquet"); }), "b.parquet: ");
}

TEST(Parquet, ReadsFilesOfOtherWriters) {
  if (external_data().empty()) GTEST_SKIP() << "EXACTMAMBA_DATA is not set";
  const std::filesystem::path folder = external_data() / "parquet-format-tests/pyarrow-text";
  for (const std::string name : {"train", "valid", "test"}) {
    for (const std::string column : {"prompt", "answer"}) {
      Texts lines;
      read_documents(folder / (name + ".jsonl"), column, {},
                     [&](const std::string& text, const std::string&) { lines.push_back(text); });
      EXPECT_EQ(texts_of(folder / (name + ".snappy.parquet"), {}, column), lines) << name << " " << column;
    }
  }
}

}  // namespace
}  // namespace exactmamba::data
