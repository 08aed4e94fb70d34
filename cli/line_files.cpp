#include "cli/line_files.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "data/byte_source.h"
#include "eval/line_files.h"
#include "eval/text/characters.h"

namespace exactmamba::cli {

LineFile read_lines(const std::string& file) {
  LineFile result{.name = file == data::kStdin ? "stdin" : file, .lines = eval::read_lines(file)};
  for (std::string& line : result.lines)
    line = eval::utf8_of(eval::without_trailing_space(eval::code_points(line)));
  core::require(!result.lines.empty(), "{}: there is no line in it", result.name);
  if (result.lines.front().starts_with("\uFEFF"))
    core::log_warning(
        result.name +
        ": begins with a byte order mark, which is a character of its first line, as with sacreBLEU");
  return result;
}

void require_as_many(const LineFile& a, const LineFile& b) {
  core::require(a.lines.size() == b.lines.size(),
                "{} has {} lines, but {} has {}; line by line they must be the same segments", a.name,
                a.lines.size(), b.name, b.lines.size());
}

void refuse_two_from_stdin(const std::vector<std::string>& files) {
  core::require<core::UsageError>(std::count(files.begin(), files.end(), data::kStdin) <= 1,
                                  "only one of the files can be stdin; give the others by name");
}

}  // namespace exactmamba::cli
