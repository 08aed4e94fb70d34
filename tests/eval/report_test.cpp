// The report's three forms, from a small document with hostile text in every place where text can stand.
#include "eval/report.h"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/files.h"

namespace exactmamba::eval {
namespace {

using core::Json;

constexpr const char* kHostile = "</script><img src=x onerror=alert(1)>";

Json small_report() {
  return Json::parse(R"({
    "format_version": 1, "program": "exactmamba 0.1.0", "title": "Copying", "recipe": "[run]\nname = \"x\"\n",
    "provenance": {"seed": "1", "trace dtype": "fp64"},
    "columns": [{"key": "accuracy", "title": "Accuracy", "unit": "%", "better": "higher", "digits": 1, "help": "share of characters"},
                {"key": "error", "title": "Error", "better": "lower", "digits": 3}],
    "rows": [{"label": "mamba1 silu", "values": {"accuracy": 0.985, "error": 0.4291},
              "maps": [{"title": "layer 0", "rows": ["a", "b"], "columns": ["c"], "values": [[1.0], [0.5]]}]},
             {"label": "mamba1 identity", "values": {"accuracy": 0.97, "error": 2.1e-16}},
             {"label": "mamba2 identity", "values": {"accuracy": null}}]})");
}

TEST(ReportTable, AlignsAndKeepsTinyErrorsVisible) {
  EXPECT_EQ(report_table(small_report()),
            "model            Accuracy (%)    Error\n"
            "---------------  ------------  -------\n"
            "mamba1 silu              98.5    0.429\n"
            "mamba1 identity          97.0  2.1e-16\n"
            "mamba2 identity             –        –\n"
            "seed 1 · trace dtype fp64\n");
}

TEST(ReportMarkdown, EscapesCellsAndFencesTheRecipe) {
  Json report = small_report();
  report["rows"][0]["label"] = "a|b <i>";
  report["recipe"] = "x = '```'\n";
  const std::string text = report_markdown(report);
  EXPECT_NE(text.find("| a\\|b \\<i\\> | 98.5 | 0.429 |"), std::string::npos) << text;
  EXPECT_NE(text.find("````toml\nx = '```'\n````"), std::string::npos) << text;
}

TEST(ReportMarkdown, SaysWhereCurvesAre) {
  Json report = small_report();
  EXPECT_EQ(report_markdown(report).find("Curves"), std::string::npos);
  report["rows"][1]["curves"] = {{"loss", {{"x", {1}}, {"y", {0.5}}}}};
  EXPECT_NE(report_markdown(report).find("\nCurves of the training are in report.html"), std::string::npos);
}

TEST(ReportCsv, HasTheValuesThemselves) {
  Json report = small_report();
  report["rows"][1]["label"] = "a \"b\", c";
  EXPECT_EQ(report_csv(report),
            "model,accuracy,error\r\n"
            "mamba1 silu,0.985,0.4291\r\n"
            "\"a \"\"b\"\", c\",0.97,2.1e-16\r\n"
            "mamba2 identity,,\r\n");
  report["rows"][0]["half_widths"] = {{"error", 0.25}};
  EXPECT_EQ(report_csv(report),
            "model,accuracy,error,error.half_width\r\n"
            "mamba1 silu,0.985,0.4291,0.25\r\n"
            "\"a \"\"b\"\", c\",0.97,2.1e-16,\r\n"
            "mamba2 identity,,,\r\n");
}

TEST(ReportLatex, EscapesAndMarksTheBest) {
  Json report = small_report();
  report["rows"][2]["label"] = "a_b & \\c~d {e} 5% #$^";
  EXPECT_EQ(report_latex(report),
            "% Copying; needs \\usepackage{booktabs}\n"
            "\\begin{tabular}{lrr}\n"
            "\\toprule\n"
            "model & Accuracy (\\%) & Error \\\\\n"
            "\\midrule\n"
            "mamba1 silu & \\textbf{98.5} & 0.429 \\\\\n"
            "mamba1 identity & 97.0 & \\textbf{2.1e$-$16} \\\\\n"
            "a\\_b \\& \\textbackslash{}c\\~{}d \\{e\\} 5\\% \\#\\$\\^{} & – & – \\\\\n"
            "\\bottomrule\n"
            "\\end{tabular}\n");
}

TEST(ReportTable, SaysWhatCometIsBesideItsColumns) {
  Json report = small_report();
  report["provenance"]["COMET"] = "none: evaluate.comet_model is empty";
  report["columns"].push_back({{"key", "comet.a"}, {"title", "COMET, a"}});
  EXPECT_CONTAINS(report_table(report), " · COMET none: evaluate.comet_model is empty\n");
  report["shown"] = {"error"};
  EXPECT_EQ(report_table(report).find("COMET"), std::string::npos);
}

/// What is published of "error", beside one model that was run and one that was not.
Json report_with_published() {
  Json report = small_report();
  report["shown"] = {"error"};
  report["rows"][0]["published"] = {{"error", ".43"}};
  report["rows"][2] = {{"label", "mamba2 identity"},
                       {"values", Json::object()},
                       {"state", "not run"},
                       {"published", {{"error", ".00–.01"}}}};
  return report;
}

TEST(ReportPublished, IsAPairOfColumns) {
  EXPECT_EQ(report_table(report_with_published()),
            "model            Error, published  Error, ours\n"
            "---------------  ----------------  -----------\n"
            "mamba1 silu                   .43        0.429\n"
            "mamba1 identity                 –      2.1e-16\n"
            "mamba2 identity           .00–.01      not run\n"
            "seed 1 · trace dtype fp64\n");
  EXPECT_EQ(report_csv(report_with_published()),
            "model,error.published,error\r\n"
            "mamba1 silu,.43,0.4291\r\n"
            "mamba1 identity,,2.1e-16\r\n"
            "mamba2 identity,.00–.01,not run\r\n");
  EXPECT_CONTAINS(report_latex(report_with_published()), "mamba1 silu & .43 & 0.429 \\\\\n");
}

TEST(ReportPublished, ThePageHasTheOtherColumnsToo) {
  const std::string page = report_html(report_with_published());
  EXPECT_CONTAINS(page, "<summary>All columns</summary>");
  EXPECT_CONTAINS(page, ">98.5</td>");
  EXPECT_EQ(report_html(small_report()).find("<summary>All columns</summary>"), std::string::npos);
}

TEST(ReportHtml, HostileTextStaysText) {
  Json report = small_report();
  report["title"] = report["recipe"] = kHostile;
  report["rows"][0]["label"] = report["columns"][0]["title"] = report["columns"][0]["help"] = kHostile;
  report["rows"][0]["maps"][0]["rows"][0] = kHostile;
  report["provenance"][kHostile] = kHostile;
  const std::string page = report_html(report);
  EXPECT_EQ(page.find("<img"), std::string::npos);
  size_t scripts = 0;
  for (size_t at = page.find("</script>"); at != std::string::npos; at = page.find("</script>", at + 1))
    ++scripts;
  EXPECT_EQ(scripts, 2u);  // the data and the program, nothing else
  EXPECT_NE(page.find("\\u003c/script>"), std::string::npos);
  EXPECT_NE(page.find("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;"), std::string::npos);
}

TEST(ReportHtml, LoadsNothingAndRunsOnlyItsOwnScripts) {
  const std::string page = report_html(small_report());
  EXPECT_NE(page.find("default-src 'none'; script-src 'nonce-"), std::string::npos);
  EXPECT_EQ(page.find("unsafe-inline"), std::string::npos);
  EXPECT_EQ(page.find("src=\""), std::string::npos);
  EXPECT_EQ(page.find("href=\""), std::string::npos);
  EXPECT_EQ(page.find("{{"), std::string::npos);
}

TEST(ReportHtml, BracesInTextAreNotFilledIn) {
  Json report = small_report();
  report["title"] = "{{nonce}}";
  EXPECT_NE(report_html(report).find("<h1>{{nonce}}</h1>"), std::string::npos);
}

TEST(ReportHtml, MarksTheBestOfAColumn) {
  const std::string page = report_html(small_report());
  EXPECT_NE(page.find("<td data-value=\"0.98499999999999999\" class=\"best\">98.5</td>"), std::string::npos);
  EXPECT_NE(page.find("class=\"best\">2.1e-16</td>"), std::string::npos);
  EXPECT_CONTAINS(page, ">Shaded: best of its column, unless all look the same. Press a column's name");
}

TEST(ReportHtml, MarksNobodyWhereAllLookTheSame) {
  Json report = small_report();
  for (Json& row : report["rows"]) row["values"] = {{"accuracy", 0.985}, {"error", 0.4291}};
  report["rows"][1]["values"]["accuracy"] = 0.9851;  // 98.5, too
  EXPECT_EQ(report_html(report).find("class=\"best\""), std::string::npos);
  EXPECT_CONTAINS(report_html(report), "<p class=\"note\">Press a column's name to sort.</p>");
  report["rows"][2]["values"]["accuracy"] = 0.97;  // now both 98.5 are best
  const std::string page = report_html(report);
  const size_t first = page.find("class=\"best\">98.5</td>");
  ASSERT_NE(first, std::string::npos);
  EXPECT_NE(page.find("class=\"best\">98.5</td>", first + 1), std::string::npos);
}

std::string refusal(const Json& report) {
  try {
    check_report(report, "r.json");
  } catch (const core::InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ReportCheck, RefusesWhatIsNoReport) {
  EXPECT_EQ(refusal(small_report()), "accepted");
  EXPECT_EQ(refusal(Json::object()), "r.json: no report (it has no 'format_version')");
  Json report = small_report();
  report["format_version"] = 99;
  EXPECT_EQ(refusal(report),
            "r.json: report of format_version 99, but this program reads up to 1; use a newer exactmamba");
  report = small_report();
  report["rows"][0]["maps"][0]["columns"] = Json::array();
  EXPECT_EQ(refusal(report), "r.json: map 'layer 0' has a row of 1 values but 0 column labels");
  report = small_report();
  report.erase("rows");
  EXPECT_EQ(refusal(report), "r.json: the report lacks the list 'rows'");
}

TEST(ReportFiles, WriteAndReadBack) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "exactmamba-report-test";
  std::filesystem::create_directories(folder);
  write_report(folder, small_report());
  EXPECT_EQ(core::read_json(folder / "report.json"), small_report());
  EXPECT_EQ(core::read_file(folder / "report.html"), report_html(small_report()));
  EXPECT_EQ(core::read_file(folder / "report.md"), report_markdown(small_report()));
  EXPECT_EQ(core::read_file(folder / "report.csv"), report_csv(small_report()));
  EXPECT_EQ(core::read_file(folder / "report.tex"), report_latex(small_report()));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace exactmamba::eval
