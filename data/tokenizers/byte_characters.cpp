#include "data/tokenizers/byte_characters.h"

#include <cstdint>

#include "core/utf8.h"

namespace exactmamba::data {
namespace {

constexpr char32_t kFirstOther = 0x100;

bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

std::array<char32_t, 256> make_code_points() {
  std::array<char32_t, 256> code_points{};
  char32_t other = kFirstOther;
  for (int byte = 0; byte < 256; ++byte)
    code_points[byte] = stands_for_itself(byte) ? static_cast<char32_t>(byte) : other++;
  return code_points;
}

const std::array<char32_t, 256> kCharacterOfByte = make_code_points();

constexpr size_t kEndOfCharacters = kFirstOther + 68;  // so many bytes do not stand for themselves

/// [code point]; −1: no byte.
std::array<int16_t, kEndOfCharacters> make_bytes() {
  std::array<int16_t, kEndOfCharacters> bytes;
  bytes.fill(-1);
  for (int byte = 0; byte < 256; ++byte) bytes[kCharacterOfByte[byte]] = static_cast<int16_t>(byte);
  return bytes;
}

}  // namespace

const std::array<std::string, 256>& byte_characters() {
  static const std::array<std::string, 256> characters = [] {
    std::array<std::string, 256> all;
    for (size_t byte = 0; byte < all.size(); ++byte) core::append_utf8(all[byte], kCharacterOfByte[byte]);
    return all;
  }();
  return characters;
}

std::optional<std::string> bytes_of(std::string_view token) {
  static const std::array<int16_t, kEndOfCharacters> byte_of = make_bytes();
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const char32_t code_point = core::next_code_point(token, at);
    if (code_point >= byte_of.size() || byte_of[code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte_of[code_point]));
  }
  return bytes;
}

}  // namespace exactmamba::data
