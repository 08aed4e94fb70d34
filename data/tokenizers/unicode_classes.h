// Letter, number, white space or other, as Hugging Face's tokenizers 0.23 takes \p{L}, \p{N} and \s (Unicode
// 16): from a table of ours, so that no library's own version of Unicode decides where words end.
#pragma once

#include <cstddef>
#include <cstdint>

namespace exactmamba::data {

inline constexpr size_t kCodePoints = 0x110000;  // U+0000 to U+10FFFF

enum class CharacterClass : uint8_t { kLetter, kNumber, kSpace, kOther };

CharacterClass character_class(char32_t code_point);  // up to U+10FFFF

}  // namespace exactmamba::data
