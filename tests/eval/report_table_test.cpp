// The comparison table on terminals that are narrower than it.
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "core/utf8.h"
#include "eval/report.h"

namespace exactmamba::eval {
namespace {

using core::Json;

Json wide_report() {
  Json report = {{"columns", Json::array()},
                 {"provenance", {{"seed", "1"}}},
                 {"rows",
                  {{{"label", "mamba2, silu"}, {"values", Json::object()}},
                   {{"label", "mamba2, silu, standard initialisation"}, {"values", Json::object()}}}}};
  int number = 0;
  for (const std::string title :
       {"Characters", "Characters, free", "Perplexity", "Error, layer 0 · activation",
        "Error, layer 1 · activation", "Best layer, l2 · activation"}) {
    const std::string key = std::to_string(number++);
    report["columns"].push_back({{"key", key}, {"title", title}, {"digits", 3}});
    for (Json& row : report["rows"]) row["values"][key] = 0.125 + number;
  }
  return report;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(ReportTable, FitsEveryWidthAndLosesNothing) {
  for (const size_t width : {160, 120, 80, 60, 40}) {
    const std::string table = report_table(wide_report(), width);
    for (const std::string& line : lines_of(table)) EXPECT_LE(core::count_characters(line), width) << table;
    for (const std::string value : {"1.125", "2.125", "3.125", "4.125", "5.125", "6.125"})
      EXPECT_EQ(count(table, value), 2u) << table;
    EXPECT_NE(table.find("Perplexity"), std::string::npos);
  }
}

TEST(ReportTable, WrapsHeadingsAndLabelsThenGoesOnBelow) {
  EXPECT_EQ(report_table(wide_report(), 60),
            "                            Characters,\n"
            "model           Characters         free  Perplexity\n"
            "--------------  ----------  -----------  ----------\n"
            "mamba2, silu         1.125        2.125       3.125\n"
            "mamba2, silu,        1.125        2.125       3.125\n"
            "standard\n"
            "initialisation\n"
            "\n"
            "                Error, layer  Error, layer  Best layer,\n"
            "                         0 ·           1 ·         l2 ·\n"
            "model             activation    activation   activation\n"
            "--------------  ------------  ------------  -----------\n"
            "mamba2, silu           4.125         5.125        6.125\n"
            "mamba2, silu,          4.125         5.125        6.125\n"
            "standard\n"
            "initialisation\n"
            "seed 1\n");
}

TEST(ReportTable, IsWholeWhereThereIsRoom) {
  EXPECT_EQ(report_table(wide_report(), 500), report_table(wide_report()));
  EXPECT_EQ(lines_of(report_table(wide_report())).size(), 5u);
}

}  // namespace
}  // namespace exactmamba::eval
