// BLEU against sacreBLEU's stored scores (golden/metrics).
#include "eval/bleu.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/eval/metric_cases.h"
#include "tests/support/files.h"

namespace exactmamba::eval {
namespace {

using core::Json;

void expect_list(const std::vector<double>& values, const Json& expected, const char* what) {
  ASSERT_EQ(values.size(), expected.size()) << what;
  for (size_t n = 0; n < values.size(); ++n)
    EXPECT_NEAR(values[n], expected[n].get<double>(), 1e-9) << what << n;
}

TEST(Bleu, SmallCorpora) {
  each_small_case("BLEU", [](const auto& hypotheses, const References& references, const Json& row) {
    const Bleu metric(bleu_options(row["options"]));
    const std::vector<double> sums = SegmentStatistics(metric, hypotheses, references).sums();
    expect_golden(metric, sums, references, row);
    const BleuScore bleu = metric.bleu_score(sums);
    expect_list(bleu.precisions, row["precisions"], "precision");
    expect_list(bleu.matches, row["counts"], "count");
    expect_list(bleu.totals, row["totals"], "total");
    EXPECT_NEAR(bleu.brevity_penalty, row["bp"].get<double>(), 1e-12);
    EXPECT_NEAR(bleu.ratio(), row["ratio"].get<double>(), 1e-12);
    EXPECT_EQ(bleu.hypothesis_length, row["sys_len"].get<double>());
    EXPECT_EQ(bleu.reference_length, row["ref_len"].get<double>());
  });
}

TEST(Bleu, Wmt17) {
  BleuOptions sentence;
  sentence.effective_order = true;
  BleuOptions international = sentence, floor = sentence;
  international.tokenizer = BleuTokenizer::kInternational;
  international.lowercase = true;
  floor.smoothing = Smoothing::kFloor;
  expect_wmt17(Bleu(), "BLEU", "BLEU", Bleu(sentence));
  expect_wmt17(Bleu(), "BLEU", "BLEU_intl_lc", Bleu(international));
  expect_wmt17(Bleu(), "BLEU", "BLEU_floor", Bleu(floor));
}

TEST(Bleu, RefusesWhatItCannotScore) {
  const auto error = [](const auto& run) { return testing::error_of<core::InputError>(run); };
  EXPECT_CONTAINS(error([] {
                    SegmentStatistics(Bleu(), {"a", "b"}, {{"a"}});
                  }),
                  "BLEU: 2 segments are translated, but 1 have references");
  EXPECT_CONTAINS(error([] {
                    SegmentStatistics(Bleu(), {"a", "b"}, {{"a"}, {}});
                  }),
                  "segment 2 has no reference");
  EXPECT_CONTAINS(error([] { SegmentStatistics(Bleu(), {}, {}); }), "there are no segments");
  BleuOptions options;
  options.smooth_value = 0.5;
  EXPECT_CONTAINS(error([&] { Bleu bleu(options); }), "smoothing exp takes no value, but 0.5 was given");
  options.smoothing = Smoothing::kFloor;
  options.smooth_value = -1;
  EXPECT_CONTAINS(error([&] { Bleu bleu(options); }), "the smoothing value -1");
}

}  // namespace
}  // namespace exactmamba::eval
