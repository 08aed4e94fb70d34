#include "core/utf8.h"

#include <string>

#include <gtest/gtest.h>

#include "core/json.h"

namespace exactmamba::core {
namespace {

/// What nlohmann-json, an implementation of its own, says.
bool valid_elsewhere(const std::string& text) {
  try {
    (void)Json(text).dump();
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

TEST(Utf8, AgreesWithTheJsonLibraryOnAllLeadAndSecondBytes) {
  for (int lead = 0; lead < 256; ++lead) {
    for (int second = 0; second < 256; ++second) {
      for (const std::string tail : {"", "\x80", "\xBF\x80", "\x7F", "\x80\xC0"}) {
        const std::string text = std::string{static_cast<char>(lead), static_cast<char>(second)} + tail;
        ASSERT_EQ(!find_invalid_utf8(text).has_value(), valid_elsewhere(text))
            << lead << " " << second << " + " << tail.size();
      }
    }
  }
}

TEST(Utf8, NamesTheFirstWrongByte) {
  EXPECT_EQ(find_invalid_utf8(""), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("aé中😀"), std::nullopt);
  EXPECT_EQ(find_invalid_utf8(std::string("a\0b", 3)), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("aé\xE9 b"), 3u);
  EXPECT_EQ(find_invalid_utf8("ab\xE4\xB8"), 2u);         // cut short
  EXPECT_EQ(find_invalid_utf8("\xED\xA0\x80"), 0u);       // surrogate
  EXPECT_EQ(find_invalid_utf8("x\xF4\x90\x80\x80"), 1u);  // above U+10FFFF
  EXPECT_EQ(find_invalid_utf8("\xC0\x80"), 0u);           // overlong
}

TEST(Utf8, ReplacesMaximalParts) {  // as Python's bytes.decode("utf-8", "replace")
  EXPECT_EQ(replace_invalid_utf8("a\u00e9"), "a\u00e9");
  EXPECT_EQ(replace_invalid_utf8("\xC3"), "\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xE7\x9A"
                                 "a"),
            "\uFFFDa");
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xF0\x80\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xE7\xE7\x9A\x84"), "\uFFFD\u7684");
  EXPECT_EQ(replace_invalid_utf8("x\xF0\x9F\x98"), "x\uFFFD");
}

TEST(Utf8, KnowsAnUnfinishedCharacter) {
  const std::string whole = "\u00e9\u7684\U0001F600";
  const size_t unfinished[] = {0, 1, 0, 1, 2, 0, 1, 2, 3, 0};  // [bytes of whole]
  for (size_t size = 0; size <= whole.size(); ++size)
    EXPECT_EQ(unfinished_bytes(std::string_view(whole).substr(0, size)), unfinished[size]) << size;
  EXPECT_EQ(unfinished_bytes("\xF4\x90"), 0u);  // nothing can make it whole
  EXPECT_EQ(unfinished_bytes("a\x80\x80\x80\x80"), 0u);
}

TEST(Utf8, ReadsAndWritesCodePoints) {
  for (const char32_t code_point :
       {0x0u, 0x7Fu, 0x80u, 0x7FFu, 0x800u, 0xD7FFu, 0xFFFFu, 0x10000u, 0x10FFFFu}) {
    std::string text;
    append_utf8(text, code_point);
    EXPECT_EQ(find_invalid_utf8(text), std::nullopt);
    EXPECT_EQ(utf8_length(text[0]), text.size());
    size_t at = 0;
    EXPECT_EQ(next_code_point(text, at), code_point);
    EXPECT_EQ(at, text.size());
  }
  EXPECT_EQ(find_beyond_ascii("0123456789ab\u00e9", 0), 12u);
  EXPECT_EQ(find_beyond_ascii("0123456789", 3), 10u);
}

TEST(Utf8, CountsAndCutsWholeCharacters) {
  EXPECT_EQ(count_characters(""), 0u);
  EXPECT_EQ(count_characters("a· ü€😀"), 6u);
  EXPECT_EQ(first_characters("ü€😀x", 2), "ü€");
  EXPECT_EQ(first_characters("ü€", 2), "ü€");
  EXPECT_EQ(first_characters("ü€", 0), "");
}

}  // namespace
}  // namespace exactmamba::core
