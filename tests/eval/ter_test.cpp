// TER against sacreBLEU's stored scores (golden/metrics).
#include "eval/ter.h"

#include <numeric>

#include <gtest/gtest.h>

#include "eval/shifted_edits.h"
#include "tests/eval/metric_cases.h"

namespace exactmamba::eval {
namespace {

using core::Json;

TEST(Ter, SmallCorpora) {
  each_small_case("TER", [](const auto& hypotheses, const References& references, const Json& row) {
    const Ter metric(ter_options(row["options"]));
    const std::vector<double> sums = SegmentStatistics(metric, hypotheses, references).sums();
    expect_golden(metric, sums, references, row);
    EXPECT_EQ(sums[0], row["num_edits"].get<double>());
    EXPECT_NEAR(sums[1], row["ref_length"].get<double>(), 1e-9);
  });
}

TEST(Ter, Wmt17) {
  const Ter normalized({.normalized = true});
  expect_wmt17(Ter(), "TER", "TER", Ter());
  expect_wmt17(Ter(), "TER", "TER_normalized", normalized);
}

TEST(ShiftedEdits, CountedByHand) {
  EXPECT_EQ(shifted_edits({1, 2, 3}, {1, 2, 3}), 0);
  EXPECT_EQ(shifted_edits({4, 5, 6, 1, 2, 3}, {1, 2, 3, 4, 5, 6}), 1);  // one shift of three words
  EXPECT_EQ(shifted_edits({4, 5, 9, 1, 2, 3}, {1, 2, 3, 4, 5, 6}), 2);  // and one substitution
  EXPECT_EQ(shifted_edits({}, {1, 2}), 2);
  EXPECT_EQ(shifted_edits({1, 2, 3}, {}), 3);
  EXPECT_EQ(shifted_edits({1}, {2, 1, 3}), 2);
}

TEST(ShiftedEdits, OfSequencesOfVeryUnequalLength) {  // expected: sacreBLEU 2.6.0
  const auto counted = [](uint32_t first, size_t length) {
    Sequence sequence(length);
    std::iota(sequence.begin(), sequence.end(), first);
    return sequence;
  };
  EXPECT_EQ(shifted_edits(counted(0, 3), counted(0, 400)), 400);
  EXPECT_EQ(shifted_edits(counted(0, 400), counted(0, 3)), 397);
  EXPECT_EQ(shifted_edits(counted(100, 5), counted(0, 300)), 298);
  EXPECT_EQ(shifted_edits(counted(0, 200), counted(40, 130)), 71);
}

TEST(ShiftedEdits, OfVeryLongLines) {
  Sequence words(20'000, 0);
  std::iota(words.begin(), words.end(), 0);
  Sequence other = words;
  other[10'000] = 99'999;
  EXPECT_EQ(shifted_edits(words, other), 1);
}

}  // namespace
}  // namespace exactmamba::eval
