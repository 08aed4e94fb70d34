// The comparison table for a terminal, and report.md.
#include <algorithm>

#include <fmt/format.h>

#include "core/markdown.h"
#include "eval/report.h"
#include "eval/report/columns.h"

namespace exactmamba::eval {

using core::Json;

namespace {

using Table = std::vector<std::vector<std::string>>;  // first line: headings

Table table_of(const Json& report) {
  const std::vector<Column> columns = columns_of(report);
  Table table(1, {"model"});
  for (const Column& column : columns) table[0].push_back(column.heading());
  for (const Json& row : report["rows"]) {
    std::vector<std::string> line = {row["label"].get<std::string>()};
    for (const Column& column : columns) line.push_back(column.cell(row));
    table.push_back(std::move(line));
  }
  return table;
}

size_t code_points(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, size_t width, bool left) {
  const std::string space(width - std::min(width, code_points(text)), ' ');
  return left ? text + space : space + text;
}

std::vector<size_t> widths_of(const Table& table) {
  std::vector<size_t> widths(table[0].size(), 0);
  for (const auto& line : table) {
    for (size_t k = 0; k < line.size(); ++k) widths[k] = std::max(widths[k], code_points(line[k]));
  }
  return widths;
}

/// What the numbers of the table are, from the provenance: "decomposition dtype float32 · approximation error
/// l2_mean".
std::string note(const Json& report) {
  std::string text;
  const Json provenance = report.value("provenance", Json::object());
  for (const auto& [name, value] : provenance.items()) {
    if (name == "program" || name == "LibTorch" || !value.is_string()) continue;
    text += (text.empty() ? "" : " · ") + name + " " + value.get<std::string>();
  }
  return text.empty() ? "" : text + "\n";
}

std::string markdown_escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '\n') c = ' ';
    if (std::string_view("\\|`*_<>[]#&").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

/// Every number per layer: a line for each model and series.
std::string layer_markdown(const Json& report) {
  std::string lines;
  size_t depth = 0;
  for (const Json& row : report["rows"]) {
    const Json layers = row.value("layers", Json::object());
    for (const auto& [measure, all_series] : layers.items()) {
      for (const auto& [name, values] : all_series.items()) {
        depth = std::max(depth, values.size());
        lines += fmt::format("| {} | {}, {} |", markdown_escaped(row["label"].get<std::string>()),
                             markdown_escaped(measure), markdown_escaped(name));
        for (const Json& value : values)
          lines += value.is_number() ? fmt::format(" {:.4g} |", value.get<double>()) : " – |";
        lines += "\n";
      }
    }
  }
  if (lines.empty()) return "";
  std::string head = "| model | measure |", rule = "|---|---|";
  for (size_t layer = 0; layer < depth; ++layer) {
    head += fmt::format(" layer {} |", layer);
    rule += "--:|";
  }
  return fmt::format("\n## Layer by layer\n\n{}\n{}\n{}", head, rule, lines);
}

}  // namespace

std::string report_table(const Json& report) {
  const Table table = table_of(report);
  const std::vector<size_t> widths = widths_of(table);
  std::string out;
  for (size_t line = 0; line < table.size(); ++line) {
    std::string text;
    for (size_t k = 0; k < widths.size(); ++k)
      text += (k ? "  " : "") + padded(table[line][k], widths[k], k == 0);
    out += text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
    if (line == 0) {
      for (size_t k = 0; k < widths.size(); ++k) out += (k ? "  " : "") + std::string(widths[k], '-');
      out += "\n";
    }
  }
  return out + note(report);
}

std::string report_markdown(const Json& report) {
  std::string out = fmt::format("# {}\n\n", markdown_escaped(report.value("title", "Report")));
  const Table table = table_of(report);
  for (size_t line = 0; line < table.size(); ++line) {
    for (const std::string& cell : table[line]) out += "| " + markdown_escaped(cell) + " ";
    out += "|\n";
    if (line == 0) {
      for (size_t k = 0; k < table[0].size(); ++k) out += k ? "|--:" : "|---";
      out += "|\n";
    }
  }
  out += "\n";
  for (const Column& column : columns_of(report)) {
    if (!column.help.empty())
      out += fmt::format("- **{}**: {}\n", markdown_escaped(column.title), markdown_escaped(column.help));
  }
  out += layer_markdown(report);
  out += "\n## How it was made\n\n";
  const Json provenance = report.value("provenance", Json::object());
  for (const auto& [name, value] : provenance.items()) {
    out += fmt::format("- {}: {}\n", markdown_escaped(name),
                       markdown_escaped(value.is_string() ? value.get<std::string>() : value.dump()));
  }
  if (report.contains("recipe"))
    out += "\n" + core::fenced_block(report["recipe"].get<std::string>(), "toml");
  return out;
}

}  // namespace exactmamba::eval
