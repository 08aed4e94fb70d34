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

TEST(Utf8, CountsAndCutsWholeCharacters) {
  EXPECT_EQ(count_characters(""), 0u);
  EXPECT_EQ(count_characters("a· ü€😀"), 6u);
  EXPECT_EQ(first_characters("ü€😀x", 2), "ü€");
  EXPECT_EQ(first_characters("ü€", 2), "ü€");
  EXPECT_EQ(first_characters("ü€", 0), "");
}

}  // namespace
}  // namespace exactmamba::core
