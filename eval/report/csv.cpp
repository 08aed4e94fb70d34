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

Json half_widths(const Json& row) { return row.value("half_widths", Json::object()); }

}  // namespace

std::string report_csv(const Json& report) {
  const Json& rows = report["rows"];
  std::string out = "model";
  std::vector<std::string> keys, with_intervals;
  for (const Column& column : columns_of(report)) {
    keys.push_back(column.key);
    out += "," + quoted(column.key);
    const auto has_interval = [&](const Json& row) { return half_widths(row).contains(column.key); };
    if (std::none_of(rows.begin(), rows.end(), has_interval)) continue;
    with_intervals.push_back(column.key);
    out += "," + quoted(column.key + ".half_width");
  }
  out += "\r\n";
  for (const Json& row : rows) {
    out += quoted(row["label"].get<std::string>());
    for (const std::string& key : keys) {
      out += "," + number(row["values"], key);
      const bool interval =
          std::find(with_intervals.begin(), with_intervals.end(), key) != with_intervals.end();
      if (interval) out += "," + number(half_widths(row), key);
    }
    out += "\r\n";
  }
  return out;
}

}  // namespace exactmamba::eval
