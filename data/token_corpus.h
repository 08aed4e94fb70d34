// Documents as token ids, one after the other, each followed by the token that ends it: encoded by all
// threads, held in memory or in a file that is mapped into it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "data/text_reader.h"
#include "data/tokenizer.h"
#include "data/tolerance.h"

namespace exactmamba::data {

/// Where documents come from: as read_documents.
struct TextSource {
  std::vector<std::filesystem::path> files;  // in this order
  std::string text_key = "text";
  OnInvalidUtf8 on_invalid = OnInvalidUtf8::kFail;
  OnBadRecord on_bad_record = OnBadRecord::kFail;
  LengthLimits lengths = {};  // of documents; others are left out
};

/// Documents that read_wanted() leaves out.
struct UnwantedTexts {
  int64_t empty = 0, unfit = 0;  // unfit: by their length
};

/// Calls `take` with the documents that are wanted. Empty ones are not. @throws as read_documents
UnwantedTexts read_wanted(const TextSource& source, const Tolerance& tolerance, const TakeText& take);

/// @throws InputError, which says what was left out of `source`, unless there is `any` text
void require_text(bool any, const TextSource& source, const LeftOut& left_out, const UnwantedTexts& unwanted);

/// Reads every file as far as its first document, and on until one of them is wanted; a .txt, which is one
/// document, as a whole. @throws as read_documents and require_text
void check_text(const TextSource& source);

class TokenCorpus {
 public:
  /// How many bad records, rows without a text, empty documents and those of other lengths are left out is
  /// said in the log. `cache`: a folder (made when it is not there) for a file named by the
  /// content of the source and the tokenizer, which is written whole or not at all, and found again; of the
  /// processes of a machine that want one at the same time the first makes it, and the others wait. Empty:
  /// memory, 2 bytes an id up to 65,536 of them, else 4. A damaged file is made anew, with a warning.
  /// @throws IoError, InputError ("file:line: …") as read_documents, Tokenizer::encode and require_text
  TokenCorpus(const TextSource& source, const Tokenizer& tokenizer, const std::filesystem::path& cache = {});

  int64_t size() const;  // tokens
  /// Ids begin … end − 1.
  std::vector<int64_t> slice(int64_t begin, int64_t end) const;
  std::span<const int64_t> document_begins() const { return document_begins_; }
  /// Of the ids, where documents begin, and how much was left out.
  const std::string& hash() const { return hash_; }

 private:
  void make_in_memory(const TextSource& source, const Tokenizer& tokenizer);
  void find_or_make_in(const std::filesystem::path& cache, const TextSource& source,
                       const Tokenizer& tokenizer);
  bool open_file(const std::filesystem::path& file);
  bool open(std::string_view bytes);
  void log_left_out(const TextSource& source) const;

  std::shared_ptr<const void> memory_;  // of the following
  std::variant<std::span<const uint16_t>, std::span<const int32_t>> ids_;
  std::span<const int64_t> document_begins_;
  std::string hash_;
  LeftOut left_out_;
  UnwantedTexts unwanted_;
};

}  // namespace exactmamba::data
