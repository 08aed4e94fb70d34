#include "data/byte_tokenizer.h"

#include "core/error.h"
#include "core/utf8.h"
#include "data/token_label.h"

namespace exactmamba::data {

std::vector<int64_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  ids.reserve(text.size());
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

Encoding ByteTokenizer::encode_with_offsets(std::string_view text) const {
  core::require_utf8(text);
  Encoding encoding{encode(text), {}};
  int64_t character = 0;
  for (size_t at = 0; at < text.size(); ++character) {
    const size_t length = core::utf8_length(text[at]);
    encoding.offsets.insert(encoding.offsets.end(), length, {character, character + 1});
    at += length;
  }
  return encoding;
}

std::string ByteTokenizer::decode(const std::vector<int64_t>& ids, SpecialTokens) const {
  std::string text;
  for (const int64_t id : ids) {
    core::require(id >= 0 && id < vocab_size(), "token id {} is outside the byte vocabulary of {} ids", id,
                  vocab_size());
    if (id != kEndOfDocument) text.push_back(static_cast<char>(id));
  }
  return text;
}

std::string ByteTokenizer::token_text(int64_t id) const {
  if (id < 0 || id >= vocab_size()) return "";
  if (id == kEndOfDocument) return "<eos>";
  return token_label(std::string(1, static_cast<char>(id)));
}

}  // namespace exactmamba::data
