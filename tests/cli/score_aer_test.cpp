// score aer, run as a user would, against golden/data/alignments.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "core/json.h"
#include "tests/support/program.h"
#include "tests/support/tensors.h"

namespace exactmamba::cli {
namespace {

using core::Json;
using testing::golden;

std::string path(const std::string& name) { return golden("data/alignments/" + name).string(); }

class ScoreAer : public ::testing::Test {
 protected:
  testing::ProgramOutcome score(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"score", "aer"});
    return testing::run_program(arguments, {.folder = folder_.path()});
  }
  Json json_of(std::vector<std::string> arguments) const {
    arguments.push_back("--json");
    const auto outcome = score(std::move(arguments));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return core::parse_json(outcome.out, "stdout");
  }
  /// The golden hypothesis against gold in the given form.
  std::vector<std::string> arguments_for(const std::string& gold, const std::string& format,
                                         const std::string& base) const {
    return {path("hypothesis.pharaoh"),
            "--base",
            "0",
            "--gold",
            path(gold),
            "--gold-format",
            format,
            "--gold-base",
            base};
  }
  const Json expected_ = core::read_json(golden("data/alignments_expected.json"))["score"];
  testing::TemporaryFolder folder_;
};

void expect_score(const Json& score, const Json& expected) {
  for (const char* key : {"aer", "precision", "recall"})
    EXPECT_NEAR(score[key].get<double>(), expected[key].get<double>(), 1e-12) << key;
  EXPECT_EQ(score["links"], expected["links"]);
}

TEST_F(ScoreAer, EveryFormOfGoldAndOfLinks) {
  for (const auto& [gold, format, base] : {std::tuple{"gold.1based.talp", "talp", "1"},
                                           {"gold.0based.talp", "talp", "0"},
                                           {"gold.naacl", "naacl", "1"}})
    expect_score(json_of(arguments_for(gold, format, base))["alignments"][0], expected_);
  auto reversed = arguments_for("gold.1based.talp", "talp", "1");
  reversed[0] = path("hypothesis.reverse.pharaoh");
  reversed.push_back("--target-first");
  expect_score(json_of(reversed)["alignments"][0], expected_);
}

TEST_F(ScoreAer, PrintsALineAnAlignmentAndTheSanityRowsOfSentences) {
  auto arguments = arguments_for("gold.1based.talp", "talp", "1");
  EXPECT_EQ(score(arguments).out,
            path("hypothesis.pharaoh") + "  AER 0.2982  precision 0.7083  recall 0.6905  links 72\n");
  arguments.insert(arguments.end(), {"--sentences", path("{source,target}.txt")});
  const std::string text = score(arguments).out;
  EXPECT_CONTAINS(text, "Without a model:\nrandom (a random source word");
  EXPECT_CONTAINS(text, "\noracle_all_words (");
  EXPECT_EQ(json_of(arguments)["sanity"].size(), 5u);
}

TEST_F(ScoreAer, BothDirectionsAsOne) {
  testing::put_file(folder_ / "there", "0-0 1-1\n");
  testing::put_file(folder_ / "back", "0-0 2-1\n");  // target first
  testing::put_file(folder_ / "gold", "1-1 2-2 2-3\n");
  const std::vector<std::string> arguments = {
      "there",       "--base", "0",         "--gold", "gold",
      "--gold-base", "1",      "--reverse", "back",   "--reverse-target-first"};
  const Json all = json_of(arguments)["alignments"];
  ASSERT_EQ(all.size(), 8u);  // both files, and every rule
  EXPECT_EQ(all[2]["name"], "intersection");
  EXPECT_EQ(all[2]["links"], 1);
  EXPECT_EQ(all[3]["name"], "union");
  EXPECT_EQ(all[3]["aer"], 0.0);
  auto one = arguments;
  one.insert(one.end(), {"--symmetrise", "union", "--output", "both"});
  EXPECT_EQ(json_of(one)["alignments"].size(), 3u);
  EXPECT_EQ(core::read_file(folder_ / "both"), "0-0 1-1 1-2\n");
}

TEST_F(ScoreAer, WrongUseIsALine) {
  const auto refusal = [this](std::vector<std::string> arguments, const std::vector<std::string>& more,
                              int code) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    const auto outcome = score(arguments);
    EXPECT_EQ(outcome.code, code);
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  };
  const auto arguments = arguments_for("gold.1based.talp", "talp", "0");
  EXPECT_CONTAINS(
      refusal(arguments, {"--sentences", path("{source,target}.txt")}, 1),
      "gold.1based.talp:1:17: '8p7' has source word 8, but sentence 1 in " + path("{source,target}.txt"));
  EXPECT_CONTAINS(refusal(arguments, {"--sentences", path("{source,target}.txt")}, 1),
                  "has 8 words, counted from 0, as --gold-base says");
  EXPECT_CONTAINS(refusal(arguments_for("gold.0based.talp", "talp", "1"), {}, 1),
                  "word 0, but words count from 1 here; if the file counts from 0, --gold-base is 0");
  testing::put_file(folder_ / "one.de", "ein Haus\n");
  testing::put_file(folder_ / "one.en", "a house\n");
  testing::put_file(folder_ / "gold", "1-1\n");
  testing::put_file(folder_ / "far", "1-1 999-1\n");
  EXPECT_CONTAINS(
      refusal({"far", "--base", "1", "--gold", "gold", "--gold-base", "1", "--sentences", "one.{de,en}"}, {},
              1),
      "far:1:5: '999-1' has source word 999, but sentence 1 in one.{de,en} has 2 words");
  testing::put_file(folder_ / "empty", "");
  EXPECT_CONTAINS(refusal({"empty", "--base", "0", "--gold", "empty", "--gold-base", "0"}, {}, 1),
                  "empty: there is no link in it");
  EXPECT_CONTAINS(refusal(arguments, {"--symmetrise", "union"}, 2), "--symmetrise");
  EXPECT_CONTAINS(refusal(arguments, {"--gold-base", "2"}, 2), "--gold-base");
  EXPECT_CONTAINS(refusal({path("hypothesis.pharaoh"), "--gold", path("gold.naacl")}, {}, 2),
                  "--base is required");
  EXPECT_CONTAINS(refusal(arguments, {"--reverse", path("hypothesis.pharaoh"), "--output", "both"}, 2),
                  "--output writes one alignment: give one file, and one rule to --symmetrise");
  EXPECT_CONTAINS(refusal({path("hypothesis.pharaoh"), path("hypothesis.pharaoh"), "--base", "0", "--gold",
                           path("gold.1based.talp"), "--gold-base", "1"},
                          {"--reverse", path("hypothesis.pharaoh")}, 2),
                  "--reverse is the other direction of one alignment, but 2 are given");
}

}  // namespace
}  // namespace exactmamba::cli
