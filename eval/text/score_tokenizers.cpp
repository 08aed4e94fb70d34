#include "eval/text/score_tokenizers.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "eval/text/characters.h"

namespace exactmamba::eval {
namespace {

using Text = std::u32string;
using View = std::u32string_view;

bool is_digit(char32_t c) { return c >= U'0' && c <= U'9'; }
bool is_stop(char32_t c) { return c == U'.' || c == U','; }

/// [{-~[-` -&(-+:-@/]: ASCII's signs and the space, but for ' , - .
bool is_sign(char32_t c) {
  return (c >= U'{' && c <= U'~') || (c >= U'[' && c <= U'`') || (c >= U' ' && c <= U'&') ||
         (c >= U'(' && c <= U'+') || (c >= U':' && c <= U'@') || c == U'/';
}

Text replaced(View text, View from, View to) {
  Text result;
  size_t begin = 0;
  for (size_t at = text.find(from); at != View::npos; at = text.find(from, begin)) {
    result.append(text.substr(begin, at - begin)).append(to);
    begin = at + from.size();
  }
  return result.append(text.substr(begin));
}

template <class Apart>
Text with_spaces_around(View text, const Apart& apart) {
  Text result;
  result.reserve(text.size() * 2);
  for (const char32_t c : text) {
    if (apart(c)) {
      result += {U' ', c, U' '};
    } else {
      result.push_back(c);
    }
  }
  return result;
}

template <class Removed>
Text without(View text, const Removed& removed) {
  Text result;
  std::copy_if(text.begin(), text.end(), std::back_inserter(result), [&](char32_t c) { return !removed(c); });
  return result;
}

enum class Space { kBefore, kAfter };

/// re.sub of (first)(second), from left to right: both, with a space between them and one more before or
/// after.
template <class First, class Second>
Text with_pairs_apart(View text, const First& first, const Second& second, Space space) {
  Text result;
  result.reserve(text.size() * 2);
  for (size_t i = 0; i < text.size(); ++i) {
    const char32_t c = text[i];
    if (i + 1 == text.size() || !first(c) || !second(text[i + 1])) {
      result.push_back(c);
      continue;
    }
    const char32_t next = text[++i];
    space == Space::kBefore ? result += {U' ', c, U' ', next} : result += {c, U' ', next, U' '};
  }
  return result;
}

/// What 13a and tercom do with stops and hyphens around digits.
Text with_stops_apart(View text) {
  const auto no_digit = [](char32_t c) { return !is_digit(c); };
  Text result = with_pairs_apart(text, no_digit, is_stop, Space::kAfter);
  result = with_pairs_apart(result, is_stop, no_digit, Space::kBefore);
  return with_pairs_apart(
      result, is_digit, [](char32_t c) { return c == U'-'; }, Space::kAfter);
}

Text without_entities(View text) {
  Text result(text);
  if (result.find(U'&') == Text::npos) return result;
  for (const auto& [entity, sign] :
       {std::pair<View, View>{U"&quot;", U"\""}, {U"&amp;", U"&"}, {U"&lt;", U"<"}, {U"&gt;", U">"}})
    result = replaced(result, entity, sign);
  return result;
}

Text western(View line) { return with_single_spaces(with_stops_apart(with_spaces_around(line, is_sign))); }

Text tokenized_13a(View line) {
  Text text = replaced(replaced(line, U"<skipped>", U""), U"-\n", U"");
  text = without_entities(replaced(text, U"\n", U" "));
  return western(U" " + text + U" ");
}

Text tokenized_international(View line) {
  const auto no_number = [](char32_t c) { return !is_number(c); };
  Text text = with_pairs_apart(line, no_number, is_punctuation, Space::kAfter);
  text = with_pairs_apart(text, is_punctuation, no_number, Space::kBefore);
  return with_single_spaces(with_spaces_around(text, is_symbol));
}

Text tokenized_char(View line) {
  Text result;
  for (const char32_t c : line) {
    if (!result.empty()) result.push_back(U' ');
    result.push_back(c);
  }
  return result;
}

struct Block {
  char32_t first, last;
};

template <size_t n>
bool is_in(const Block (&blocks)[n], char32_t c) {
  return std::any_of(std::begin(blocks), std::end(blocks),
                     [c](const Block& block) { return c >= block.first && c <= block.last; });
}

/// sacreBLEU means U+20000 to U+2A6D6 and U+2F800 to U+2FA1D, but its four-digit escapes leave the two
/// ranges at the end.
constexpr Block kChinese[] = {{0x3400, 0x4DB5}, {0x4E00, 0x9FBB}, {0xF900, 0xFA2D}, {0xFA30, 0xFA6A},
                              {0xFA70, 0xFAD9}, {0xFF00, 0xFFEF}, {0x2E80, 0x2EFF}, {0x3000, 0x303F},
                              {0x31C0, 0x31EF}, {0x2F00, 0x2FDF}, {0x2FF0, 0x2FFF}, {0x3100, 0x312F},
                              {0x31A0, 0x31BF}, {0xFE10, 0xFE1F}, {0xFE30, 0xFE4F}, {0x2600, 0x27BF},
                              {0x3200, 0x33FF}, {0x2001, 0x2A6D}, {0x2F81, 0x2FA1}};

Text tokenized_zh(View line) {
  line = without_trailing_space(line);
  while (!line.empty() && is_white_space(line.front())) line.remove_prefix(1);
  return western(with_spaces_around(line, [](char32_t c) { return is_in(kChinese, c); }));
}

// ---- tercom ----

/// Ideographs and what belongs to them. 3F22 is written there, 32FF is meant.
constexpr Block kAsian[] = {{0x4E00, 0x9FFF}, {0x3400, 0x4DBF}, {0x31C0, 0x31EF}, {0x2E80, 0x2EFF},
                            {0x3300, 0x33FF}, {0xF900, 0xFAFF}, {0xFE30, 0xFE4F}, {0x3200, 0x3F22}};
constexpr Block kAsianPunctuation[] = {{0x3001, 0x3002}, {0x3008, 0x3011}, {0x3014, 0x301F}, {0xFF61, 0xFF65},
                                       {0x30FB, 0x30FB}, {0xFF0E, 0xFF0E}, {0xFF0C, 0xFF0C}, {0xFF1F, 0xFF1F},
                                       {0xFF1A, 0xFF1B}, {0xFF01, 0xFF02}, {0xFF08, 0xFF09}};

bool is_asian_punctuation(char32_t c) { return is_in(kAsianPunctuation, c); }

Text normalized(View line) {
  Text text = without_entities(replaced(replaced(line, U"\n-", U""), U"\n", U" "));
  text = with_spaces_around(U" " + text + U" ", is_sign);
  return with_stops_apart(replaced(text, U"'s ", U" 's "));
}

/// (Rules for kana stand there as well, for lines that hold nothing else: none does, with a space at each
/// end.)
Text asian_apart(View text) {
  return with_spaces_around(text, [](char32_t c) { return is_in(kAsian, c) || is_asian_punctuation(c); });
}

bool is_western_punctuation(char32_t c) { return View(U".,?:;!\"()").find(c) != View::npos; }

}  // namespace

std::u32string bleu_tokenized(std::u32string_view line, BleuTokenizer tokenizer) {
  switch (tokenizer) {
    case BleuTokenizer::k13a:
      return tokenized_13a(line);
    case BleuTokenizer::kInternational:
      return tokenized_international(line);
    case BleuTokenizer::kChar:
      return tokenized_char(line);
    case BleuTokenizer::kZh:
      return tokenized_zh(line);
    case BleuTokenizer::kNone:
      break;
  }
  return Text(line);
}

std::u32string TerTokenizer::operator()(std::u32string_view line) const {
  Text text = case_sensitive ? Text(line) : lower_case(line);
  if (normalized) text = eval::normalized(text);
  if (normalized && asian_support) text = asian_apart(text);
  if (no_punct) text = without(text, is_western_punctuation);
  if (no_punct && asian_support) text = without(text, is_asian_punctuation);
  return with_single_spaces(text);
}

}  // namespace exactmamba::eval
