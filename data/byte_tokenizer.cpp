#include "data/byte_tokenizer.h"

#include "core/error.h"

namespace exactmamba::data {

std::vector<int64_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  ids.reserve(text.size());
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

std::string ByteTokenizer::decode(const std::vector<int64_t>& ids) const {
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
  if (id == ' ') return "␣";
  if (id == '\n') return "\\n";
  if (id == '\t') return "\\t";
  if (id > ' ' && id < 0x7f) return std::string(1, static_cast<char>(id));
  return fmt::format("<0x{:02X}>", id);
}

}  // namespace exactmamba::data
