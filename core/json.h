// JSON through nlohmann-json, with the refusals that untrusted files need.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace exactmamba::core {

using Json = nlohmann::ordered_json;

/// Parses `text`; `where` (a file name) leads every error message, with line and column. Refused: depth above
/// `max_depth`, duplicate keys, trailing text, invalid UTF-8. The bare words Infinity, -Infinity and NaN (transformers 4.x) are
/// read as the spelling of transformers 5.x: {"__float__": "Infinity"}.
/// @throws InputError
Json parse_json(std::string_view text, const std::string& where, int max_depth = 64);

/// @throws IoError when unreadable, InputError when malformed.
Json read_json(const std::filesystem::path& file);

/// Writes to a temporary file beside `file`, fsyncs, renames. Two-space indentation, final newline.
void write_json(const std::filesystem::path& file, const Json& value);

/// number, or {"__float__": "Infinity" | "-Infinity" | "NaN"}. @throws InputError naming `where`.
double json_number(const Json& value, const std::string& where);

}  // namespace exactmamba::core
