// report.html: page.html with its {{parts}} filled in. Whatever comes from data is escaped, and the
// Content-Security-Policy lets only the scripts and styles run that carry a nonce derived from the whole
// content, which no token text can know.
#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "core/error.h"
#include "core/hash.h"
#include "eval/report.h"
#include "eval/report/columns.h"
#include "report_page.h"

namespace exactmamba::eval {

using core::Json;

namespace {

std::string html_escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

/// JSON inside a <script> element: no '<' may remain, or "</script>" in a token would end it.
std::string script_json(const Json& json) {
  std::string out;
  for (char c : json.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

std::string heading_html(const Column& column) {
  const std::string unit =
      column.unit.empty() ? "" : fmt::format(" <span class=\"unit\">({})</span>", html_escaped(column.unit));
  return fmt::format("<th scope=\"col\" title=\"{}\">{}{}</th>", html_escaped(column.help),
                     html_escaped(column.title), unit);
}

std::string cell_html(const Column& column, const Json& row, const std::string& best) {
  const double value = column.value(row);
  const std::string text = column.cell(row);
  const char* mark = text == best ? " class=\"best\"" : "";
  return fmt::format("<td data-value=\"{}\"{}>{}</td>",
                     std::isnan(value) ? "NaN" : fmt::format("{:.17g}", value), mark, html_escaped(text));
}

std::string table_html(const Json& report, Which which) {
  const std::vector<Column> columns = columns_of(report, which);
  std::vector<std::string> best;
  std::string out = "<table class=\"sortable\">\n<thead><tr><th scope=\"col\">model</th>";
  for (const Column& column : columns) {
    out += heading_html(column);
    best.push_back(best_cell(report, column));
  }
  out += "</tr></thead>\n<tbody>\n";
  for (const Json& row : report["rows"]) {
    out += fmt::format("<tr><th scope=\"row\">{}</th>", html_escaped(row["label"].get<std::string>()));
    for (size_t k = 0; k < columns.size(); ++k) out += cell_html(columns[k], row, best[k]);
    out += "</tr>\n";
  }
  return out + "</tbody>\n</table>";
}

std::string definitions_html(const std::vector<std::pair<std::string, std::string>>& terms) {
  std::string out = "<dl>";
  for (const auto& [term, text] : terms)
    out += fmt::format("<dt>{}</dt><dd>{}</dd>", html_escaped(term), html_escaped(text));
  return out + "</dl>";
}

std::string legend_html(const Json& report, Which which) {
  std::vector<std::pair<std::string, std::string>> terms;
  for (const Column& column : columns_of(report, which)) {
    if (!column.help.empty()) terms.emplace_back(column.title, column.help);
  }
  return definitions_html(terms);
}

/// Nothing where the table shows them all.
std::string all_columns_html(const Json& report) {
  if (report.value("shown", Json::array()).empty()) return "";
  return fmt::format(
      "<details><summary>All columns</summary><div class=\"scroll\" "
      "tabindex=\"0\">\n{}\n</div>\n{}</details>",
      table_html(report, Which::kAll), legend_html(report, Which::kAll));
}

/// What shading means, where a cell has it.
const char* marks_text(const Json& report) {
  const std::vector<Column> columns = columns_of(report, Which::kAll);
  const bool is_shaded = std::any_of(columns.begin(), columns.end(), [&report](const Column& column) {
    return !best_cell(report, column).empty();
  });
  return is_shaded ? "Shaded: best of its column, unless all look the same. " : "";
}

std::string provenance_html(const Json& report) {
  std::vector<std::pair<std::string, std::string>> terms;
  const Json provenance = report.value("provenance", Json::object());
  for (const auto& [name, value] : provenance.items()) {
    terms.emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return definitions_html(terms);
}

/// One pass over the template, so that "{{…}}" inside a value is never filled in.
std::string filled(std::string_view page, const std::map<std::string, std::string, std::less<>>& parts) {
  std::string out;
  while (true) {
    const size_t open = page.find("{{"), close = page.find("}}", open);
    if (open == std::string_view::npos || close == std::string_view::npos) return out.append(page);
    out.append(page.substr(0, open));
    out += parts.at(std::string(page.substr(open + 2, close - open - 2)));
    page.remove_prefix(close + 2);
  }
}

}  // namespace

std::string report_html(const Json& report) {
  const std::string data = script_json(report);
  return filled(kPage_html, {{"title", html_escaped(report.value("title", "Report"))},
                             {"program", html_escaped(report.value("program", "exactmamba"))},
                             {"css", kPage_css},
                             {"js", kPage_js},
                             {"table", table_html(report, Which::kShown)},
                             {"all_columns", all_columns_html(report)},
                             {"marks", marks_text(report)},
                             {"legend", legend_html(report, Which::kShown)},
                             {"provenance", provenance_html(report)},
                             {"recipe", html_escaped(report.value("recipe", ""))},
                             {"data", data},
                             {"nonce", core::hash_hex(data)}});
}

}  // namespace exactmamba::eval
