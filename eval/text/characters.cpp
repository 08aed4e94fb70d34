#include "eval/text/characters.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "core/utf8.h"

namespace exactmamba::eval {
namespace {

// kCased: and not case-ignorable, as nothing asks about those that are both.
enum Class : uint8_t { kPunctuation = 1, kSymbol = 2, kNumber = 4, kCased = 8, kCaseIgnorable = 16 };

struct ClassRange {
  char32_t first, last;
  uint8_t classes;
};
constexpr ClassRange kClassRanges[] = {
#include "eval/text/character_classes.inc"
};

/// Every `step`th character from `first` to `last` is an upper-case one; `shift` leads to its lower case.
struct LowerRange {
  char32_t first, last;
  int step, shift;
};
constexpr LowerRange kLowerRanges[] = {
#include "eval/text/lower_case.inc"
};

constexpr size_t kCodePoints = 0x110000;
constexpr char32_t kSigma = U'Σ', kSmallSigma = U'σ', kFinalSigma = U'ς';
constexpr char32_t kDottedI = U'İ', kDotAbove = U'\u0307';

bool has(char32_t c, uint8_t classes) {
  static const std::vector<uint8_t> table = [] {
    std::vector<uint8_t> all(kCodePoints, 0);
    for (const ClassRange& range : kClassRanges)
      std::fill(all.begin() + range.first, all.begin() + range.last + 1, range.classes);
    return all;
  }();
  return (table[c] & classes) != 0;
}

char32_t lower(char32_t c) {
  const auto* range = std::lower_bound(std::begin(kLowerRanges), std::end(kLowerRanges), c,
                                       [](const LowerRange& r, char32_t value) { return r.last < value; });
  if (range == std::end(kLowerRanges) || c < range->first) return c;
  const bool upper = (c - range->first) % static_cast<char32_t>(range->step) == 0;
  return upper ? static_cast<char32_t>(static_cast<int32_t>(c) + range->shift) : c;
}

/// Unicode's Final_Sigma: what follows the characters that have no say in it decides.
bool ends_word(std::u32string_view text, size_t at) {
  const auto ignorable = [](char32_t c) { return has(c, kCaseIgnorable); };
  const std::u32string_view before = text.substr(0, at), after = text.substr(at + 1);
  const auto previous = std::find_if_not(before.rbegin(), before.rend(), ignorable);
  if (previous == before.rend() || !has(*previous, kCased)) return false;
  const auto next = std::find_if_not(after.begin(), after.end(), ignorable);
  return next == after.end() || !has(*next, kCased);
}

}  // namespace

bool is_punctuation(char32_t c) { return has(c, kPunctuation); }
bool is_symbol(char32_t c) { return has(c, kSymbol); }
bool is_number(char32_t c) { return has(c, kNumber); }

bool is_white_space(char32_t c) {
  if (c <= U' ') return (c >= U'\t' && c <= U'\r') || c >= U'\x1C';
  return c == U'\x85' || c == U'\xA0' || c == U'\u1680' || (c >= U'\u2000' && c <= U'\u200A') ||
         c == U'\u2028' || c == U'\u2029' || c == U'\u202F' || c == U'\u205F' || c == U'\u3000';
}

std::u32string code_points(std::string_view text) {
  std::u32string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) result.push_back(core::next_code_point(text, at));
  return result;
}

std::string utf8_of(std::u32string_view text) {
  std::string result;
  for (const char32_t c : text) core::append_utf8(result, c);
  return result;
}

std::u32string lower_case(std::u32string_view text) {
  std::u32string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == kSigma) {
      result.push_back(ends_word(text, i) ? kFinalSigma : kSmallSigma);
    } else if (text[i] == kDottedI) {
      result += {U'i', kDotAbove};
    } else {
      result.push_back(lower(text[i]));
    }
  }
  return result;
}

std::u32string_view without_trailing_space(std::u32string_view text) {
  while (!text.empty() && is_white_space(text.back())) text.remove_suffix(1);
  return text;
}

std::vector<std::u32string_view> words_of(std::u32string_view text) {
  std::vector<std::u32string_view> words;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    while (end < text.size() && !is_white_space(text[end])) ++end;
    if (end > begin) words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

std::u32string with_single_spaces(std::u32string_view text) {
  std::u32string result;
  result.reserve(text.size());
  for (const std::u32string_view word : words_of(text)) {
    if (!result.empty()) result.push_back(U' ');
    result += word;
  }
  return result;
}

}  // namespace exactmamba::eval
