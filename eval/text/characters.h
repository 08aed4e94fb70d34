// Characters as sacreBLEU's libraries see them: \p{P}, \p{S} and \p{N} of Python's `regex` (2026.11), white
// space and lower case of Python 3.11 (Unicode 14). From tables of ours, so that no library's own version of
// Unicode decides about a score.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace exactmamba::eval {

bool is_punctuation(char32_t c);
bool is_symbol(char32_t c);
bool is_number(char32_t c);
bool is_white_space(char32_t c);  // where str.split divides; U+200B and U+FEFF do not

/// Of valid UTF-8.
std::u32string code_points(std::string_view text);
std::string utf8_of(std::u32string_view text);

/// str.lower: İ becomes two characters, a Σ that ends a word becomes ς.
std::u32string lower_case(std::u32string_view text);
/// str.rstrip
std::u32string_view without_trailing_space(std::u32string_view text);
/// str.split; the views are of `text`.
std::vector<std::u32string_view> words_of(std::u32string_view text);
/// " ".join(text.split())
std::u32string with_single_spaces(std::u32string_view text);

}  // namespace exactmamba::eval
