// report.csv: the comparison table for spreadsheets and scripts, as RFC 4180 has it.
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

}  // namespace

std::string report_csv(const Json& report) {
  const std::vector<Column> columns = columns_of(report);
  std::string out = "model";
  for (const Column& column : columns) out += "," + quoted(column.key);
  out += "\r\n";
  for (const Json& row : report["rows"]) {
    out += quoted(row["label"].get<std::string>());
    for (const Column& column : columns) {
      const Json value = row["values"].value(column.key, Json());
      out += value.is_number() ? fmt::format(",{}", value.get<double>()) : ",";
    }
    out += "\r\n";
  }
  return out;
}

}  // namespace exactmamba::eval
