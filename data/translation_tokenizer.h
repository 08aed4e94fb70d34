// The tokenizer of translation: byte-level BPE with a token between a source and its target and one that ends
// the target. A model's folder carries it: tokenizer.json, and in tokenizer_config.json these two as
// sep_token and eos_token.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizers/bpe_tokenizer.h"

namespace exactmamba::data {

class TranslationTokenizer {
 public:
  /// Tokens that `spec` does not have get the ids behind its last. @throws InputError when the two are one,
  /// one is empty or the token of a byte
  TranslationTokenizer(BpeSpec spec, std::string separator, std::string end);
  /// `name`: byte, a tokenizer.json or the folder that has it. @throws IoError, InputError as read_bpe_spec
  static TranslationTokenizer open(const std::string& name, const std::string& separator,
                                   const std::string& end);
  /// Of a model's folder. @throws IoError, InputError, saying what is missing
  static TranslationTokenizer load(const std::filesystem::path& model);

  const std::shared_ptr<const BpeTokenizer>& tokenizer() const { return tokenizer_; }  // [not null]
  int64_t separator() const { return separator_; }
  int64_t end() const { return end_; }

  /// The two special tokens, where they stand in the text, are left out. @throws as BpeTokenizer::encode
  std::vector<int64_t> encode(std::string_view sentence) const;
  /// What a target is generated from: the source and the separator.
  std::vector<int64_t> prompt(std::string_view source) const;
  /// A target in one line: line ends become spaces, special tokens vanish.
  std::string decode(const std::vector<int64_t>& target) const;

  /// What a model's folder carries, by the names of files.
  std::map<std::string, std::string> files() const;

 private:
  BpeSpec spec_;
  std::string separator_text_, end_text_;
  int64_t separator_, end_;
  std::shared_ptr<const BpeTokenizer> tokenizer_;
};

}  // namespace exactmamba::data
