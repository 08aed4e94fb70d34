#include "data/tokenizers/nfc.h"

#include <algorithm>
#include <bitset>
#include <memory>
#include <optional>
#include <utf8proc.h>

#include "core/utf8.h"
#include "data/tokenizers/unicode_classes.h"

namespace exactmamba::data {
namespace {

constexpr char32_t kHangulVowels = 0x1160, kHangulEnd = 0x1200;  // jamo that compose with what is before them

/// The one composition that is newer than the library's tables: U+11935 U+11930.
constexpr char32_t kNewerFirst = 0x11935, kNewerSecond = 0x11930, kNewerComposed = 0x11938;

/// Marks of Unicode 10 to 15, which the library does not put in order (measured: pairs with marks of all
/// classes).
constexpr std::pair<char32_t, char32_t> kNewerMarks[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47},
    {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
    {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF},
    {0x1E4EC, 0x1E4EF}};

int combining_class(char32_t c) {
  const auto* newer = std::find_if(std::begin(kNewerMarks), std::end(kNewerMarks),
                                   [c](const auto& range) { return c >= range.first && c <= range.second; });
  if (newer != std::end(kNewerMarks)) return 0;
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
}

/// A character on its way through the normalisation: `change` is 1 for one that came out of another without
/// taking its place, −n for one that swallowed n others.
struct Unit {
  char32_t code_point;
  int change;
};

void decompose(char32_t c, std::vector<Unit>& units) {
  utf8proc_int32_t parts[8];  // no character has so many
  int boundary = 0;
  const utf8proc_ssize_t count =
      c == kNewerComposed ? 0
                          : utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, std::size(parts),
                                                    UTF8PROC_DECOMPOSE, &boundary);
  if (count <= 0) return units.push_back({c, 0});
  for (utf8proc_ssize_t i = 0; i < count; ++i)
    units.push_back({static_cast<char32_t>(parts[i]), i > 0 ? 1 : 0});
}

std::optional<char32_t> compose(char32_t first, char32_t second) {
  if (first == kNewerFirst && second == kNewerSecond) return std::nullopt;
  utf8proc_int32_t pair[] = {static_cast<utf8proc_int32_t>(first), static_cast<utf8proc_int32_t>(second)};
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  if (utf8proc_normalize_utf32(pair, 2, options) != 1) return std::nullopt;
  return static_cast<char32_t>(pair[0]);
}

void sort_marks(std::vector<Unit>& units) {
  const auto is_mark = [](const Unit& unit) { return combining_class(unit.code_point) != 0; };
  for (auto begin = units.begin(); begin != units.end();) {
    begin = std::find_if(begin, units.end(), is_mark);
    const auto end = std::find_if_not(begin, units.end(), is_mark);
    std::stable_sort(begin, end, [](const Unit& a, const Unit& b) {
      return combining_class(a.code_point) < combining_class(b.code_point);
    });
    begin = end;
  }
}

/// Unicode's canonical composition (section 3.11, D117).
std::vector<Unit> composed(const std::vector<Unit>& units) {
  std::vector<Unit> result;
  constexpr int kNone = -1;
  size_t starter = units.size();  // in `result`; none yet
  int last_class = kNone;         // of the marks since the starter
  for (const Unit& unit : units) {
    const int own_class = combining_class(unit.code_point);
    if (starter < result.size() && last_class < own_class) {
      Unit& first = result[starter];
      if (const auto both = compose(first.code_point, unit.code_point)) {
        first = {*both, first.change + unit.change - 1};
        continue;
      }
    }
    if (own_class == 0) starter = result.size();
    last_class = own_class == 0 ? kNone : own_class;
    result.push_back(unit);
  }
  return result;
}

std::vector<Unit> normalised(const char32_t* begin, const char32_t* end) {
  std::vector<Unit> units;
  for (; begin != end; ++begin) decompose(*begin, units);
  sort_marks(units);
  return composed(units);
}

/// May this character change, or change with what is before it?
bool is_active(char32_t c) {
  const utf8proc_property_t& property = *utf8proc_get_property(static_cast<utf8proc_int32_t>(c));
  const bool mark = property.category == UTF8PROC_CATEGORY_MN || property.category == UTF8PROC_CATEGORY_MC;
  if (mark || property.combining_class != 0 || (c >= kHangulVowels && c < kHangulEnd)) return true;
  if (property.decomp_seqindex == UINT16_MAX) return false;
  const std::vector<Unit> alone = normalised(&c, &c + 1);
  return alone.size() != 1 || alone[0].code_point != c;
}

bool is_known_active(char32_t c) {
  static const std::unique_ptr<const std::bitset<kCodePoints>> active = [] {
    auto all = std::make_unique<std::bitset<kCodePoints>>();
    for (size_t each = 0; each < kCodePoints; ++each) (*all)[each] = is_active(static_cast<char32_t>(each));
    return all;
  }();
  return (*active)[c];
}

void append(const std::vector<Unit>& units, size_t origin, std::string& text,
            std::vector<uint32_t>* origins) {
  for (const Unit& unit : units) {
    core::append_utf8(text, unit.code_point);
    const bool inserted = unit.change > 0;
    if (origins != nullptr)
      origins->push_back(static_cast<uint32_t>(inserted && origin > 0 ? origin - 1 : origin));
    if (!inserted) origin += static_cast<size_t>(1 - unit.change);
  }
}

}  // namespace

bool is_surely_nfc(std::string_view text) {
  for (size_t at = core::find_beyond_ascii(text, 0); at < text.size(); at = core::find_beyond_ascii(text, at))
    if (is_known_active(core::next_code_point(text, at))) return false;
  return true;
}

std::string nfc(std::string_view text, std::vector<uint32_t>* origins) {
  std::vector<char32_t> all;
  for (size_t at = 0; at < text.size();) all.push_back(core::next_code_point(text, at));
  std::string result;
  for (size_t begin = 0, end = 0; begin < all.size(); begin = end) {
    do ++end;
    while (end < all.size() && is_known_active(all[end]));
    const bool alone = end == begin + 1 && !is_known_active(all[begin]);
    append(alone ? std::vector<Unit>{{all[begin], 0}} : normalised(&all[begin], &all[begin] + (end - begin)),
           begin, result, origins);
  }
  return result;
}

}  // namespace exactmamba::data
