// Alignment files against the goldens made apart from this program, malformed ones included.
#include "eval/alignment/files.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "tests/eval/alignment/golden_links.h"
#include "tests/support/files.h"

namespace exactmamba::eval {
namespace {

using core::Json;
using testing::error_of;
using testing::golden;
using testing::TemporaryFolder;

constexpr AlignmentFormat kTalp = AlignmentFormat::kTalp, kPharaoh = AlignmentFormat::kPharaoh,
                          kNaacl = AlignmentFormat::kNaacl;

std::filesystem::path alignments(const std::string& name) { return golden("data/alignments/" + name); }

AlignmentBounds golden_bounds() {
  return {12, read_sentence_lengths(alignments("{source,target}.txt")), "text.{a,b}"};
}

std::vector<GoldLinks> golden_gold() {
  const Json expected = core::read_json(golden("data/alignments_expected.json"));
  const auto sure = testing::link_lists(expected["sure"]),
             possible = testing::link_lists(expected["possible"]);
  std::vector<GoldLinks> gold;
  for (size_t n = 0; n < sure.size(); ++n) gold.push_back({sure[n], possible[n]});
  return gold;
}

TEST(AlignmentFiles, EveryFormOfTheSameGold) {
  const std::vector<GoldLinks> gold = golden_gold();
  ASSERT_EQ(gold.size(), 12u);
  const AlignmentBounds bounds = golden_bounds();
  EXPECT_EQ(read_alignments(alignments("gold.0based.talp"), {kTalp, 0}, bounds), gold);
  EXPECT_EQ(read_alignments(alignments("gold.1based.talp"), {kTalp, 1}, bounds), gold);
  EXPECT_EQ(read_alignments(alignments("gold.1based.crlf-tabs.talp"), {kTalp, 1}, bounds), gold);
  EXPECT_EQ(read_alignments(alignments("gold.1based.repeated.talp"), {kTalp, 1}, bounds), gold);
  EXPECT_EQ(read_alignments(alignments("gold.naacl"), {kNaacl, 1}, bounds), gold);
  EXPECT_EQ(read_alignments(alignments("gold.naacl"), {kNaacl, 1}),
            gold);  // its highest pair is the last one
}

TEST(AlignmentFiles, HypothesesOfEitherOrder) {
  const Json expected = core::read_json(golden("data/alignments_expected.json"));
  const std::vector<Links> links = testing::link_lists(expected["hypothesis"]);
  EXPECT_EQ(read_links(alignments("hypothesis.pharaoh"), {kPharaoh, 0}, golden_bounds()), links);
  EXPECT_EQ(read_links(alignments("hypothesis.reverse.pharaoh"), {kPharaoh, 0, true}, golden_bounds()),
            links);
}

TEST(AlignmentFiles, WrittenFilesAreThoseRead) {
  const std::vector<GoldLinks> gold = golden_gold();
  EXPECT_EQ(alignment_text(gold, {kTalp, 0}), core::read_file(alignments("gold.0based.talp")));
  EXPECT_EQ(read_links(alignments("hypothesis.pharaoh"), {kPharaoh, 0}).size(), 12u);
  const std::vector<Links> links = read_links(alignments("hypothesis.pharaoh"), {kPharaoh, 0});
  EXPECT_EQ(alignment_text(links, {kPharaoh, 0}), core::read_file(alignments("hypothesis.pharaoh")));
  const TemporaryFolder folder;
  for (const AlignmentFormat format : {kTalp, kNaacl})
    for (const bool reversed : {false, true}) {
      const AlignmentNotation notation{format, 1, reversed};
      testing::put_file(folder / "written", alignment_text(gold, notation));
      EXPECT_EQ(read_alignments(folder / "written", notation, golden_bounds()), gold);
    }
  EXPECT_CONTAINS(error_of<core::InputError>([&] {
                    alignment_text(gold, {kPharaoh, 0});
                  }),
                  "pair 1: a pharaoh file");
}

TEST(AlignmentFiles, GoldenLines) {
  const TemporaryFolder folder;
  const Json cases = core::read_json(golden("decomposition/measures/talp.json"));
  for (const Json& item : cases["good"]) {
    SCOPED_TRACE(item["line"].get<std::string>());
    testing::put_file(folder / "a.talp", item["line"].get<std::string>() + "\n");
    const auto pairs = read_alignments(folder / "a.talp", {kTalp, item["base"].get<int64_t>()});
    ASSERT_EQ(pairs.size(), 1u);
    EXPECT_EQ(pairs[0].sure, testing::links_of(item["sure"]));
    Links possible = testing::links_of(item["possible_only"]);
    possible.insert(pairs[0].sure.begin(), pairs[0].sure.end());
    EXPECT_EQ(pairs[0].possible, possible);
  }
  for (const Json& item : cases["bad"]) {
    SCOPED_TRACE(item["line"].get<std::string>());
    testing::put_file(folder / "a.talp", "1-1\n" + item["line"].get<std::string>() + "\n");
    EXPECT_CONTAINS(error_of<core::InputError>([&] {
                      read_alignments(folder / "a.talp", {kTalp, item["base"].get<int64_t>()});
                    }),
                    "a.talp:2:1: '");
  }
}

TEST(AlignmentFiles, EveryMalformedFileIsOneMessageWithItsPlace) {
  int files = 0;
  const Json malformed = core::read_json(golden("data/malformed_expected.json"));
  for (const Json& item : malformed["files"]) {
    const auto name = item["file"].get<std::string>();
    if (!name.ends_with(".talp")) continue;
    SCOPED_TRACE(name);
    const std::string message = error_of<core::InputError>([&] {
      read_alignments(golden("data/" + name), {kTalp, item["base"].get<int64_t>()}, golden_bounds());
    });
    EXPECT_CONTAINS(message,
                    name + (item.contains("line") ? fmt::format(":{}:", item["line"].get<int>()) : ":"));
    EXPECT_EQ(message.find('\n'), std::string::npos);
    ++files;
  }
  EXPECT_EQ(files, 18);
}

TEST(AlignmentFiles, MessagesSayWhatIsWrong) {
  const auto message = [](const std::string& name, int64_t base) {
    return error_of<core::InputError>([&] {
      read_alignments(golden("data/malformed/talp-" + name + ".talp"), {kTalp, base}, golden_bounds());
    });
  };
  EXPECT_CONTAINS(
      message("source-out-of-range", 1),
      "has source word 6, but sentence 3 in text.{a,b} has 5 words, counted from 1, as base says");
  EXPECT_CONTAINS(message("target-out-of-range", 1),
                  "has target word 7, but sentence 3 in text.{a,b} has 6 words, counted from 1");
  EXPECT_CONTAINS(message("0-based-read-as-1-based", 1),
                  "word 0, but words count from 1 here; if the file counts from 0, base is 0");
  EXPECT_CONTAINS(message("too-few-lines", 1), "11 lines for 12 sentence pairs in text.{a,b}");
  EXPECT_CONTAINS(message("overflow", 1), "holds a number above 1000000000");
  EXPECT_CONTAINS(message("en-dash", 1), R"('1\xe2\x80\x932' is no link; links are like 3-4 (sure) and 3p4)");
}

TEST(AlignmentFiles, OtherFormsAreRefused) {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& text, AlignmentFormat format,
                           const AlignmentBounds& bounds = {}) {
    testing::put_file(folder / "links", text);
    return error_of<core::InputError>([&] { read_alignments(folder / "links", {format, 1}, bounds); });
  };
  EXPECT_CONTAINS(message("1-1 2p2\n", kPharaoh), "links:1:5: '2p2' is no link; links are like 3-4");
  EXPECT_CONTAINS(message("1 1 1 S\n1 2\n", kNaacl), "links:2:1: '1 2' does not fit; lines are like 1 3 4 S");
  EXPECT_CONTAINS(message("1 1 1 s\n", kNaacl), "does not fit");
  EXPECT_CONTAINS(message("1 1x 1 S\n", kNaacl), "links:1:3: '1x' does not fit");
  EXPECT_CONTAINS(message("0 1 1 S\n", kNaacl), "'0' is no sentence pair");
  EXPECT_CONTAINS(message("3 1 1 S\n", kNaacl, {2, {}, "text"}),
                  "'3' is no sentence pair; they are 1 to 2 in text");
  EXPECT_CONTAINS(message("999999999 1 1 S\n", kNaacl), "is no sentence pair; they are 1 to 10000000");
  EXPECT_CONTAINS(message("1-1\n1-1\n1-1\n", kTalp, {2, {}, "text"}), "3 lines for 2 sentence pairs in text");
}

TEST(AlignmentWords, BlanksAndTabsAloneSeparate) {
  EXPECT_EQ(words_of("  ein\tTest\xC2\xA0"
                     "fall . "),
            (std::vector<std::string_view>{"ein",
                                           "Test\xC2\xA0"
                                           "fall",
                                           "."}));
  EXPECT_TRUE(words_of("").empty());
  EXPECT_TRUE(words_of(" \t").empty());
}

}  // namespace
}  // namespace exactmamba::eval
