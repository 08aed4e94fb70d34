#include "data/tokenizers/nfc.h"

#include <gtest/gtest.h>

#include "core/json.h"
#include "core/utf8.h"
#include "tests/support/tensors.h"

namespace exactmamba::data {
namespace {

using core::Json;
using testing::golden;

TEST(Nfc, IsThatOfTheTokenizersLibrary) {
  const Json document = core::read_json(golden("tokenizers/nfc.json"));
  EXPECT_GE(document["cases"].size(), 2000u);
  for (const char* list : {"cases", "differs_from_newer_unicode"}) {
    for (const Json& pair : document[list]) {
      const auto text = pair[0].get<std::string>(), expected = pair[1].get<std::string>();
      EXPECT_EQ(nfc(text), expected) << pair.dump();
      EXPECT_EQ(nfc("1" + text + "1"), "1" + expected + "1") << pair.dump();
      EXPECT_TRUE(!is_surely_nfc(text) || text == expected) << pair.dump();
    }
  }
}

TEST(Nfc, LeavesWhatIsInThatFormAlone) {
  for (const std::string text : {"", "plain", "é ü Ω 中文 한국어 “quoted” – 😀"}) {
    EXPECT_TRUE(is_surely_nfc(text)) << text;
    EXPECT_EQ(nfc(text), text);
  }
  EXPECT_EQ(nfc("\U00011938"), "\U00011938");
  EXPECT_FALSE(is_surely_nfc("e\u0301"));
  EXPECT_FALSE(is_surely_nfc("\u212B"));  // Ångström sign
}

TEST(Nfc, MarksOfNewerUnicodeKeepTheirPlace) {
  EXPECT_EQ(nfc("x\u0301\u0323"), "x\u0323\u0301");  // 220 goes before 230
  EXPECT_EQ(nfc("x\u0301\u1DF9"),
            "x\u0301\u1DF9");  // 220 too, of Unicode 10: measured with tokenizers 0.23.3
  EXPECT_EQ(nfc("x\u0345\u1DF5"), "x\u1DF5\u0345");  // 230, of Unicode 9
}

TEST(Nfc, SaysWhereCharactersComeFrom) {
  const auto origins = [](const std::string& text) {
    std::vector<uint32_t> of;
    const std::string result = nfc(text, &of);
    EXPECT_EQ(of.size(), core::count_characters(result));
    return of;
  };
  using Origins = std::vector<uint32_t>;
  EXPECT_EQ(origins("ab"), (Origins{0, 1}));
  EXPECT_EQ(origins("ae\u0301b"), (Origins{0, 1, 3}));         // é is at 1
  EXPECT_EQ(origins("\u0958x"), (Origins{0, 0, 1}));           // क + ़ stay apart
  EXPECT_EQ(origins("\u1100\u1161\u11A8x"), (Origins{0, 3}));  // one syllable of three
}

}  // namespace
}  // namespace exactmamba::data
