// The report's numbers of translated test sets against sacreBLEU's paired bootstrap (golden/metrics).
#include "eval/translation_scores.h"

#include <gtest/gtest.h>

#include "core/json.h"
#include "eval/report.h"
#include "eval/row_values.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::eval {
namespace {

using core::Json;

TEST(TranslationScores, RowsOfAReport) {
  const Json texts = core::read_json(testing::golden("metrics/wmt17_200.json"));
  const Json golden = core::read_json(testing::golden("metrics/paired_bootstrap.json"))["tests"][0];
  const Json& bleu = golden["metrics"]["BLEU"]["results"];
  const Json& chrf = golden["metrics"]["chrF2"]["results"];
  std::vector<std::vector<TranslatedSet>> translations;
  Json rows = Json::array();
  for (const Json& system : golden["systems"]) {
    const TranslatedSet set = {"news",
                               texts["hypotheses"][system.get<std::string>()].get<std::vector<std::string>>(),
                               texts["references"].get<std::vector<std::string>>()};
    rows.push_back({{"label", system}, {"values", translation_measures(set)}});
    translations.push_back({set});
  }
  add_bleu_intervals(rows, translations);
  for (size_t k = 0; k < rows.size(); ++k) {
    SCOPED_TRACE(k);
    EXPECT_NEAR(rows[k]["values"]["bleu.news"].get<double>(), bleu[k]["score"].get<double>(), 1e-9);
    EXPECT_NEAR(rows[k]["values"]["chrf.news"].get<double>(), chrf[k]["score"].get<double>(), 1e-9);
    EXPECT_NEAR(rows[k]["half_widths"]["bleu.news"].get<double>(), bleu[k]["ci_fp64"].get<double>(), 1e-9);
    if (k == 0) continue;
    EXPECT_NEAR(rows[k]["values"]["bleu_difference.news"].get<double>(),
                bleu[k]["score"].get<double>() - bleu[0]["score"].get<double>(), 1e-9);
    EXPECT_EQ(rows[k]["values"]["bleu_p.news"], bleu[k]["p_value_fp64"]);
  }
  EXPECT_FALSE(rows[0]["values"].contains("bleu_difference.news"));

  const std::string table = report_table({{"columns", report_columns(rows)}, {"rows", rows}});
  EXPECT_CONTAINS(table, "BLEU, news  chrF, news  BLEU against the first row, news  p, news");
  EXPECT_CONTAINS(table, "29.03 ± 3.10       57.29");
  EXPECT_CONTAINS(report_columns(rows)[0]["help"].get<std::string>(),
                  "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0");
}

TEST(TranslationScores, OnlyTheSameSegmentsAreCompared) {
  const TranslatedSet a = {"x", {"a b c d e"}, {"a b c d e"}}, b = {"x", {"a b c d e"}, {"a b c d f"}};
  Json rows = {{{"values", Json::object()}}, {{"values", Json::object()}}};
  add_bleu_intervals(rows, {{a}, {b}});
  EXPECT_TRUE(rows[1]["values"].empty());
  EXPECT_EQ(rows[0]["half_widths"]["bleu.x"], 0);
}

}  // namespace
}  // namespace exactmamba::eval
