// Text to token ids and back.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace exactmamba::data {

/// Characters begin … end − 1 of a text, in code points.
struct Span {
  int64_t begin, end;
  bool operator==(const Span&) const = default;
};

struct Encoding {
  std::vector<int64_t> ids;
  std::vector<Span> offsets;  // of each token; one that holds part of a character covers the whole of it
};

/// Whether decoded text shows tokens such as <|endoftext|>.
enum class SpecialTokens { kKeep, kSkip };

/// May be used by several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// Names the mapping; part of the fingerprint of data made with it.
  virtual std::string name() const = 0;
  /// Without special tokens but those that stand in the text. @throws InputError when a character has no
  /// token; where the tokens are those of text, also ("byte N …") when it is not UTF-8
  virtual std::vector<int64_t> encode(std::string_view text) const = 0;
  /// The same ids, with where they come from. @throws as encode, and for text that is not UTF-8
  virtual Encoding encode_with_offsets(std::string_view text) const = 0;
  /// Special tokens that text has no sign for vanish. @throws InputError when an id is out of range.
  virtual std::string decode(const std::vector<int64_t>& ids, SpecialTokens special) const = 0;
  std::string decode(const std::vector<int64_t>& ids) const { return decode(ids, SpecialTokens::kSkip); }
  /// A short printable label, valid UTF-8; "" when `id` is out of range.
  virtual std::string token_text(int64_t id) const = 0;
  /// Bytes of (normalised) text that a token stands for, 0 for a special one; 0 for all where tokens are not
  /// made of bytes.
  virtual int64_t text_bytes(int64_t /*id*/) const { return 0; }
  virtual int64_t vocab_size() const = 0;
  /// Ends a document, and generation. @throws InputError when the tokenizer has none
  virtual int64_t eos_id() const = 0;
};

}  // namespace exactmamba::data
