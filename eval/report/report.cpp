#include "eval/report.h"

#include "core/error.h"
#include "core/files.h"
#include "core/version.h"

namespace exactmamba::eval {

using core::Json;
using core::require;

namespace {

constexpr const char* kReport = "report.json";

void check_map(const Json& map, const std::string& where) {
  for (const char* key : {"title", "rows", "columns", "values"}) {
    require(map.contains(key), "{}: a map lacks '{}'", where, key);
  }
  require(map["values"].size() == map["rows"].size(), "{}: map '{}' has {} rows of values but {} row labels",
          where, map["title"].get<std::string>(), map["values"].size(), map["rows"].size());
  for (const Json& line : map["values"]) {
    require(line.size() == map["columns"].size(), "{}: map '{}' has a row of {} values but {} column labels",
            where, map["title"].get<std::string>(), line.size(), map["columns"].size());
  }
}

void check_row(const Json& row, const std::string& where) {
  require(row.is_object() && row.contains("label") && row["label"].is_string(), "{}: a row lacks its 'label'",
          where);
  require(row.contains("values") && row["values"].is_object(), "{}: row '{}' lacks 'values'", where,
          row["label"].get<std::string>());
  for (const char* key : {"maps", "alignments"})
    for (const Json& map : row.value(key, Json::array())) check_map(map, where);
}

}  // namespace

void check_report(const Json& report, const std::string& where) {
  require(report.is_object(), "{}: a report is a JSON object", where);
  const int version = report.value("format_version", 0);
  require(version >= 1, "{}: no report (it has no 'format_version')", where);
  require(version <= core::kFormatVersion,
          "{}: report of format_version {}, but this program reads up to {}; use a newer exactmamba", where,
          version, core::kFormatVersion);
  for (const char* key : {"columns", "rows"}) {
    require(report.contains(key) && report[key].is_array(), "{}: the report lacks the list '{}'", where, key);
  }
  for (const Json& column : report["columns"]) {
    require(column.is_object() && column.contains("key") && column.contains("title"),
            "{}: a column lacks 'key' or 'title'", where);
  }
  for (const Json& row : report["rows"]) check_row(row, where);
}

void refuse_newer_report(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / kReport;
  if (!std::filesystem::is_regular_file(file)) return;
  Json there;
  try {
    there = core::read_json(file);
  } catch (const core::InputError&) {
    return;  // damaged: written anew
  }
  const Json version = there.is_object() ? there.value("format_version", Json()) : Json();
  require(!version.is_number_integer() || version.get<int64_t>() <= core::kFormatVersion,
          "{}: has format_version {}, but this program writes {}; use a newer exactmamba, or move it away",
          file.string(), version.dump(), core::kFormatVersion);
}

void write_report(const std::filesystem::path& folder, const Json& report) {
  check_report(report, (folder / kReport).string());
  refuse_newer_report(folder);
  core::write_json(folder / kReport, report);
  core::write_file(folder / "report.md", report_markdown(report));
  core::write_file(folder / "report.csv", report_csv(report));
  core::write_file(folder / "report.tex", report_latex(report));
  core::write_file(folder / "report.html", report_html(report));
}

}  // namespace exactmamba::eval
