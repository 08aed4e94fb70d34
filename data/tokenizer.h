// Text to token ids and back.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace exactmamba::data {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// Names the mapping; part of the fingerprint of data made with it.
  virtual std::string name() const = 0;
  /// Without special tokens. @throws InputError when a character has no token.
  virtual std::vector<int64_t> encode(std::string_view text) const = 0;
  /// Special tokens vanish where the text has no sign for them. @throws InputError when an id is out of
  /// range.
  virtual std::string decode(const std::vector<int64_t>& ids) const = 0;
  /// A short printable label, valid UTF-8; "" when `id` is out of range.
  virtual std::string token_text(int64_t id) const = 0;
  virtual int64_t vocab_size() const = 0;
  /// Ends a document, and generation.
  virtual int64_t eos_id() const = 0;
};

}  // namespace exactmamba::data
