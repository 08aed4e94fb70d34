#include "eval/report/columns.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include <fmt/format.h>

namespace exactmamba::eval {

using core::Json;

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

Json published_in(const Json& row) { return row.value("published", Json::object()); }

/// `column`, behind what is published of it, if something is.
void add_column(std::vector<Column>& columns, Column column, const Json& report) {
  const Json& rows = report["rows"];
  const bool is_published = std::any_of(
      rows.begin(), rows.end(), [&](const Json& row) { return published_in(row).contains(column.key); });
  if (is_published) {
    Column published = column;
    published.published = true;
    published.title += ", published";
    published.better = "";
    published.help = "As it is published; it was measured on other runs.";
    columns.push_back(published);
    column.title += ", ours";
  }
  columns.push_back(std::move(column));
}

}  // namespace

double Column::value(const Json& row) const {
  if (published) {
    const std::string text = published_in(row).value(key, "");
    return text.empty() ? kNone : std::stod(text);
  }
  const auto found = row["values"].find(key);
  return found == row["values"].end() || !found->is_number() ? kNone : found->get<double>();
}

std::string Column::cell(const Json& row) const {
  if (published) return published_in(row).value(key, "–");
  const double scale = unit == "%" ? 100.0 : 1.0, value = this->value(row) * scale;
  if (std::isnan(value)) return row.value("state", "–");
  const Json half_widths = row.value("half_widths", Json::object());
  if (half_widths.contains(key))
    return fmt::format("{:.{}f} ± {:.{}f}", value, digits, half_widths[key].get<double>() * scale, digits);
  const double smallest = 0.5 * std::pow(10.0, -digits);
  if (value != 0.0 && std::abs(value) < smallest) return fmt::format("{:.1e}", value);
  return fmt::format("{:.{}f}", value, digits);
}

std::vector<Column> columns_of(const Json& report, Which which) {
  std::vector<Column> all, columns;
  for (const Json& json : report["columns"]) {
    all.push_back({json["key"], json["title"], json.value("unit", ""), json.value("better", ""),
                   json.value("help", ""), json.value("digits", 3)});
  }
  const Json shown = report.value("shown", Json::array());
  if (which == Which::kAll || shown.empty()) {
    for (const Column& column : all) add_column(columns, column, report);
  }
  for (size_t k = 0; k < shown.size() && which == Which::kShown; ++k) {
    const auto same = [&](const Column& column) { return column.key == shown[k]; };
    if (const auto column = std::find_if(all.begin(), all.end(), same); column != all.end())
      add_column(columns, *column, report);
  }
  return columns;
}

std::string best_cell(const Json& report, const Column& column) {
  if (column.better.empty()) return "";
  const double sign = column.better == "higher" ? 1 : -1;
  double best = -std::numeric_limits<double>::infinity();
  std::string best_text;
  std::set<std::string> texts;
  for (const Json& row : report["rows"]) {
    const double value = sign * column.value(row);
    if (std::isnan(value)) continue;
    const std::string text = column.cell(row);
    texts.insert(text);
    if (value > best) best_text = text;
    best = std::max(best, value);
  }
  return texts.size() > 1 ? best_text : "";
}

}  // namespace exactmamba::eval
