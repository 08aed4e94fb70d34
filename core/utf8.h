// UTF-8: is it valid, which characters does it hold, and what to do where it is not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace exactmamba::core {

/// Offset of the first byte that is no valid UTF-8 (Unicode 15, table 3-7: no overlong forms, surrogates or
/// values above U+10FFFF); nothing when all is well.
std::optional<size_t> find_invalid_utf8(std::string_view text);

/// @throws InputError that names the first wrong byte
void require_utf8(std::string_view text);

/// With U+FFFD for every maximal part that no valid text begins with (Unicode 15, section 3.9), as Python's
/// "replace" does.
std::string replace_invalid_utf8(std::string_view text);

/// Where the first byte beyond ASCII is, from `at` on; text.size() when there is none.
size_t find_beyond_ascii(std::string_view text, size_t at);

/// Bytes at the end of `text` that begin a character which is not there in full: 0 to 3.
size_t unfinished_bytes(std::string_view text);

/// The code point that begins at `at` in valid UTF-8; `at` moves behind it.
char32_t next_code_point(std::string_view text, size_t& at);
void append_utf8(std::string& text, char32_t code_point);

/// Bytes of the character of valid UTF-8 that this one begins.
inline size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// Code points of valid UTF-8: characters on a terminal, but for wide and combining ones.
size_t count_characters(std::string_view text);
/// The first `count` of them.
std::string_view first_characters(std::string_view text, size_t count);

}  // namespace exactmamba::core
