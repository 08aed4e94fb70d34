#include "eval/line_files.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/files.h"
#include "data/line_reader.h"

namespace exactmamba::eval {
namespace {

/// What an interrupted attempt left of a part; none where it did not finish it.
std::vector<std::string> kept_part(const std::filesystem::path& file, size_t items) {
  if (!std::filesystem::exists(file)) return {};
  std::vector<std::string> lines = read_lines(file);
  return lines.size() == items ? lines : std::vector<std::string>();
}

}  // namespace

std::string lines_text(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

std::vector<std::string> read_lines(const std::filesystem::path& file) {
  std::vector<std::string> lines;
  data::LineReader reader(file, data::OnInvalidUtf8::kRefuse, data::kLongestLine, data::ByteOrderMark::kKeep);
  for (std::string line; reader.next(line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> lines_by_parts(const std::filesystem::path& folder, size_t total, size_t part,
                                        const LineWork& work) {
  if (!folder.empty()) std::filesystem::create_directories(folder);
  std::vector<std::string> all;
  for (size_t begin = 0; begin < total; begin += part) {
    const size_t end = std::min(begin + part, total);
    const std::filesystem::path file = folder / fmt::format("{:08}.txt", begin);
    std::vector<std::string> lines =
        folder.empty() ? std::vector<std::string>() : kept_part(file, end - begin);
    if (lines.empty()) {
      lines = work(begin, end);
      if (!folder.empty()) core::write_file(file, lines_text(lines));
    }
    all.insert(all.end(), lines.begin(), lines.end());
  }
  return all;
}

}  // namespace exactmamba::eval
