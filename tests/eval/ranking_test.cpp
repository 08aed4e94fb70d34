// AUC, AP and R@K against scikit-learn's stored answers (golden/decomposition/measures).
#include "eval/ranking.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "tests/support/tensors.h"

namespace exactmamba::eval {
namespace {

using core::Json;

void expect_measure(const std::optional<double>& value, const Json& expected, const char* what) {
  ASSERT_EQ(value.has_value(), !expected.is_null()) << what;
  if (value) {
    EXPECT_NEAR(*value, expected.get<double>(), 1e-12) << what;
  }
}

TEST(Ranking, GoldenCases) {
  const Json cases = core::read_json(testing::golden("decomposition/measures/ranking.json"))["cases"];
  ASSERT_GT(cases.size(), 5u);
  for (const Json& item : cases) {
    SCOPED_TRACE(item["name"].get<std::string>());
    std::vector<double> scores;
    std::vector<bool> gold;
    for (size_t i = 0; i < item["scores"].size(); ++i) {
      for (size_t j = 0; j < item["scores"][i].size(); ++j) {
        scores.push_back(item["scores"][i][j].get<double>());
        bool is_gold = false;
        for (const Json& pair : item["gold"]) is_gold |= pair[0] == i && pair[1] == j;
        gold.push_back(is_gold);
      }
    }
    const RankingMeasures measures = ranking_measures(scores, gold);
    expect_measure(measures.auc, item["auc"], "auc");
    expect_measure(measures.ap, item["ap"], "ap");
    expect_measure(measures.recall_at_k, item["r_at_k"], "r_at_k");
  }
}

TEST(Ranking, UndefinedMeasuresStayOutOfMeans) {
  RankingMeans means;
  means.add(ranking_measures({1, 2}, {false, false}));  // no gold: nothing defined
  means.add(ranking_measures({2, 1}, {true, false}));   // perfect
  EXPECT_EQ(means.means().auc, 1.0);
  EXPECT_EQ(means.means().recall_at_k, 1.0);
  EXPECT_FALSE(RankingMeans().means().ap.has_value());
}

TEST(Ranking, RefusesNaN) {
  EXPECT_THROW(ranking_measures({std::nan(""), 1}, {true, false}), core::NumericalError);
}

}  // namespace
}  // namespace exactmamba::eval
