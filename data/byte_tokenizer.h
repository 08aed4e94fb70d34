// The tokens are the 256 bytes, and 256 = end of document.
#pragma once

#include "data/tokenizer.h"

namespace exactmamba::data {

class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr int64_t kEndOfDocument = 256;

  std::string name() const override { return "byte"; }
  std::vector<int64_t> encode(std::string_view text) const override;
  Encoding encode_with_offsets(std::string_view text) const override;
  /// The bytes as they are: generated ones need not be valid UTF-8. The end of a document has no sign.
  using Tokenizer::decode;
  std::string decode(const std::vector<int64_t>& ids, SpecialTokens special) const override;
  /// Printable ASCII as it is, otherwise "␣", "\n", "\t", "<0xE9>", "<eos>".
  std::string token_text(int64_t id) const override;
  int64_t text_bytes(int64_t id) const override { return id >= 0 && id < kEndOfDocument ? 1 : 0; }
  int64_t vocab_size() const override { return kEndOfDocument + 1; }
  int64_t eos_id() const override { return kEndOfDocument; }
};

}  // namespace exactmamba::data
