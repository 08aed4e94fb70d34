// The report's numbers of translated test sets against sacreBLEU's paired bootstrap (golden/metrics).
#include "eval/translation_scores.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "eval/line_files.h"
#include "eval/report.h"
#include "eval/row_values.h"
#include "eval/translation_comet.h"
#include "tests/support/files.h"
#include "tests/support/golden_json.h"

namespace exactmamba::eval {
namespace {

using core::Json;

TEST(TranslationScores, RowsOfAReport) {
  const Json texts = testing::golden_json("metrics/wmt17_200.json");
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
  add_intervals(rows, translations);
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

/// golden/comet: translations that unbabel-comet scored.
TEST(TranslationScores, CometIsThatOfUnbabelComet) {
  const Json golden = core::read_json(testing::golden("comet/softmax/expected.json"));
  TestSet set{.name = "x", .pairs = {}};
  TranslatedSet translated{.name = "x", .translations = {}, .references = {}};
  for (const Json& row : golden["cases"]) {
    set.pairs.push_back({row["src"], row["ref"]});
    translated.translations.push_back(row["mt"]);
    translated.references.push_back(row["ref"]);
  }
  const CometModel model(testing::golden("comet/softmax"), at::kCPU, kRecipeCometDtype);
  translated.comet = comet_scores(model, set, translated.translations);
  const double score = comet_measures(translated)["comet.x"];
  EXPECT_NEAR(score, 100 * golden["system_score_fp64"].get<double>(), 2e-4);
  const testing::TemporaryFolder folder;
  save_comet(folder.path(), "x", translated.comet);
  TranslatedSet loaded{.name = "x", .translations = translated.translations, .references = {}};
  load_comet(folder.path(), loaded);
  EXPECT_EQ(loaded.comet, translated.comet);
  loaded.translations.pop_back();
  EXPECT_THROW(load_comet(folder.path(), loaded), core::InputError);

  TranslatedSet better = translated;  // by a hundredth, in every resample
  for (double& segment : better.comet) segment += 0.01;
  Json rows = {{{"values", comet_measures(translated)}}, {{"values", comet_measures(better)}}};
  add_intervals(rows, {{translated}, {better}});
  EXPECT_NEAR(rows[0]["half_widths"]["comet.x"], 3.4575554, 2e-4);  // numpy's, of score_fp64
  EXPECT_NEAR(rows[1]["values"]["comet_difference.x"], 1, 1e-9);
  EXPECT_NEAR(rows[1]["half_widths"]["comet_difference.x"], 0, 1e-9);
  EXPECT_LT(rows[1]["values"]["comet_p.x"], 0.002);  // no resample has such a difference by chance
  better.comet_model = "another";
  Json apart = {{{"values", Json::object()}}, {{"values", Json::object()}}};
  add_intervals(apart, {{translated}, {better}});
  EXPECT_FALSE(apart[1]["values"].contains("comet_difference.x"));
  EXPECT_TRUE(apart[1]["values"].contains("bleu_difference.x"));
  EXPECT_EQ(report_columns(rows)[0]["title"], "COMET, x");
  EXPECT_THROW(comet_scores(model, set, {"one"}), core::InputError);
}

TEST(LineFiles, PartsThatAreThereAreNotMadeAgain) {
  const testing::TemporaryFolder folder;
  std::vector<size_t> begun;
  size_t stop_at = 7;
  const auto work = [&](size_t begin, size_t end) {
    core::require(begin < stop_at, "stopped at {}", begin);
    begun.push_back(begin);
    std::vector<std::string> lines;
    for (size_t item = begin; item < end; ++item) lines.push_back(item == 4 ? "" : std::to_string(item));
    return lines;
  };
  const auto made = [&] { return lines_by_parts(folder / "parts", 10, 3, work); };
  EXPECT_THROW(made(), core::InputError);
  EXPECT_EQ(begun, (std::vector<size_t>{0, 3, 6}));
  testing::put_file(folder / "parts/00000003.txt", "3\n");  // not whole
  begun.clear();
  stop_at = 10;
  EXPECT_EQ(made(), (std::vector<std::string>{"0", "1", "2", "3", "", "5", "6", "7", "8", "9"}));
  EXPECT_EQ(begun, (std::vector<size_t>{3, 9}));
  begun.clear();
  EXPECT_EQ(lines_by_parts({}, 3, 2, work), (std::vector<std::string>{"0", "1", "2"}));
  EXPECT_EQ(begun, (std::vector<size_t>{0, 2}));
}

TEST(TranslationScores, NoCometIsADash) {
  Json rows = {{{"values", {{"bleu.a", 20}, {"bleu.validation", 30}, {"bleu_p.a", 0.5}}}},
               {{"values", {{"bleu.a", 21}, {"comet.a", 80}}}}};
  for (Json& row : rows) mark_missing_comet(row["values"]);
  EXPECT_EQ(rows[0]["values"].size(), 4u);
  EXPECT_TRUE(rows[0]["values"].at("comet.a").is_null());
  EXPECT_EQ(rows[1]["values"]["comet.a"], 80);
  rows[0]["label"] = "a";
  rows[1]["label"] = "b";
  EXPECT_CONTAINS(report_markdown({{"columns", {report_columns(rows).back()}}, {"rows", rows}}), "| a | – |");
}

TEST(TranslationScores, CometHasNoColumnOfTheValidationSet) {
  EvaluateOptions options;
  options.test = {"a.{de,en}"};
  const std::vector<std::string> keys = translation_keys(options);
  const auto has = [&keys](const char* key) { return std::count(keys.begin(), keys.end(), key) == 1; };
  EXPECT_TRUE(has("bleu.a") && has("bleu.validation") && has("comet.a"));
  EXPECT_FALSE(has("comet.validation"));
}

TEST(TranslationScores, HelpSaysOfWhichSet) {
  EXPECT_CONTAINS(translation_column("bleu.validation")["help"].get<std::string>(),
                  "BLEU of data.valid (its first evaluate.max_rows rows; 0: all) ± half");
  EXPECT_CONTAINS(translation_column("bleu.a")["help"].get<std::string>(), "BLEU of the test set ± half");
  EXPECT_CONTAINS(translation_column("chrf.validation")["help"].get<std::string>(), "chrF of data.valid (");
}

TEST(TranslationScores, OnlyTheSameSegmentsAreCompared) {
  const TranslatedSet a = {"x", {"a b c d e"}, {"a b c d e"}}, b = {"x", {"a b c d e"}, {"a b c d f"}};
  Json rows = {{{"values", Json::object()}}, {{"values", Json::object()}}};
  add_intervals(rows, {{a}, {b}});
  EXPECT_TRUE(rows[1]["values"].empty());
  EXPECT_EQ(rows[0]["half_widths"]["bleu.x"], 0);
}

}  // namespace
}  // namespace exactmamba::eval
