// The comparison table for a terminal, and report.md.
#include <algorithm>
#include <limits>
#include <sstream>

#include <fmt/format.h>

#include "core/markdown.h"
#include "core/utf8.h"
#include "eval/report.h"
#include "eval/report/columns.h"

namespace exactmamba::eval {

using core::Json;

namespace {

using Lines = std::vector<std::string>;
using Table = std::vector<Lines>;  // first row: headings; first column: labels

const std::string kGap = "  ";
constexpr size_t kNoLimit = std::numeric_limits<size_t>::max();

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

/// Words of `text` in lines of at most `width` characters; longer words have lines of their own.
Lines wrapped(const std::string& text, size_t width) {
  if (core::count_characters(text) <= width) return {text};
  Lines lines;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const bool fits =
        !lines.empty() && core::count_characters(lines.back()) + 1 + core::count_characters(word) <= width;
    if (fits)
      lines.back() += " " + word;
    else
      lines.push_back(word);
  }
  return lines;
}

std::string padded(const std::string& text, size_t width, bool left) {
  const std::string space(width - std::min(width, core::count_characters(text)), ' ');
  return left ? text + space : space + text;
}

/// Widths of the columns when cells are wrapped to `cell` characters, labels to `label`.
std::vector<size_t> widths_of(const Table& table, size_t label, size_t cell) {
  std::vector<size_t> widths(table[0].size(), 0);
  for (const Lines& row : table) {
    for (size_t k = 0; k < row.size(); ++k) {
      for (const std::string& line : wrapped(row[k], k == 0 ? label : cell))
        widths[k] = std::max(widths[k], core::count_characters(line));
    }
  }
  return widths;
}

/// The columns in blocks of at most `width` characters, each with the labels in front.
std::vector<std::vector<size_t>> blocks_of(const std::vector<size_t>& widths, size_t width) {
  std::vector<std::vector<size_t>> blocks(1, {0});
  size_t used = widths[0];
  for (size_t k = 1; k < widths.size(); ++k) {
    if (blocks.back().size() > 1 && used + kGap.size() + widths[k] > width) {
      blocks.push_back({0});
      used = widths[0];
    }
    blocks.back().push_back(k);
    used += kGap.size() + widths[k];
  }
  return blocks;
}

/// Cells of one row beside each other; those of fewer lines stand at the top, headings at the bottom.
std::string row_text(const Lines& row, const std::vector<size_t>& block, const std::vector<size_t>& widths,
                     bool heading) {
  std::vector<Lines> cells;
  size_t height = 0;
  for (const size_t k : block) {
    cells.push_back(wrapped(row[k], widths[k]));
    height = std::max(height, cells.back().size());
  }
  std::string out;
  for (size_t h = 0; h < height; ++h) {
    std::string text;
    for (size_t i = 0; i < block.size(); ++i) {
      const size_t line = heading ? h + cells[i].size() - height : h;  // beyond the last: none
      text += (i > 0 ? kGap : "") +
              padded(line < cells[i].size() ? cells[i][line] : "", widths[block[i]], i == 0);
    }
    out += text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

std::string block_text(const Table& table, const std::vector<size_t>& block,
                       const std::vector<size_t>& widths) {
  std::string out = row_text(table[0], block, widths, true);
  for (const size_t k : block) out += (k > 0 ? kGap : "") + std::string(widths[k], '-');
  out += "\n";
  for (size_t line = 1; line < table.size(); ++line) out += row_text(table[line], block, widths, false);
  return out;
}

/// What the numbers of the table are, from the provenance: "decomposition dtype float32 · approximation error
/// l2_mean".
std::string note(const Json& report) {
  const std::vector<Column> columns = columns_of(report);
  const bool shows_comet = std::any_of(columns.begin(), columns.end(),
                                       [](const Column& column) { return column.key.starts_with("comet"); });
  std::string text;
  const Json provenance = report.value("provenance", Json::object());
  for (const auto& [name, value] : provenance.items()) {
    if (name == "program" || name == "LibTorch" || !value.is_string()) continue;
    if (name == "COMET" && !shows_comet) continue;
    text += (text.empty() ? "" : " · ") + name + " " + value.get<std::string>();
  }
  return text;
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

std::string report_table(const Json& report, size_t width) {
  constexpr size_t kLeast = 12;  // characters to which headings and labels are wrapped at most
  const Table table = table_of(report);
  std::vector<size_t> widths = widths_of(table, kNoLimit, kNoLimit);
  if (blocks_of(widths, width).size() > 1) widths = widths_of(table, std::max(width / 3, kLeast), kLeast);
  std::string out;
  for (const std::vector<size_t>& block : blocks_of(widths, width))
    out += (out.empty() ? "" : "\n") + block_text(table, block, widths);
  const std::string text = note(report);
  if (text.empty()) return out;
  for (const std::string& line : wrapped(text, width)) out += line + "\n";
  return out;
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
  const auto has_curves = [](const Json& row) { return row.contains("curves"); };
  if (std::any_of(report["rows"].begin(), report["rows"].end(), has_curves))
    out += "\nCurves of the training are in report.html, their numbers in report.json.\n";
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
