// Characters beyond ASCII: TOML 1.0 allows them in strings and comments alone, so the expectations are its
// rules.
#include "core/toml.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace exactmamba::core {
namespace {

/// Letters, signs and whitespace, in the ranges that a parser may tell apart.
const std::string kCharacters[] = {"\u00a0", "\u00a7", "\u00e9", "\u0416", "\u1680",
                                   "\u2003", "\u2028", "\u20ac", "\u2e80", "\u3000",
                                   "\u3042", "\ufb26", "\ufefe", "\ufeff", "\U0001f40d"};

std::string refusal(const std::string& text) {
  try {
    parse_toml(text, "r.toml");
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

std::string text_of(const std::string& toml) { return parse_toml(toml, "r.toml").find("x")->text; }

class BeyondAscii : public ::testing::TestWithParam<std::string> {};

TEST_P(BeyondAscii, IsRefusedOutsideOfStringsAndComments) {
  const std::string c = GetParam();
  const std::pair<std::string, std::string> cases[] = {{"a = 1\n" + c + " = 2", "r.toml:2:1: "},
                                                       {"a" + c + " = 2", "r.toml:1:2: "},
                                                       {"a = " + c, "r.toml:1:5: "},
                                                       {"a = 1" + c, "r.toml:1:6: "},
                                                       {"a = [1, " + c + "]", "r.toml:1:9: "},
                                                       {"[" + c + "]", "r.toml:1:2: "},
                                                       {"a = 1 " + c + "# b", "r.toml:1:7: "},
                                                       {"a =" + c + "1", "r.toml:1:4: "}};
  for (const auto& [text, place] : cases) EXPECT_EQ(refusal(text).rfind(place, 0), 0u) << refusal(text);
}

TEST_P(BeyondAscii, IsKeptInStringsAndSkippedInComments) {
  const std::string c = GetParam();
  EXPECT_EQ(text_of("x = \"" + c + "\" # " + c), c);
  EXPECT_EQ(text_of("x = '" + c + "'"), c);
  EXPECT_EQ(text_of("x = '''\n" + c + "'''"), c);
  EXPECT_EQ(text_of("x = \"\"\"a " + c + "\n" + c + "\"\"\""), "a " + c + "\n" + c);
  EXPECT_EQ(parse_toml("\"" + c + "\" = 1", "r.toml").members.at(0).key, c);
}

INSTANTIATE_TEST_SUITE_P(Toml, BeyondAscii, ::testing::ValuesIn(kCharacters));

TEST(Toml, KeepsALetterAfterALineEndingBackslash) {
  for (const std::string c : {"\u00a7", "\u00e9", "\u0416", "\u2e80", "\u3042", "\ufb26", "\U0001f40d"})
    EXPECT_EQ(text_of("x = \"\"\"a \\\n  " + c + "\"\"\""), "a " + c);
}

TEST(Toml, RefusesATableWithoutAName) {
  for (const std::string header : {"[*]", "[=]", "[[*]]", "[]", "[a.*]"})
    EXPECT_EQ(refusal(header).rfind("r.toml:1:", 0), 0u) << header << ' ' << refusal(header);
}

TEST(Toml, TakesALetterBeyondAsciiAsTheStartOfABareWord) {
  EXPECT_EQ(parse_toml_value("\u00fcber").text, "\u00fcber");
}

}  // namespace
}  // namespace exactmamba::core
