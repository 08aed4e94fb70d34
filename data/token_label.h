// How tokens are shown in maps and messages.
#pragma once

#include <string>
#include <string_view>

namespace exactmamba::data {

/// The bytes of a token in printable UTF-8: "␣" for a space, "\n", "\t", "<0xE9>" for other control
/// characters and for bytes that are no whole character.
std::string token_label(std::string_view bytes);

}  // namespace exactmamba::data
