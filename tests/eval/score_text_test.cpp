// Characters and tokenizers against those of sacreBLEU's libraries (golden/metrics).
#include <gtest/gtest.h>

#include "core/json.h"
#include "eval/text/characters.h"
#include "eval/text/score_tokenizers.h"
#include "tests/support/golden_json.h"

namespace exactmamba::eval {
namespace {

using core::Json;

constexpr char32_t kEnd = 0x110000;

bool is_surrogate(char32_t c) { return c >= 0xD800 && c < 0xE000; }

TEST(ScoreCharacters, ClassesOfEveryCodePoint) {
  const Json golden = core::read_json(testing::golden("metrics/unicode.json"));
  const std::pair<const char*, bool (*)(char32_t)> classes[] = {
      {"P", is_punctuation}, {"S", is_symbol}, {"N", is_number}, {"split_white_space", is_white_space}};
  for (const auto& [name, is_member] : classes) {
    std::vector<bool> expected(kEnd, false);
    for (const Json& range : golden[name])
      for (char32_t c = range[0].get<uint32_t>(); c <= range[1].get<uint32_t>(); ++c) expected[c] = true;
    for (char32_t c = 0; c < kEnd; ++c)
      ASSERT_TRUE(is_surrogate(c) || is_member(c) == expected[c]) << name << " " << static_cast<uint32_t>(c);
  }
}

TEST(ScoreCharacters, LowerCaseOfEveryCodePoint) {
  const Json golden = core::read_json(testing::golden("metrics/unicode.json"));
  size_t next = 0;
  for (char32_t c = 0; c < kEnd; ++c) {
    if (is_surrogate(c)) continue;
    const bool changes = next < golden["lower"].size() && golden["lower"][next][0].get<uint32_t>() == c;
    const std::string expected =
        changes ? golden["lower"][next++][1].get<std::string>() : utf8_of(std::u32string(1, c));
    ASSERT_EQ(utf8_of(lower_case(std::u32string(1, c))), expected) << static_cast<uint32_t>(c);
  }
}

TEST(ScoreCharacters, SigmaAtTheEndOfAWord) {  // expected: Python 3.11's str.lower
  for (const auto& [text, expected] : {std::pair<const char*, const char*>{"ΑΣ", "ας"},
                                       {"ΑΣ Σ ΣΑΣ.", "ας σ σας."},
                                       {"Σ", "σ"},
                                       {"ΑΣ'Α", "ασ'α"},
                                       {"ΑΣ'", "ας'"},
                                       {"Α.Σ", "α.ς"},
                                       {"ΑΣ\u0301", "ας\u0301"},
                                       {"1Σ", "1σ"},
                                       {"ΑΣ1", "ας1"},
                                       {"ΑΣΣ", "ασς"}})
    EXPECT_EQ(utf8_of(lower_case(code_points(text))), expected) << text;
}

TEST(ScoreTokenizers, GoldenTexts) {
  const Json cases = testing::golden_json("metrics/tokenised.json")["cases"];
  ASSERT_GT(cases.size(), 100u);
  TerTokenizer plain, normalized, all;
  normalized.normalized = true;
  all = {.normalized = true, .no_punct = true, .asian_support = true, .case_sensitive = true};
  for (const Json& row : cases) {
    const std::string text = row["text"].get<std::string>();
    SCOPED_TRACE(row["text"].dump());
    const std::u32string points = code_points(text);
    const std::u32string_view line = without_trailing_space(points);
    for (size_t k = 0; k < kBleuTokenizerNames.size(); ++k)
      EXPECT_EQ(utf8_of(bleu_tokenized(line, static_cast<BleuTokenizer>(k))),
                row[kBleuTokenizerNames[k]].get<std::string>())
          << kBleuTokenizerNames[k];
    EXPECT_EQ(utf8_of(plain(line)), row["ter"].get<std::string>());
    EXPECT_EQ(utf8_of(normalized(line)), row["ter_normalized"].get<std::string>());
    EXPECT_EQ(utf8_of(all(line)), row["ter_all"].get<std::string>());
  }
}

}  // namespace
}  // namespace exactmamba::eval
