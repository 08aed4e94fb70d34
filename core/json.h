// JSON through nlohmann-json, with the refusals that untrusted files need.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace exactmamba::core {

using Json = nlohmann::ordered_json;

enum class BareWords { kRead, kRefused };

/// Parses `text`; `where` (a file name) leads every error message, with line and column. Refused: depth above
/// `max_depth`, duplicate keys, trailing text, invalid UTF-8. The bare words Infinity, -Infinity and NaN
/// (transformers 4.x) are read as the spelling of transformers 5.x: {"__float__": "Infinity"}, or refused as
/// JSON says. `first_line`: where `text` begins in its file, for formats with an object a line.
/// @throws InputError
Json parse_json(std::string_view text, const std::string& where, int max_depth = 64,
                std::ptrdiff_t first_line = 1, BareWords bare_words = BareWords::kRead);

/// @throws IoError when unreadable, InputError when malformed.
Json read_json(const std::filesystem::path& file);

/// One line, or indented by `indent` blanks. Infinities and NaN are spelled {"__float__": …}. @throws
/// InputError (invalid UTF-8)
std::string json_text(const Json& value, int indent = -1);

/// Writes to a temporary file beside `file`, fsyncs, renames. Two-space indentation, final newline.
void write_json(const std::filesystem::path& file, const Json& value);

/// number, or {"__float__": "Infinity" | "-Infinity" | "NaN"}. @throws InputError naming `where`.
double json_number(const Json& value, const std::string& where);

/// Line and column (in characters), both from 1, of a byte of UTF-8 text.
struct TextPosition {
  std::ptrdiff_t line, column;
};
TextPosition text_position(std::string_view text, size_t byte);

/// Foreign text for an error message: one short line, bytes other than printable ASCII as \xNN.
std::string printable(std::string_view text);

}  // namespace exactmamba::core
