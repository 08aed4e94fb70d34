// Results that are a line an item (a segment, a sentence pair), and work on them that goes on where it was
// stopped.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace exactmamba::eval {

/// Each with its end.
std::string lines_text(const std::vector<std::string>& lines);
/// @throws IoError, InputError for lines that are not UTF-8
std::vector<std::string> read_lines(const std::filesystem::path& file);

/// The lines of the items [begin, end).
using LineWork = std::function<std::vector<std::string>(size_t begin, size_t end)>;

/// Those of all `total` items, made `part` items at a time and kept in `folder`, a file a part; the parts
/// that an interrupted attempt left there are read. The folder belongs to one setting of the work, and is the
/// caller's to remove; "": nothing is kept. @throws IoError, and as `work`
std::vector<std::string> lines_by_parts(const std::filesystem::path& folder, size_t total, size_t part,
                                        const LineWork& work);

}  // namespace exactmamba::eval
