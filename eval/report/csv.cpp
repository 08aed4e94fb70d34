// report.csv: the comparison table for spreadsheets and scripts, as RFC 4180 has it.
#include <algorithm>

#include <fmt/format.h>

#include "eval/report.h"
#include "eval/report/columns.h"

namespace exactmamba::eval {

using core::Json;

namespace {

std::string quoted(const std::string& text) {
  if (text.find_first_of("\",\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

/// Of `object`, nothing where it has none.
std::string number(const Json& object, const std::string& key) {
  const Json value = object.value(key, Json());
  return value.is_number() ? fmt::format("{}", value.get<double>()) : "";
}

std::string cell(const Json& row, const Column& column) {
  if (column.published) return row.value("published", Json::object()).value(column.key, "");
  const std::string text = number(row["values"], column.key);
  return text.empty() ? row.value("state", "") : text;
}

Json half_widths(const Json& row) { return row.value("half_widths", Json::object()); }

}  // namespace

std::string report_csv(const Json& report) {
  const Json& rows = report["rows"];
  std::string head = "model";
  std::vector<std::string> lines;
  for (const Json& row : rows) lines.push_back(quoted(row["label"].get<std::string>()));
  for (const Column& column : columns_of(report)) {
    head += "," + quoted(column.published ? column.key + ".published" : column.key);
    for (size_t k = 0; k < rows.size(); ++k) lines[k] += "," + quoted(cell(rows[k], column));
    const auto has_interval = [&](const Json& row) { return half_widths(row).contains(column.key); };
    if (column.published || std::none_of(rows.begin(), rows.end(), has_interval)) continue;
    head += "," + quoted(column.key + ".half_width");
    for (size_t k = 0; k < rows.size(); ++k) lines[k] += "," + number(half_widths(rows[k]), column.key);
  }
  std::string out = head + "\r\n";
  for (const std::string& line : lines) out += line + "\r\n";
  return out;
}

}  // namespace exactmamba::eval
