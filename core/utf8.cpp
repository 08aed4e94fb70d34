#include "core/utf8.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

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

/// How many bytes of `rest` (not empty) fit `form`: all of 1 + form.following where a character begins.
size_t fitting_bytes(std::string_view rest, const Form& form) {
  if (form.following < 0) return 0;
  const size_t wanted = std::min(rest.size(), size_t{1} + static_cast<size_t>(form.following));
  size_t k = 1;
  for (; k < wanted; ++k) {
    const auto byte = static_cast<unsigned char>(rest[k]);
    if (byte < (k == 1 ? form.low : 0x80) || byte > (k == 1 ? form.high : 0xBF)) break;
  }
  return k;
}

/// The first place from `at` on where no character begins, with how many bytes would have fitted.
struct Invalid {
  size_t at, fitting;
};
std::optional<Invalid> find_invalid(std::string_view text, size_t at) {
  while ((at = find_beyond_ascii(text, at)) < text.size()) {
    const Form form = form_of(static_cast<unsigned char>(text[at]));
    const size_t fitting = fitting_bytes(text.substr(at), form);
    if (fitting != static_cast<size_t>(form.following + 1) || fitting == 0) return Invalid{at, fitting};
    at += fitting;
  }
  return std::nullopt;
}

}  // namespace

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  const std::optional<Invalid> invalid = find_invalid(text, 0);
  return invalid ? std::optional(invalid->at) : std::nullopt;
}

void require_utf8(std::string_view text) {
  const std::optional<Invalid> invalid = find_invalid(text, 0);
  if (!invalid) return;
  throw InputError(fmt::format("byte {} of the text is 0x{:02x}: this is not UTF-8", invalid->at,
                               static_cast<unsigned char>(text[invalid->at])));
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string valid;
  size_t begin = 0;
  while (const std::optional<Invalid> invalid = find_invalid(text, begin)) {
    valid.append(text.substr(begin, invalid->at - begin)).append("\uFFFD");
    begin = invalid->at + std::max<size_t>(1, invalid->fitting);
  }
  return valid.append(text.substr(begin));
}

size_t find_beyond_ascii(std::string_view text, size_t at) {
  for (uint64_t eight = 0; at + sizeof eight <= text.size(); at += sizeof eight) {
    std::memcpy(&eight, text.data() + at, sizeof eight);
    if ((eight & 0x8080808080808080u) != 0) break;
  }
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
  return at;
}

size_t unfinished_bytes(std::string_view text) {
  for (size_t size = 1; size <= std::min<size_t>(3, text.size()); ++size) {
    const std::string_view rest = text.substr(text.size() - size);
    if (!starts_character(rest.front())) continue;
    const Form form = form_of(static_cast<unsigned char>(rest.front()));
    const bool unfinished = form.following >= static_cast<int>(size) && fitting_bytes(rest, form) == size;
    return unfinished ? size : 0;
  }
  return 0;
}

char32_t next_code_point(std::string_view text, size_t& at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const size_t length = utf8_length(text[at]);
  char32_t code_point = length == 1 ? lead : lead & (0x7Fu >> length);
  for (size_t k = 1; k < length; ++k)
    code_point = (code_point << 6) | (static_cast<unsigned char>(text[at + k]) & 0x3F);
  at += length;
  return code_point;
}

void append_utf8(std::string& text, char32_t code_point) {
  const auto continuation = [&](int shift) {
    text.push_back(static_cast<char>(0x80 | ((code_point >> shift) & 0x3F)));
  };
  if (code_point < 0x80) {
    text.push_back(static_cast<char>(code_point));
  } else if (code_point < 0x800) {
    text.push_back(static_cast<char>(0xC0 | (code_point >> 6)));
    continuation(0);
  } else if (code_point < 0x10000) {
    text.push_back(static_cast<char>(0xE0 | (code_point >> 12)));
    continuation(6);
    continuation(0);
  } else {
    text.push_back(static_cast<char>(0xF0 | (code_point >> 18)));
    continuation(12);
    continuation(6);
    continuation(0);
  }
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
