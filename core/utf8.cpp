#include "core/utf8.h"

#include <algorithm>

namespace exactmamba::core {
namespace {

bool starts_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }

/// A row of table 3-7: how many bytes follow a lead byte, and the bounds of the first of them.
struct Form {
  int following;
  unsigned char low, high;
};

Form form_of(unsigned char lead) {
  if (lead < 0x80) return {0, 0, 0};
  if (lead < 0xC2) return {-1, 0, 0};
  if (lead < 0xE0) return {1, 0x80, 0xBF};
  if (lead == 0xE0) return {2, 0xA0, 0xBF};
  if (lead == 0xED) return {2, 0x80, 0x9F};
  if (lead < 0xF0) return {2, 0x80, 0xBF};
  if (lead == 0xF0) return {3, 0x90, 0xBF};
  if (lead < 0xF4) return {3, 0x80, 0xBF};
  if (lead == 0xF4) return {3, 0x80, 0x8F};
  return {-1, 0, 0};
}

bool well_formed(std::string_view rest, const Form& form) {
  if (form.following < 0 || rest.size() <= static_cast<size_t>(form.following)) return false;
  for (int k = 1; k <= form.following; ++k) {
    const auto byte = static_cast<unsigned char>(rest[k]);
    if (byte < (k == 1 ? form.low : 0x80) || byte > (k == 1 ? form.high : 0xBF)) return false;
  }
  return true;
}

}  // namespace

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Form form = form_of(static_cast<unsigned char>(text[i]));
    if (!well_formed(text.substr(i), form)) return i;
    i += 1 + static_cast<size_t>(form.following);
  }
  return std::nullopt;
}

size_t count_characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), starts_character));
}

std::string_view first_characters(std::string_view text, size_t count) {
  size_t seen = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (starts_character(text[i]) && seen++ == count) return text.substr(0, i);
  }
  return text;
}

}  // namespace exactmamba::core
