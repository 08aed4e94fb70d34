// Language modelling: documents tokenised, each followed by the end-of-document token, concatenated and cut
// into rows.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/token_corpus.h"
#include "data/tokenizer.h"

namespace exactmamba::data {

/// Rows of `context` tokens, the last one possibly shorter; sequences begin where documents do, and at the
/// start of a row. The target is the next token, also across the end of a row; the end-of-document token has
/// no target. Empty documents are skipped.
class PackedText final : public Dataset {
 public:
  /// Reads all files; `cache`: as TokenCorpus.
  /// @throws as TokenCorpus; InputError when context < 2.
  PackedText(const TextSource& source, std::shared_ptr<const Tokenizer> tokenizer, int64_t context,
             const std::filesystem::path& cache = {});

  std::string name() const override { return name_; }
  int64_t size() const override;
  Row row(int64_t index) const override;
  int64_t vocab_size() const override { return tokenizer_->vocab_size(); }
  std::string token_text(int64_t id) const override { return tokenizer_->token_text(id); }
  int64_t text_bytes(int64_t id) const { return tokenizer_->text_bytes(id); }
  std::string fingerprint() const override;  // of the tokens, not of the files that hold them

  int64_t token_count() const { return tokens_.size(); }
  int64_t document_count() const { return static_cast<int64_t>(tokens_.document_begins().size()); }

 private:
  std::string name_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  int64_t context_;
  TokenCorpus tokens_;
};

}  // namespace exactmamba::data
