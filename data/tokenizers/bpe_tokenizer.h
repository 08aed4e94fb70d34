// Byte-level BPE as a tokenizer.json says: equal to Hugging Face's tokenizers 0.23 in ids, offsets and
// decoded text.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "data/tokenizers/added_tokens.h"
#include "data/tokenizers/word_encoder.h"

namespace exactmamba::data {

class BpeTokenizer final : public Tokenizer {
 public:
  /// `end_of_document`: the token of eos_id(); "": the first added one of <|endoftext|>, </s>, <eos>, [EOS].
  explicit BpeTokenizer(BpeSpec spec, const std::string& end_of_document = "");

  /// A tokenizer.json, or the folder that has it; a tokenizer_config.json beside it names the end of a
  /// document.
  /// @throws IoError, InputError, as read_bpe_spec
  static std::shared_ptr<const BpeTokenizer> load(const std::filesystem::path& path);

  std::string name() const override { return name_; }  // by content
  std::vector<int64_t> encode(std::string_view text) const override;
  Encoding encode_with_offsets(std::string_view text) const override;
  using Tokenizer::decode;
  /// Ids from vocab_size() up (a model's vocabulary may be padded) give nothing; bytes that are no UTF-8
  /// become U+FFFD.
  /// @throws InputError for negative ids
  std::string decode(const std::vector<int64_t>& ids, SpecialTokens special) const override;
  std::string token_text(int64_t id) const override;
  int64_t text_bytes(int64_t id) const override {
    return static_cast<int64_t>(token_bytes(id, SpecialTokens::kSkip).size());
  }
  int64_t vocab_size() const override { return static_cast<int64_t>(tokens_.size()); }
  int64_t eos_id() const override;

 private:
  struct Token {
    std::string text,
        bytes;  // as the file writes it, and what it stands for; both "" for an id without token
    bool special = false;
  };
  class Run;
  class Borrowed;
  /// As they are, possibly part of a character. @throws as decode
  std::string token_bytes(int64_t id, SpecialTokens special) const;
  void trim(Encoding& encoding) const;

  BpeSpec spec_;  // without vocabulary and merges
  std::string name_;
  std::vector<Token> tokens_;  // [id]
  std::optional<int64_t> eos_id_;
  AddedTokens raw_, normalized_;  // found before and after the normalisation
  BpeModel model_;
  WordPattern pattern_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<WordEncoder>> idle_;  // guarded by mutex_
};

inline constexpr const char *kTokenizerFile = "tokenizer.json",
                            *kTokenizerConfigFile = "tokenizer_config.json";

/// `path`, or the tokenizer.json in it if it is a folder.
std::filesystem::path tokenizer_file(const std::filesystem::path& path);

/// A special token by its role ("eos_token") in a tokenizer_config.json; "" when it has none or is not there.
/// @throws InputError when it is no string
std::string configured_token(const std::filesystem::path& tokenizer_config, const std::string& role);

}  // namespace exactmamba::data
