#include "data/tokenizers/unicode_classes.h"

#include <gtest/gtest.h>

#include "core/json.h"
#include "tests/support/tensors.h"

namespace exactmamba::data {
namespace {

TEST(UnicodeClasses, EveryCodePointIsInItsClass) {
  const core::Json ranges = core::read_json(testing::golden("tokenizers/unicode_classes.json"));
  std::vector<CharacterClass> expected(0x110000, CharacterClass::kOther);
  for (const auto& [name, character_class] : {std::pair{"L", CharacterClass::kLetter},
                                              {"N", CharacterClass::kNumber},
                                              {"S", CharacterClass::kSpace}}) {
    for (const core::Json& range : ranges[name])
      for (size_t c = range[0].get<size_t>(); c <= range[1].get<size_t>(); ++c) expected[c] = character_class;
  }
  for (size_t c = 0; c < expected.size(); ++c)
    ASSERT_EQ(character_class(static_cast<char32_t>(c)), expected[c]) << c;
}

}  // namespace
}  // namespace exactmamba::data
