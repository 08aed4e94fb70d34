#include "eval/report/columns.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include <fmt/format.h>

namespace exactmamba::eval {

using core::Json;

double value_of(const Json& row, const std::string& key) {
  const auto value = row["values"].find(key);
  if (value == row["values"].end() || !value->is_number()) return std::numeric_limits<double>::quiet_NaN();
  return value->get<double>();
}

std::string Column::cell(const Json& row) const {
  const double scale = unit == "%" ? 100.0 : 1.0, value = value_of(row, key) * scale;
  if (std::isnan(value)) return "–";
  const Json half_widths = row.value("half_widths", Json::object());
  if (half_widths.contains(key))
    return fmt::format("{:.{}f} ± {:.{}f}", value, digits, half_widths[key].get<double>() * scale, digits);
  const double smallest = 0.5 * std::pow(10.0, -digits);
  if (value != 0.0 && std::abs(value) < smallest) return fmt::format("{:.1e}", value);
  return fmt::format("{:.{}f}", value, digits);
}

std::vector<Column> columns_of(const Json& report) {
  std::vector<Column> columns;
  for (const Json& json : report["columns"]) {
    columns.push_back({json["key"], json["title"], json.value("unit", ""), json.value("better", ""),
                       json.value("help", ""), json.value("digits", 3)});
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
    const double value = sign * value_of(row, column.key);
    if (std::isnan(value)) continue;
    const std::string text = column.cell(row);
    texts.insert(text);
    if (value > best) best_text = text;
    best = std::max(best, value);
  }
  return texts.size() > 1 ? best_text : "";
}

}  // namespace exactmamba::eval
