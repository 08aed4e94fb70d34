// SentencePiece models (Kudo & Richardson 2018), by their own library.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace exactmamba::data {

/// As which a model's folder carries one.
inline constexpr const char* kSentencePieceFile = "tokenizer.model";

/// By its ending: .model or .spm.
bool is_sentencepiece(const std::filesystem::path& file);

class SentencePieceTokenizer final : public Tokenizer {
 public:
  /// @throws IoError; InputError when `file` is no SentencePiece model
  explicit SentencePieceTokenizer(const std::filesystem::path& file);
  ~SentencePieceTokenizer() override;

  std::string name() const override { return name_; }  // by content
  std::vector<int64_t> encode(std::string_view text) const override;
  Encoding encode_with_offsets(std::string_view text) const override;
  using Tokenizer::decode;
  std::string decode(const std::vector<int64_t>& ids, SpecialTokens special) const override;
  std::string token_text(int64_t id) const override;  // the piece, "▁" before a word
  int64_t vocab_size() const override;
  int64_t eos_id() const override;

  /// As XLM-RoBERTa numbers the pieces: <s> 0, <pad> 1, </s> 2, unknown 3, the others their own id + 1,
  /// <mask> behind them; of the text at most `most_ids` − 2, between <s> and </s>. Special tokens written out
  /// in the text are special tokens and white space at the end is none, as transformers' fast tokenizer has
  /// it.
  std::vector<int64_t> xlmr_ids(std::string_view text, size_t most_ids = 512) const;

 private:
  std::string name_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
};

}  // namespace exactmamba::data
