// chrF and chrF++ against sacreBLEU's stored scores (golden/metrics).
#include "eval/chrf.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/eval/metric_cases.h"

namespace exactmamba::eval {
namespace {

using core::Json;

TEST(Chrf, SmallCorpora) {
  each_small_case("chrF", [](const auto& hypotheses, const References& references, const Json& row) {
    const Chrf metric(chrf_options(row["options"]));
    EXPECT_EQ(metric.name(), row["name"].get<std::string>());
    expect_golden(metric, SegmentStatistics(metric, hypotheses, references).sums(), references, row);
  });
}

TEST(Chrf, Wmt17) {
  expect_wmt17(Chrf(), "chrF", "chrF2", Chrf());
  const Chrf with_words({.word_order = 2});
  expect_wmt17(with_words, "chrF++", "chrF2++", with_words);
}

TEST(Chrf, RefusesToCountNothing) {
  EXPECT_THROW(Chrf({.char_order = 0}), core::InputError);
  EXPECT_THROW(Chrf({.beta = 0}), core::InputError);
}

}  // namespace
}  // namespace exactmamba::eval
