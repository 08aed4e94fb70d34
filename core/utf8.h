// Is this UTF-8?
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace exactmamba::core {

/// Offset of the first byte that is no valid UTF-8 (Unicode 15, table 3-7: no overlong forms, surrogates or
/// values above U+10FFFF); nothing when all is well.
std::optional<size_t> find_invalid_utf8(std::string_view text);

/// Code points of valid UTF-8: characters on a terminal, but for wide and combining ones.
size_t count_characters(std::string_view text);
/// The first `count` of them.
std::string_view first_characters(std::string_view text, size_t count);

}  // namespace exactmamba::core
