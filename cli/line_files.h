// Segments for commands that score translations: files that belong together line by line.
#pragma once

#include <string>
#include <vector>

namespace exactmamba::cli {

struct LineFile {
  std::string name;
  std::vector<std::string> lines;
};

/// As sacreBLEU reads them: without the white space at their ends, but with a byte order mark. @throws
/// IoError, InputError, also when there is none
LineFile read_lines(const std::string& file);

/// @throws InputError when they have different numbers of lines
void require_as_many(const LineFile& a, const LineFile& b);

/// @throws UsageError when two of `files` are stdin
void refuse_two_from_stdin(const std::vector<std::string>& files);

}  // namespace exactmamba::cli
