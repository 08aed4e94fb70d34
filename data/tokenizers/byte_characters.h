// GPT-2's way to write bytes as characters: printable ones stand for themselves, the others for U+0100 and up
// (a space is "Ġ"). A byte-level vocabulary is written in them.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace exactmamba::data {

/// [byte], in UTF-8.
const std::array<std::string, 256>& byte_characters();

/// The bytes that such characters stand for; nothing when `token` (valid UTF-8) has another character.
std::optional<std::string> bytes_of(std::string_view token);

}  // namespace exactmamba::data
