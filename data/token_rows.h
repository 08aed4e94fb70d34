// Examples tokenised elsewhere: JSON lines with `input_ids` and, if wanted, `labels` of the same length.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/example_rows.h"

namespace exactmamba::data {

/// Of `list`, the value of `key`. @throws InputError ("where: …") unless it is a list of integers
std::vector<int64_t> token_ids_of(const core::Json& list, const std::string& key, const std::string& where);

/// What TokenRows refuses in `files`, without keeping what they hold. @throws as TokenRows
void check_examples(const std::vector<std::filesystem::path>& files, int64_t vocab_size, int64_t context);

/// Lines {"input_ids": […], "labels": […]}, or "ids" as exactmamba tokenize writes them.
/// `labels` are aligned with `input_ids` as in transformers, that is NOT shifted: labels[i] is what to
/// predict for position i, -100 for nothing. We shift: the target at position i is labels[i + 1], and the
/// last position has none. Without `labels` the ids are the labels. Examples keep the file order; each is a
/// sequence of its own and is never cut.
class TokenRows final : public Dataset {
 public:
  /// @throws IoError, InputError ("file:line: …") for malformed lines, ids outside the vocabulary, examples
  /// longer than `context` or without any target; InputError when there is no example.
  TokenRows(const std::vector<std::filesystem::path>& files, int64_t vocab_size, int64_t context,
            RowLayout layout);

  std::string name() const override { return name_; }
  int64_t size() const override { return rows_.size(); }
  Row row(int64_t index) const override { return rows_.row(index, name_); }
  int64_t vocab_size() const override { return rows_.vocab_size(); }
  std::string token_text(int64_t id) const override { return std::to_string(id); }
  std::string fingerprint() const override;

 private:
  std::string name_;
  ExampleRows rows_;
};

}  // namespace exactmamba::data
