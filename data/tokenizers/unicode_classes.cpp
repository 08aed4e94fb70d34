#include "data/tokenizers/unicode_classes.h"

#include <algorithm>
#include <vector>

namespace exactmamba::data {
namespace {

struct Range {
  char32_t first, last;
  CharacterClass character_class;
};

constexpr Range kRanges[] = {
#include "data/tokenizers/unicode_ranges.inc"
};

std::vector<CharacterClass> table_of_all() {
  std::vector<CharacterClass> table(kCodePoints, CharacterClass::kOther);
  for (const Range& range : kRanges)
    std::fill(table.begin() + range.first, table.begin() + range.last + 1, range.character_class);
  return table;
}

}  // namespace

CharacterClass character_class(char32_t code_point) {
  static const std::vector<CharacterClass> table = table_of_all();
  return table[code_point];
}

}  // namespace exactmamba::data
