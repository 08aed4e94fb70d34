// The vocabulary of the copy task: 0 '*' pad, 1 '$' start, 2 '|' separator, 3 '.' end, then the letters from
// 4 = 'a'.
#pragma once

#include "data/tokenizer.h"

namespace exactmamba::data {

class CopyTokenizer final : public Tokenizer {
 public:
  static constexpr int64_t kPad = 0, kStart = 1, kSeparator = 2, kEnd = 3, kFirstLetter = 4;
  static constexpr int64_t kMaxAlphabet = 26;

  /// @throws InputError unless 1 ≤ alphabet ≤ 26.
  explicit CopyTokenizer(int64_t alphabet = kMaxAlphabet);

  std::string name() const override;
  std::vector<int64_t> encode(std::string_view text) const override;
  Encoding encode_with_offsets(std::string_view text) const override;
  using Tokenizer::decode;
  std::string decode(const std::vector<int64_t>& ids,
                     SpecialTokens special) const override;  // every token has its sign
  std::string token_text(int64_t id) const override;
  int64_t vocab_size() const override { return static_cast<int64_t>(signs_.size()); }
  int64_t eos_id() const override { return kEnd; }

 private:
  std::string signs_;  // [id]
};

}  // namespace exactmamba::data
