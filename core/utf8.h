// Is this UTF-8?
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace exactmamba::core {

/// Offset of the first byte that is no valid UTF-8 (Unicode 15, table 3-7: no overlong forms, surrogates or
/// values above U+10FFFF); nothing when all is well.
std::optional<size_t> find_invalid_utf8(std::string_view text);

}  // namespace exactmamba::core
