// report.tex: the comparison table for a paper, to be read by \input.
#include <fmt/format.h>

#include "eval/report.h"
#include "eval/report/columns.h"

namespace exactmamba::eval {

using core::Json;

namespace {

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("&%$#_{}").find(c) != std::string_view::npos) {
      out += fmt::format("\\{}", c);
    } else if (c == '~' || c == '^') {
      out += fmt::format("\\{}{{}}", c);
    } else {
      out += c == '\\' ? "\\textbackslash{}" : c == '\n' ? " " : std::string(1, c);
    }
  }
  return out;
}

/// A cell, its hyphens as minus signs.
std::string number(const std::string& cell) {
  std::string out;
  for (const char c : escaped(cell)) out += c == '-' ? "$-$" : std::string(1, c);
  return out;
}

}  // namespace

std::string report_latex(const Json& report) {
  const std::vector<Column> columns = columns_of(report);
  std::string out =
      fmt::format("% {}; needs \\usepackage{{booktabs}}\n", escaped(report.value("title", "Report")));
  out += fmt::format("\\begin{{tabular}}{{l{}}}\n\\toprule\nmodel", std::string(columns.size(), 'r'));
  for (const Column& column : columns) out += " & " + escaped(column.heading());
  out += " \\\\\n\\midrule\n";
  for (const Json& row : report["rows"]) {
    out += escaped(row["label"].get<std::string>());
    for (const Column& column : columns) {
      const std::string cell = column.cell(row);
      out += cell == best_cell(report, column) ? fmt::format(" & \\textbf{{{}}}", number(cell))
                                               : " & " + number(cell);
    }
    out += " \\\\\n";
  }
  return out + "\\bottomrule\n\\end{tabular}\n";
}

}  // namespace exactmamba::eval
