// AER and symmetrisation against exact fractions (golden/decomposition/measures), and against the numbers of
// public alignments where they are at hand.
#include "eval/alignment/aer.h"

#include <map>

#include <gtest/gtest.h>

#include "core/error.h"
#include "eval/alignment/symmetrise.h"
#include "tests/eval/alignment/golden_links.h"

namespace exactmamba::eval {
namespace {

using core::Json;
using testing::golden;
using testing::links_of;

/// `expected`: a number, or [numerator, denominator], or null.
void expect_value(const std::optional<double>& value, const Json& expected, const char* what) {
  ASSERT_EQ(value.has_value(), !expected.is_null()) << what;
  if (!value) return;
  const double number =
      expected.is_array() ? expected[0].get<double>() / expected[1].get<double>() : expected.get<double>();
  EXPECT_NEAR(*value, number, 1e-12) << what;
}

void expect_score(const AlignmentScore& score, const Json& expected) {
  expect_value(score.precision(), expected["precision"], "precision");
  expect_value(score.recall(), expected["recall"], "recall");
  expect_value(score.aer(), expected["aer"], "aer");
}

TEST(Aer, GoldenCases) {
  const Json file = core::read_json(golden("decomposition/measures/aer.json"));
  AlignmentScore corpus;
  for (const Json& item : file["cases"]) {
    SCOPED_TRACE(item["name"].get<std::string>());
    GoldLinks gold{links_of(item["sure"]), links_of(item["possible_only"])};
    gold.possible.insert(gold.sure.begin(), gold.sure.end());
    const AlignmentScore score = alignment_score(links_of(item["links"]), gold);
    EXPECT_EQ(score.sure_hits, item["hit_sure"].get<double>());
    EXPECT_EQ(score.possible_hits, item["hit_possible"].get<double>());
    expect_score(score, item);
    corpus += score;
  }
  const Json& expected = file["corpus_of_all_cases"];
  expect_score(corpus, expected);
  EXPECT_EQ(corpus.links, expected["links"]);
  EXPECT_EQ(corpus.sure, expected["sure"]);
}

TEST(Aer, GoldenFilesInAllAndPerLine) {
  const Json expected = core::read_json(golden("data/alignments_expected.json"));
  const auto gold = read_alignments(golden("data/alignments/gold.1based.talp"), {.base = 1});
  const auto links = read_links(golden("data/alignments/hypothesis.pharaoh"), {AlignmentFormat::kPharaoh, 0});
  const auto expect = [](const AlignmentScore& score, const Json& numbers) {
    expect_score(score, numbers);
    EXPECT_EQ(score.links, numbers["links"]);
    EXPECT_EQ(score.sure, numbers["sure"]);
    EXPECT_EQ(score.sure_hits, numbers["a_and_s"].get<double>());
    EXPECT_EQ(score.possible_hits, numbers["a_and_p"].get<double>());
  };
  expect(alignment_score(links, gold), expected["score"]);
  for (size_t n = 0; n < gold.size(); ++n)
    expect(alignment_score(links[n], gold[n]), expected["score_per_line"][n]);
  EXPECT_THROW(alignment_score({links[0]}, gold), core::InputError);
}

TEST(Aer, SanityRowsOfAPairWithoutSourceWords) {
  const std::vector<SanityRow> rows = sanity_rows({{0, 3}, {2, 1}}, {{}, {{{1, 0}}, {{1, 0}}}});
  for (const SanityRow& row : rows) EXPECT_EQ(row.score.links, 1) << row.name;
  EXPECT_EQ(rows[0].score.aer(), 0.5);  // random: the right one of two words
  EXPECT_EQ(rows[3].score.aer(), 0.0);
}

TEST(Symmetrise, GoldenCases) {
  const Json cases = core::read_json(golden("decomposition/measures/symmetrise.json"))["cases"];
  ASSERT_GT(cases.size(), 10u);
  for (const Json& item : cases)
    for (size_t rule = 0; rule < kSymmetrisationNames.size(); ++rule)
      EXPECT_EQ(
          symmetrise(links_of(item["forward"]), links_of(item["reverse"]), static_cast<Symmetrisation>(rule)),
          links_of(item[kSymmetrisationNames[rule]]))
          << kSymmetrisationNames[rule] << " of " << item["forward"] << " and " << item["reverse"];
}

/// Of the pair "deen" (RWTH) or "enfr" (Hansards).
class PublicAlignments : public ::testing::Test {
 protected:
  void SetUp() override {
    if (testing::external_data().empty())
      GTEST_SKIP() << "set EXACTMAMBA_DATA to the folder with align-de-en-rwth, align-fr-en-hansards and "
                      "align-system-outputs-lilt";
    expected_ = core::read_json(golden("decomposition/measures/alignment_real.json"));
    for (const char* pair : {"deen", "enfr"}) sets_[pair] = testing::real_gold(pair);
  }
  std::vector<Links> outputs(const std::string& system, const std::string& pair,
                             const std::string& kind) const {
    const std::string name = system + ".test." + pair + (kind == "forward" ? "" : "." + kind) + ".talp";
    const testing::RealGold& set = sets_.at(pair);
    return read_links(testing::external_data() / "align-system-outputs-lilt" / name,
                      {AlignmentFormat::kTalp, 0, kind == "reverse"}, {set.gold.size(), set.lengths});
  }
  std::vector<Links> symmetrised(const std::string& system, const std::string& pair,
                                 Symmetrisation rule) const {
    const auto forward = outputs(system, pair, "forward"), reverse = outputs(system, pair, "reverse");
    std::vector<Links> links;
    for (size_t n = 0; n < forward.size(); ++n) links.push_back(symmetrise(forward[n], reverse[n], rule));
    return links;
  }
  Json expected_;
  std::map<std::string, testing::RealGold> sets_;
};

TEST_F(PublicAlignments, SanityRows) {
  const std::map<std::string, std::string> names = {{"random", "random_expected"},
                                                    {"diagonal", "diagonal_clamped"},
                                                    {"scaled_diagonal", "scaled_floor_middle"},
                                                    {"oracle", "oracle_one_link_per_target_word_with_a_link"},
                                                    {"oracle_all_words", "oracle_every_target_word_linked"}};
  for (const auto& [pair, set] : sets_) {
    SCOPED_TRACE(pair);
    const Json& expected = expected_["sanity"][pair];
    const std::vector<SanityRow> rows = sanity_rows(set.lengths, set.gold);
    ASSERT_EQ(rows.size(), names.size());
    for (const SanityRow& row : rows)
      EXPECT_NEAR(row.score.aer().value(), expected[names.at(row.name)].get<double>(), 1e-12) << row.name;
    EXPECT_EQ(rows[0].score.sure, expected["sure"]);
    EXPECT_EQ(rows[0].score.links, expected["target_words"]);
  }
}

TEST_F(PublicAlignments, FilesOfAligners) {
  for (const auto& [pair, set] : sets_)
    for (const std::string system : {"giza", "fastalign"})
      for (const std::string kind :
           {"forward", "reverse", "intersection", "union", "grow-diagonal", "grow-diagonal-final"}) {
        SCOPED_TRACE(system + " " + pair + " " + kind);
        const Json& expected = expected_["systems"][system + "." + pair + "." + kind];
        const AlignmentScore score = alignment_score(outputs(system, pair, kind), set.gold);
        expect_score(score, expected);
        EXPECT_EQ(score.links, expected["links"]);
      }
}

TEST_F(PublicAlignments, SymmetrisationIsThatOfTheFiles) {
  for (const auto& [pair, set] : sets_)
    for (const std::string system : {"giza", "fastalign"}) {
      SCOPED_TRACE(system + " " + pair);
      for (const auto& [rule, kind] : {std::pair{Symmetrisation::kIntersection, "intersection"},
                                       {Symmetrisation::kUnion, "union"},
                                       {Symmetrisation::kGrowDiagonal, "grow-diagonal"},
                                       {Symmetrisation::kGrowDiagonalFinal, "grow-diagonal-final"}})
        EXPECT_EQ(symmetrised(system, pair, rule), outputs(system, pair, kind)) << kind;
      const Json& expected = expected_["symmetrisation"][system + "." + pair];
      for (const Symmetrisation rule :
           {Symmetrisation::kMosesGrowDiag, Symmetrisation::kMosesGrowDiagFinalAnd})
        expect_score(alignment_score(symmetrised(system, pair, rule), set.gold),
                     expected[kSymmetrisationNames[static_cast<size_t>(rule)]]);
    }
}

}  // namespace
}  // namespace exactmamba::eval
